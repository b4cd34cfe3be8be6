//! Multi-head self-attention on the fused Q, K, V, without splitting or copying heads.

use gemm::Parallelism;
use rayon::prelude::*;

use super::{
    linear::{Strides, product},
    math::exp,
    simd::{max, simd_fn, sum, sum2},
    written,
};

simd_fn! {
    fn softmax_rows(rows: &mut [f32], length: usize) {
        for row in rows.chunks_exact_mut(length) {
            let largest = max(row);
            for x in row.iter_mut() {
                *x = exp(*x - largest);
            }
            let scale = 1.0 / sum(row, |x| x);
            for x in row.iter_mut() {
                *x *= scale;
            }
        }
    }
}

simd_fn! {
    /// Gradient of the scores: `P∘(dP - ⟨dP, P⟩ by rows)·scale`, in place of dP.
    fn softmax_backward_rows(p: &[f32], grad: &mut [f32], length: usize, scale: f32) {
        for (p, g) in p.chunks_exact(length).zip(grad.chunks_exact_mut(length)) {
            let along = sum2(p, g, |p, g| p * g);
            for (g, &p) in g.iter_mut().zip(p) {
                *g = (*g - along) * p * scale;
            }
        }
    }
}

/// A pointer that tasks writing to disjoint places may share.
struct Shared(*mut f32);

// SAFETY: each task writes only to the columns of its own image and head.
#[allow(unsafe_code)]
unsafe impl Send for Shared {}
#[allow(unsafe_code)]
unsafe impl Sync for Shared {}

impl Shared {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// qkv `[b, t, 3·width]` to the output `[b, t, width]` and the probabilities `[b, heads, t, t]`.
pub(crate) fn forward(
    qkv: &[f32],
    [b, t, width]: [usize; 3],
    heads: usize,
) -> (Vec<f32>, Vec<f32>) {
    assert_eq!(qkv.len(), b * t * 3 * width);
    let d = width / heads;
    let scale = (d as f32).sqrt().recip();
    let mut out = Vec::with_capacity(b * t * width);
    let mut probabilities = Vec::with_capacity(b * heads * t * t);
    let shared = Shared(out.as_mut_ptr());
    let wide = Strides { row: 3 * width as isize, column: 1 };
    let across = Strides { row: 1, column: 3 * width as isize };
    let square = Strides { row: t as isize, column: 1 };
    let spare = &mut probabilities.spare_capacity_mut()[..b * heads * t * t];
    spare.par_chunks_mut((t * t).max(1)).enumerate().for_each(|(index, p)| {
        let (image, head) = (index / heads, index % heads);
        let base = image * t * 3 * width + head * d;
        let part = |i: usize| qkv.as_ptr().wrapping_add(base + i * width);
        let out = shared.at(image * t * width + head * d);
        let out_strides = Strides { row: width as isize, column: 1 };
        // SAFETY: Q, K and V of this head lie in `qkv` by the assertion above, `p` holds t·t
        // elements, and no other task writes these columns of `out`.
        #[allow(unsafe_code)]
        unsafe {
            let (q, k, v) = (part(0), part(1), part(2));
            let to = (p.as_mut_ptr().cast(), square);
            product([t, t, d], to, (q, wide), (k, across), false, scale, Parallelism::None);
            // The product has written all of it.
            let p = p.assume_init_mut();
            softmax_rows(p, t);
            let from = (p.as_ptr(), square);
            let to = (out, out_strides);
            product([t, d, t], to, from, (v, wide), false, 1.0, Parallelism::None);
        }
    });
    // SAFETY: every image and head has written its columns of `out` and its square of
    // probabilities, which together are all of both.
    #[allow(unsafe_code)]
    unsafe {
        out.set_len(b * t * width);
        probabilities.set_len(b * heads * t * t);
    }
    (out, probabilities)
}

/// Gradient for qkv, of its shape.
pub(crate) fn backward(
    qkv: &[f32],
    probabilities: &[f32],
    grad: &[f32],
    [b, t, width]: [usize; 3],
    heads: usize,
) -> Vec<f32> {
    assert_eq!(qkv.len(), b * t * 3 * width);
    assert_eq!(grad.len(), b * t * width);
    let d = width / heads;
    let scale = (d as f32).sqrt().recip();
    let mut out = Vec::with_capacity(qkv.len());
    let shared = Shared(out.as_mut_ptr());
    let wide = Strides { row: 3 * width as isize, column: 1 };
    let across = Strides { row: 1, column: 3 * width as isize };
    let narrow = Strides { row: width as isize, column: 1 };
    let square = Strides { row: t as isize, column: 1 };
    let turned = Strides { row: 1, column: t as isize };
    probabilities.par_chunks((t * t).max(1)).enumerate().for_each_init(
        || vec![0.0f32; t * t],
        |scores, (index, p)| {
            let (image, head) = (index / heads, index % heads);
            let base = image * t * 3 * width + head * d;
            let part = |i: usize| qkv.as_ptr().wrapping_add(base + i * width);
            let to = |i: usize| (shared.at(base + i * width), wide);
            let g = grad.as_ptr().wrapping_add(image * t * width + head * d);
            // SAFETY: as in `forward`; each task writes its own columns of dQ, dK and dV.
            #[allow(unsafe_code)]
            unsafe {
                let (q, k, v) = (part(0), part(1), part(2));
                let one = Parallelism::None;
                product([t, d, t], to(2), (p.as_ptr(), turned), (g, narrow), false, 1.0, one);
                let dp = (scores.as_mut_ptr(), square);
                product([t, t, d], dp, (g, narrow), (v, across), false, 1.0, one);
                softmax_backward_rows(p, scores, t, scale);
                let ds = scores.as_ptr();
                product([t, d, t], to(0), (ds, square), (k, wide), false, 1.0, one);
                product([t, d, t], to(1), (ds, turned), (q, wide), false, 1.0, one);
            }
        },
    );
    // SAFETY: dQ, dK and dV of every image and head, written above, are all of it.
    #[allow(unsafe_code)]
    unsafe {
        out.set_len(qkv.len());
    }
    out
}

/// V of every token but the first, less its bias: qkv `[b, tokens, 3·width]` to
/// `[b, tokens - 1, width]`.
pub(crate) fn value_part(qkv: &[f32], bias: &[f32], tokens: usize) -> Vec<f32> {
    let width = bias.len();
    let image = tokens * 3 * width;
    let count = qkv.len() / image * (tokens - 1) * width;
    // SAFETY: every row of every image's chunk is written.
    #[allow(unsafe_code)]
    unsafe {
        written(count, |out| {
            out.par_chunks_mut(((tokens - 1) * width).max(1)).zip(qkv.par_chunks(image)).for_each(
                |(out, qkv)| {
                    let tokens = qkv.chunks_exact(3 * width).skip(1);
                    for (out, token) in out.chunks_exact_mut(width).zip(tokens) {
                        for ((out, &v), &b) in out.iter_mut().zip(&token[2 * width..]).zip(bias) {
                            out.write(v - b);
                        }
                    }
                },
            );
        })
    }
}
