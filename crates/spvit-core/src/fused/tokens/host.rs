//! [`TokenOps`] over slices.

use std::mem::MaybeUninit;

use burn::tensor::{TensorMetadata, ops::FloatTensor};
use rayon::prelude::*;

use super::{TokenMap, TokenOps, plain};
use crate::fused::host::{
    HostAccess, dims3, lent,
    sums::{add, column_sums},
    written,
};

/// Tokens that one task moves.
const ROWS: usize = 128;

/// Images `[b, c, h·p, w·p]` as rows `[b, h·w, c·p²]`.
fn rows(images: &[f32], [b, c, h, w]: [usize; 4], p: usize) -> Vec<f32> {
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

/// Patches `[b, n, d]`, prefix `[p, d]`, positions `[p + n, d]` to `[b, p + n, d]`.
fn tokens(patches: &[f32], prefix: &[f32], positions: &[f32]) -> Vec<f32> {
    let before = prefix.len();
    let image = positions.len() - before;
    let count = patches.len() / image * positions.len();
    assert!(patches.len().is_multiple_of(image));
    // SAFETY: both parts of every image are written.
    #[allow(unsafe_code)]
    unsafe {
        written(count, |out| {
            out.par_chunks_mut(positions.len()).zip(patches.par_chunks(image)).for_each(
                |(out, patches)| {
                    let (first, others) = out.split_at_mut(before);
                    add(prefix, &positions[..before], first);
                    add(patches, &positions[before..], others);
                },
            );
        })
    }
}

/// Gradients of [`tokens`] for patches, `prefix` tokens and positions.
fn tokens_backward(grad: &[f32], [b, t, d]: [usize; 3], prefix: usize) -> [Vec<f32>; 3] {
    assert_eq!(grad.len(), b * t * d);
    let positions = column_sums(grad, t * d);
    let before = positions[..prefix * d].to_vec();
    let others = (t - prefix) * d;
    // SAFETY: every image is copied without its first tokens.
    #[allow(unsafe_code)]
    let patches = unsafe {
        written(b * others, |out| {
            out.par_chunks_mut(others.max(1)).zip(grad.par_chunks(t * d)).for_each(
                |(out, grad)| {
                    out.write_copy_of_slice(&grad[prefix * d..]);
                },
            );
        })
    };
    [patches, before, positions]
}

/// x `[b, n, d]` to `[b, m, d]`, tokens copied whole.
fn gather(x: &[f32], [b, n, d]: [usize; 3], map: &TokenMap) -> Vec<f32> {
    assert!(x.len() == b * n * d && n == map.inputs());
    let (sources, m) = (map.sources(), map.outputs());
    // SAFETY: every token of every task is written.
    #[allow(unsafe_code)]
    unsafe {
        written(b * m * d, |out| {
            out.par_chunks_mut((ROWS * d).max(1)).enumerate().for_each(|(task, out)| {
                for (row, out) in (task * ROWS..).zip(out.chunks_exact_mut(d)) {
                    match sources[row % m] {
                        Some(source) => {
                            let at = (row / m * n + source as usize) * d;
                            out.write_copy_of_slice(&x[at..at + d]);
                        }
                        None => out.fill(MaybeUninit::new(0.0)),
                    }
                }
            });
        })
    }
}

impl<B: HostAccess> TokenOps for B {
    fn patch_rows(images: FloatTensor<B>, p: usize) -> FloatTensor<B> {
        let shape = images.shape();
        let [b, c, h, w] = [shape[0], shape[1], shape[2] / p, shape[3] / p];
        lent!(
            (images) => B::own(rows(&images, [b, c, h, w], p), [b, h * w, c * p * p].into()),
            plain::patch_rows::<B>(images, p)
        )
    }

    fn tokens(
        patches: FloatTensor<B>,
        prefix: FloatTensor<B>,
        positions: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let ([b, _, d], t) = (dims3(&patches.shape()), positions.shape()[1]);
        lent!(
            (patches, prefix, positions) => {
                B::own(tokens(&patches, &prefix, &positions), [b, t, d].into())
            },
            plain::tokens::<B>(patches, prefix, positions)
        )
    }

    fn tokens_backward(grad: FloatTensor<B>, prefix: usize) -> [FloatTensor<B>; 3] {
        let [b, t, d] = dims3(&grad.shape());
        lent!(
            (grad) => {
                let [patches, before, positions] = tokens_backward(&grad, [b, t, d], prefix);
                [
                    B::own(patches, [b, t - prefix, d].into()),
                    B::own(before, [1, prefix, d].into()),
                    B::own(positions, [1, t, d].into()),
                ]
            },
            plain::tokens_backward::<B>(grad, prefix)
        )
    }

    fn gather_tokens(x: FloatTensor<B>, map: &TokenMap) -> FloatTensor<B> {
        let [b, n, d] = dims3(&x.shape());
        lent!(
            (x) => B::own(gather(&x, [b, n, d], map), [b, map.outputs(), d].into()),
            plain::gather_tokens::<B>(x, map)
        )
    }
}
