//! [`NormOps`] over slices.

use std::mem::MaybeUninit;

use burn::tensor::{TensorMetadata, ops::FloatTensor};
use rayon::prelude::*;

use super::{NormOps, plain};
use crate::fused::host::{
    HostAccess, chunk_of_rows, lent,
    simd::{simd_fn, sum, sum2},
    sums::add_in_order,
    written,
};

/// Rows that one task normalises.
const ROWS: usize = 128;

#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

simd_fn! {
    fn forward_rows(
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        epsilon: f32,
        y: &mut [MaybeUninit<f32>],
    ) {
        let d = weight.len();
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let (mean, inverse) = moments(x, epsilon);
            for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                y.write((x - mean) * inverse * w + b);
            }
        }
    }
}

simd_fn! {
    fn backward_rows(
        x: &[f32],
        weight: &[f32],
        grad: &[f32],
        earlier: Option<&[f32]>,
        epsilon: f32,
        x_grad: &mut [MaybeUninit<f32>],
        sums: [&mut [f32]; 2],
    ) {
        let [weight_grad, bias_grad] = sums;
        let d = weight.len();
        let mut normal = vec![0.0f32; d];
        let mut scaled = vec![0.0f32; d];
        let mut earlier = earlier.map(|earlier| earlier.chunks_exact(d));
        for ((x, g), dx) in
            x.chunks_exact(d).zip(grad.chunks_exact(d)).zip(x_grad.chunks_exact_mut(d))
        {
            let (mean, inverse) = moments(x, epsilon);
            for (normal, x) in normal.iter_mut().zip(x) {
                *normal = (x - mean) * inverse;
            }
            for ((scaled, g), w) in scaled.iter_mut().zip(g).zip(weight) {
                *scaled = g * w;
            }
            for ((dw, g), normal) in weight_grad.iter_mut().zip(g).zip(&normal) {
                *dw += g * normal;
            }
            for (db, g) in bias_grad.iter_mut().zip(g) {
                *db += g;
            }
            let average = sum(&scaled, |s| s) / d as f32;
            let along = sum2(&scaled, &normal, |s, n| s * n) / d as f32;
            let own = |s: &f32, normal: &f32| (s - average - normal * along) * inverse;
            let values = dx.iter_mut().zip(&scaled).zip(&normal);
            match earlier.as_mut().and_then(Iterator::next) {
                Some(earlier) => {
                    for (((dx, scaled), normal), before) in values.zip(earlier) {
                        dx.write(own(scaled, normal) + before);
                    }
                }
                None => {
                    for ((dx, scaled), normal) in values {
                        dx.write(own(scaled, normal));
                    }
                }
            }
        }
    }
}

/// `(x - mean)/√(variance + ε)·weight + bias` of every row.
fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f64) -> Vec<f32> {
    let size = chunk_of_rows(weight.len());
    assert!(x.len().is_multiple_of(weight.len()) && weight.len() == bias.len());
    // SAFETY: the chunks cover the buffer in whole rows, and the kernel writes every row.
    #[allow(unsafe_code)]
    unsafe {
        written(x.len(), |y| {
            y.par_chunks_mut(size)
                .zip(x.par_chunks(size))
                .for_each(|(y, x)| forward_rows(x, weight, bias, epsilon as f32, y));
        })
    }
}

/// Gradients for the input, with what is there already, the weight and the bias.
fn layer_norm_backward(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    earlier: Option<&[f32]>,
    epsilon: f64,
) -> [Vec<f32>; 3] {
    let d = weight.len();
    let size = (ROWS * d).max(1);
    assert!(x.len().is_multiple_of(d) && x.len() == grad.len());
    assert!(earlier.is_none_or(|earlier| earlier.len() == x.len()));
    let mut parts = Vec::new();
    // SAFETY: as in `layer_norm`.
    #[allow(unsafe_code)]
    let x_grad = unsafe {
        written(x.len(), |x_grad| {
            parts = x_grad
                .par_chunks_mut(size)
                .zip(x.par_chunks(size))
                .zip(grad.par_chunks(size))
                .enumerate()
                .map(|(i, ((dx, x), g))| {
                    let (mut dw, mut db) = (vec![0.0; d], vec![0.0; d]);
                    let own = earlier.map(|earlier| &earlier[i * size..][..x.len()]);
                    backward_rows(x, weight, g, own, epsilon as f32, dx, [&mut dw, &mut db]);
                    (dw, db)
                })
                .collect();
        })
    };
    let (weights, biases): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    [x_grad, add_in_order(&weights, d), add_in_order(&biases, d)]
}

simd_fn! {
    fn rms_rows(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [MaybeUninit<f32>]) {
        let d = weight.len();
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let inverse = inverse_root_mean_square(x, epsilon);
            for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                y.write(x * inverse * w);
            }
        }
    }
}

#[inline(always)]
fn inverse_root_mean_square(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (sum(x, |x| x * x) / x.len() as f32 + epsilon).sqrt()
}

simd_fn! {
    fn rms_backward_rows(
        x: &[f32],
        weight: &[f32],
        grad: &[f32],
        epsilon: f32,
        x_grad: &mut [MaybeUninit<f32>],
        weight_grad: &mut [f32],
    ) {
        let d = weight.len();
        let mut scaled = vec![0.0f32; d];
        for ((x, g), dx) in
            x.chunks_exact(d).zip(grad.chunks_exact(d)).zip(x_grad.chunks_exact_mut(d))
        {
            let inverse = inverse_root_mean_square(x, epsilon);
            for ((scaled, g), w) in scaled.iter_mut().zip(g).zip(weight) {
                *scaled = g * w;
            }
            for ((dw, g), x) in weight_grad.iter_mut().zip(g).zip(x) {
                *dw += g * (x * inverse);
            }
            let along = sum2(&scaled, x, |s, x| s * (x * inverse)) / d as f32;
            for ((dx, scaled), x) in dx.iter_mut().zip(&scaled).zip(x) {
                dx.write((scaled - x * inverse * along) * inverse);
            }
        }
    }
}

/// `x/√(mean(x²) + ε)·weight` of every row.
fn rms_norm(x: &[f32], weight: &[f32], epsilon: f64) -> Vec<f32> {
    let size = chunk_of_rows(weight.len());
    assert!(x.len().is_multiple_of(weight.len()));
    // SAFETY: as in `layer_norm`.
    #[allow(unsafe_code)]
    unsafe {
        written(x.len(), |y| {
            y.par_chunks_mut(size)
                .zip(x.par_chunks(size))
                .for_each(|(y, x)| rms_rows(x, weight, epsilon as f32, y));
        })
    }
}

/// Gradients for the input and the weight.
fn rms_norm_backward(x: &[f32], weight: &[f32], grad: &[f32], epsilon: f64) -> [Vec<f32>; 2] {
    let d = weight.len();
    let size = (ROWS * d).max(1);
    assert!(x.len().is_multiple_of(d) && x.len() == grad.len());
    let mut parts: Vec<Vec<f32>> = Vec::new();
    // SAFETY: as in `layer_norm`.
    #[allow(unsafe_code)]
    let x_grad = unsafe {
        written(x.len(), |x_grad| {
            parts = x_grad
                .par_chunks_mut(size)
                .zip(x.par_chunks(size))
                .zip(grad.par_chunks(size))
                .map(|((dx, x), g)| {
                    let mut dw = vec![0.0; d];
                    rms_backward_rows(x, weight, g, epsilon as f32, dx, &mut dw);
                    dw
                })
                .collect();
        })
    };
    [x_grad, add_in_order(&parts, d)]
}

impl<B: HostAccess> NormOps for B {
    fn affine_layer_norm(
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: FloatTensor<B>,
        epsilon: f64,
    ) -> FloatTensor<B> {
        let shape = x.shape();
        lent!(
            (x, weight, bias) => B::own(layer_norm(&x, &weight, &bias, epsilon), shape),
            plain::layer_norm::<B>(x, weight, bias, epsilon)
        )
    }

    fn affine_layer_norm_backward(
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
        earlier: Option<FloatTensor<B>>,
        epsilon: f64,
    ) -> [FloatTensor<B>; 3] {
        let (shape, d) = (x.shape(), weight.shape());
        lent!(
            (x, weight, grad; earlier) => {
                let [dx, dw, db] =
                    layer_norm_backward(&x, &weight, &grad, earlier.as_deref(), epsilon);
                [B::own(dx, shape), B::own(dw, d.clone()), B::own(db, d)]
            },
            plain::layer_norm_backward::<B>(x, weight, grad, earlier, epsilon)
        )
    }

    fn rms_norm(x: FloatTensor<B>, weight: FloatTensor<B>, epsilon: f64) -> FloatTensor<B> {
        let shape = x.shape();
        lent!(
            (x, weight) => B::own(rms_norm(&x, &weight, epsilon), shape),
            plain::rms_norm::<B>(x, weight, epsilon)
        )
    }

    fn rms_norm_backward(
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
        epsilon: f64,
    ) -> [FloatTensor<B>; 2] {
        let (shape, d) = (x.shape(), weight.shape());
        lent!(
            (x, weight, grad) => {
                let [dx, dw] = rms_norm_backward(&x, &weight, &grad, epsilon);
                [B::own(dx, shape), B::own(dw, d)]
            },
            plain::rms_norm_backward::<B>(x, weight, grad, epsilon)
        )
    }
}
