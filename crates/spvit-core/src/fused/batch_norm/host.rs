//! [`BatchNormOps`] over slices.

use std::mem::MaybeUninit;

use burn::tensor::{TensorMetadata, ops::FloatTensor};
use rayon::prelude::*;

use super::{BatchNormOps, NormParameters, plain, unbiased};
use crate::fused::host::{
    CHUNK, HostAccess, lent,
    simd::simd_fn,
    sums::{add_in_order, column_sums},
    written,
};

/// Rows that one task handles.
const ROWS: usize = 256;

simd_fn! {
    /// Adds the squared distances from the mean to the sums.
    fn add_squares(x: &[f32], mean: &[f32], sums: &mut [f32]) {
        for x in x.chunks_exact(mean.len()) {
            for ((sum, x), mean) in sums.iter_mut().zip(x).zip(mean) {
                *sum += (x - mean) * (x - mean);
            }
        }
    }
}

simd_fn! {
    /// `max((x - mean)·scale + bias, 0)` of every row.
    fn scale_rows(
        x: &[f32],
        mean: &[f32],
        scale: &[f32],
        bias: &[f32],
        y: &mut [MaybeUninit<f32>],
    ) {
        let d = mean.len();
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let vectors = mean.iter().zip(scale).zip(bias);
            for ((y, x), ((mean, scale), bias)) in y.iter_mut().zip(x).zip(vectors) {
                let value = (x - mean) * scale + bias;
                y.write(if value <= 0.0 { 0.0 } else { value });
            }
        }
    }
}

simd_fn! {
    /// Adds the products of gradient and normalised input to the sums.
    fn add_products(x: &[f32], mean: &[f32], inverse: &[f32], grad: &[f32], sums: &mut [f32]) {
        let d = mean.len();
        for (x, g) in x.chunks_exact(d).zip(grad.chunks_exact(d)) {
            let vectors = mean.iter().zip(inverse);
            for (((sum, x), g), (mean, inverse)) in sums.iter_mut().zip(x).zip(g).zip(vectors) {
                *sum += g * (x - mean) * inverse;
            }
        }
    }
}

simd_fn! {
    /// `(g - first - (x - mean)·second)·scale` of every row; vectors: mean, first, second, scale.
    fn input_gradients(
        x: &[f32],
        vectors: [&[f32]; 4],
        grad: &[f32],
        out: &mut [MaybeUninit<f32>],
    ) {
        let [mean, first, second, scale] = vectors;
        let d = mean.len();
        let rows = x.chunks_exact(d).zip(grad.chunks_exact(d)).zip(out.chunks_exact_mut(d));
        for ((x, g), out) in rows {
            let vectors = mean.iter().zip(first).zip(second).zip(scale);
            let elements = out.iter_mut().zip(x).zip(g).zip(vectors);
            for (((out, x), g), (((mean, first), second), scale)) in elements {
                out.write((g - first - (x - mean) * second) * scale);
            }
        }
    }
}

simd_fn! {
    /// The gradient before ReLU.
    fn masked(y: &[f32], grad: &[f32], out: &mut [MaybeUninit<f32>]) {
        for ((out, y), g) in out.iter_mut().zip(y).zip(grad) {
            out.write(if *y > 0.0 { *g } else { 0.0 });
        }
    }
}

/// Sums over rows by pieces, added in their order.
fn by_pieces(
    x: &[f32],
    grad: &[f32],
    d: usize,
    add: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let size = (ROWS * d).max(1);
    let parts = x.par_chunks(size).zip(grad.par_chunks(size)).map(|(x, g)| {
        let mut sums = vec![0.0; d];
        add(x, g, &mut sums);
        sums
    });
    add_in_order(parts.collect::<Vec<_>>(), d)
}

fn inverse_roots(variance: &[f32], epsilon: f64) -> Vec<f32> {
    variance.iter().map(|v| 1.0 / (v + epsilon as f32).sqrt()).collect()
}

/// Output, mean, and biased and unbiased variance of `x + offset`; x `[rows, d]`.
fn forward(x: &[f32], [offset, weight, bias]: [&[f32]; 3], epsilon: f64) -> [Vec<f32>; 4] {
    let d = weight.len();
    assert!(x.len().is_multiple_of(d) && offset.len() == d && bias.len() == d);
    let count = (x.len() / d) as f32;
    let mut mean = column_sums(x, d);
    mean.iter_mut().for_each(|mean| *mean /= count);
    let mut variance = by_pieces(x, x, d, |x, _, sums| add_squares(x, &mean, sums));
    variance.iter_mut().for_each(|variance| *variance /= count);
    let inverse = inverse_roots(&variance, epsilon);
    let scale: Vec<f32> = inverse.iter().zip(weight).map(|(i, w)| i * w).collect();
    let size = (ROWS * d).max(1);
    // SAFETY: the chunks cover the buffer in whole rows, and the kernel writes every row.
    #[allow(unsafe_code)]
    let y = unsafe {
        written(x.len(), |y| {
            y.par_chunks_mut(size)
                .zip(x.par_chunks(size))
                .for_each(|(y, x)| scale_rows(x, &mean, &scale, bias, y));
        })
    };
    // An offset moves the mean and nothing else.
    mean.iter_mut().zip(offset).for_each(|(mean, offset)| *mean += offset);
    let correction = unbiased(x.len() / d) as f32;
    let of_all = variance.iter().map(|variance| variance * correction).collect();
    [y, mean, variance, of_all]
}

/// Gradients for x, offset, weight and bias.
fn backward(
    x: &[f32],
    [offset, weight, mean, variance]: [&[f32]; 4],
    [y, grad]: [&[f32]; 2],
    epsilon: f64,
) -> [Vec<f32>; 4] {
    let d = weight.len();
    assert!(x.len().is_multiple_of(d) && x.len() == grad.len() && x.len() == y.len());
    let chunks = y.par_chunks(CHUNK).zip(grad.par_chunks(CHUNK));
    // SAFETY: the chunks cover the buffer, and the kernel writes every element.
    #[allow(unsafe_code)]
    let grad = &unsafe {
        written(x.len(), |out| {
            out.par_chunks_mut(CHUNK).zip(chunks).for_each(|(out, (y, g))| masked(y, g, out));
        })
    }[..];
    let count = (x.len() / d) as f32;
    let mean: Vec<f32> = mean.iter().zip(offset).map(|(mean, offset)| mean - offset).collect();
    let inverse = inverse_roots(variance, epsilon);
    let bias_grad = column_sums(grad, d);
    let weight_grad = by_pieces(x, grad, d, |x, g, sums| add_products(x, &mean, &inverse, g, sums));
    let first: Vec<f32> = bias_grad.iter().map(|sum| sum / count).collect();
    let second: Vec<f32> =
        weight_grad.iter().zip(&inverse).map(|(sum, inverse)| sum / count * inverse).collect();
    let scale: Vec<f32> = inverse.iter().zip(weight).map(|(i, w)| i * w).collect();
    let size = (ROWS * d).max(1);
    // SAFETY: as in `forward`.
    #[allow(unsafe_code)]
    let x_grad = unsafe {
        written(x.len(), |out| {
            out.par_chunks_mut(size).zip(x.par_chunks(size)).zip(grad.par_chunks(size)).for_each(
                |((out, x), g)| {
                    input_gradients(x, [&mean, &first, &second, &scale], g, out);
                },
            );
        })
    };
    let offset_grad = column_sums(&x_grad, d);
    [x_grad, offset_grad, weight_grad, bias_grad]
}

impl<B: HostAccess> BatchNormOps for B {
    fn batch_norm_relu(
        x: FloatTensor<B>,
        parameters: NormParameters<B>,
        epsilon: f64,
    ) -> [FloatTensor<B>; 4] {
        let shape = x.shape();
        let NormParameters { offset, weight, bias } = parameters.clone();
        lent!(
            (x, offset, weight, bias) => {
                let [y, statistics @ ..] = forward(&x, [&*offset, &*weight, &*bias], epsilon);
                let [mean, variance, unbiased] = statistics.map(|values| {
                    let d = [values.len()];
                    B::own(values, d.into())
                });
                [B::own(y, shape), mean, variance, unbiased]
            },
            plain::batch_norm_relu::<B>(x, parameters, epsilon)
        )
    }

    fn batch_norm_relu_backward(
        x: FloatTensor<B>,
        parameters: NormParameters<B>,
        outputs: [FloatTensor<B>; 3],
        grad: FloatTensor<B>,
        epsilon: f64,
    ) -> [FloatTensor<B>; 4] {
        let shape = x.shape();
        let NormParameters { offset, weight, .. } = parameters.clone();
        let [y, mean, variance] = outputs.clone();
        lent!(
            (x, offset, weight, y, mean, variance, grad) => {
                let vectors = [&*offset, &*weight, &*mean, &*variance];
                let [dx, sums @ ..] = backward(&x, vectors, [&*y, &*grad], epsilon);
                let [offset, weight, bias] = sums.map(|sum| {
                    let d = [sum.len()];
                    B::own(sum, d.into())
                });
                [B::own(dx, shape), offset, weight, bias]
            },
            plain::batch_norm_relu_backward::<B>(x, parameters, outputs, grad, epsilon)
        )
    }
}
