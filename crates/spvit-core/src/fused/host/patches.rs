//! Images cut into patches, and patches made tokens.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::{linear::column_sums, simd::simd_fn, written};

/// Images `[b, c, h·p, w·p]` as rows `[b, h·w, c·p²]`.
pub(crate) fn rows(images: &[f32], [b, c, h, w]: [usize; 4], p: usize) -> Vec<f32> {
    let (width, row) = (w * p, c * p * p);
    let image = c * h * p * width;
    assert_eq!(images.len(), b * image);
    // SAFETY: every patch of every row of patches is written, channel by channel, line by line.
    #[allow(unsafe_code)]
    unsafe {
        written(images.len(), |out| {
            out.par_chunks_mut((w * row).max(1)).enumerate().for_each(|(index, patches)| {
                let (n, y) = (index / h, index % h);
                let image = &images[n * image..(n + 1) * image];
                for (x, patch) in patches.chunks_exact_mut(row).enumerate() {
                    for (line, to) in patch.chunks_exact_mut(p).enumerate() {
                        let (channel, within) = (line / p, line % p);
                        let from = ((channel * h + y) * p + within) * width + x * p;
                        to.write_copy_of_slice(&image[from..from + p]);
                    }
                }
            });
        })
    }
}

simd_fn! {
    fn add(a: &[f32], b: &[f32], out: &mut [MaybeUninit<f32>]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            out.write(a + b);
        }
    }
}

/// Patches `[b, n, d]`, class `[d]`, positions `[1 + n, d]` to `[b, 1 + n, d]`.
pub(crate) fn tokens(patches: &[f32], class: &[f32], positions: &[f32]) -> Vec<f32> {
    let d = class.len();
    let image = positions.len() - d;
    let count = patches.len() / image * positions.len();
    assert!(patches.len().is_multiple_of(image));
    // SAFETY: both parts of every image are written.
    #[allow(unsafe_code)]
    unsafe {
        written(count, |out| {
            out.par_chunks_mut(positions.len()).zip(patches.par_chunks(image)).for_each(
                |(out, patches)| {
                    let (first, others) = out.split_at_mut(d);
                    add(class, &positions[..d], first);
                    add(patches, &positions[d..], others);
                },
            );
        })
    }
}

/// Gradients of [`tokens`] for patches, class and positions.
pub(crate) fn tokens_backward(grad: &[f32], [b, t, d]: [usize; 3]) -> [Vec<f32>; 3] {
    assert_eq!(grad.len(), b * t * d);
    let positions = column_sums(grad, t * d);
    let class = positions[..d].to_vec();
    // SAFETY: every image is copied without its first token.
    #[allow(unsafe_code)]
    let patches = unsafe {
        written(b * (t - 1) * d, |out| {
            out.par_chunks_mut(((t - 1) * d).max(1)).zip(grad.par_chunks(t * d)).for_each(
                |(out, grad)| {
                    out.write_copy_of_slice(&grad[d..]);
                },
            );
        })
    };
    [patches, class, positions]
}
