//! Layer normalisation.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::{
    linear::add_in_order,
    simd::{simd_fn, sum, sum2},
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
        epsilon: f32,
        x_grad: &mut [MaybeUninit<f32>],
        weight_grad: &mut [f32],
        bias_grad: &mut [f32],
    ) {
        let d = weight.len();
        let mut normal = vec![0.0f32; d];
        let mut scaled = vec![0.0f32; d];
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
            for ((dx, scaled), normal) in dx.iter_mut().zip(&scaled).zip(&normal) {
                dx.write((scaled - average - normal * along) * inverse);
            }
        }
    }
}

/// `(x - mean)/√(variance + ε)·weight + bias` of every row.
pub(crate) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f64) -> Vec<f32> {
    let size = (ROWS * weight.len()).max(1);
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

/// Gradients for the input, the weight and the bias.
pub(crate) fn layer_norm_backward(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    epsilon: f64,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let d = weight.len();
    let size = (ROWS * d).max(1);
    assert!(x.len().is_multiple_of(d) && x.len() == grad.len());
    let mut parts: Vec<(Vec<f32>, Vec<f32>)> = Vec::new();
    // SAFETY: as in `layer_norm`.
    #[allow(unsafe_code)]
    let x_grad = unsafe {
        written(x.len(), |x_grad| {
            parts = x_grad
                .par_chunks_mut(size)
                .zip(x.par_chunks(size))
                .zip(grad.par_chunks(size))
                .map(|((dx, x), g)| {
                    let (mut dw, mut db) = (vec![0.0; d], vec![0.0; d]);
                    backward_rows(x, weight, g, epsilon as f32, dx, &mut dw, &mut db);
                    (dw, db)
                })
                .collect();
        })
    };
    let (weights, biases) = parts.into_iter().unzip();
    (x_grad, add_in_order(weights, d), add_in_order(biases, d))
}
