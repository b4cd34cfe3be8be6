//! Kernels that treat every element alike.

use std::{f32::consts::FRAC_1_SQRT_2, mem::MaybeUninit};

use rayon::prelude::*;

use super::{
    CHUNK,
    math::{erf, exp},
    simd::{simd_fn, sum2},
    written,
};
use crate::fused::AdamWStep;

simd_fn! {
    fn gelu_chunk(x: &[f32], y: &mut [MaybeUninit<f32>]) {
        for (y, &x) in y.iter_mut().zip(x) {
            y.write(0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2)));
        }
    }
}

simd_fn! {
    fn gelu_backward_chunk(x: &[f32], g: &[f32], y: &mut [MaybeUninit<f32>]) {
        const INV_SQRT_2PI: f32 = 0.398_942_3;
        for ((y, &x), &g) in y.iter_mut().zip(x).zip(g) {
            let cdf = 0.5 * (1.0 + erf(x * FRAC_1_SQRT_2));
            y.write(g * (cdf + x * INV_SQRT_2PI * exp(-0.5 * x * x)));
        }
    }
}

simd_fn! {
    fn dot_chunk(a: &[f32], b: &[f32]) -> f32 {
        sum2(a, b, |a, b| a * b)
    }
}

simd_fn! {
    fn adamw_chunk(step: AdamWStep, g: &[f32], p: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let [beta1, beta2] = step.betas.map(|beta| beta as f32);
        let [correction1, correction2] = step.corrections();
        let keep = (1.0 - step.learning_rate * step.weight_decay) as f32;
        let rate = (step.learning_rate / correction1) as f32;
        let scale = correction2.sqrt().recip() as f32;
        let epsilon = step.epsilon as f32;
        for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
            *m = *m * beta1 + g * (1.0 - beta1);
            *v = *v * beta2 + g * g * (1.0 - beta2);
            *p = *p * keep - *m / (v.sqrt() * scale + epsilon) * rate;
        }
    }
}

simd_fn! {
    fn sum_chunk(a: &[f32], b: &[f32], y: &mut [MaybeUninit<f32>]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            y.write(a + b);
        }
    }
}

/// Sum of two equally long tensors.
pub(crate) fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    assert_eq!(a.len(), b.len());
    // SAFETY: the chunks cover the buffer, and the kernel writes all of each.
    #[allow(unsafe_code)]
    unsafe {
        written(a.len(), |y| {
            y.par_chunks_mut(CHUNK)
                .zip(a.par_chunks(CHUNK))
                .zip(b.par_chunks(CHUNK))
                .for_each(|((y, a), b)| sum_chunk(a, b, y));
        })
    }
}

/// One AdamW update: the parameter and its two moments.
pub(crate) fn adamw([p, m, v, g]: [&[f32]; 4], step: AdamWStep) -> [Vec<f32>; 3] {
    let mut out = [p.to_vec(), m.to_vec(), v.to_vec()];
    let [p, m, v] = &mut out;
    p.par_chunks_mut(CHUNK)
        .zip(m.par_chunks_mut(CHUNK))
        .zip(v.par_chunks_mut(CHUNK))
        .zip(g.par_chunks(CHUNK))
        .for_each(|(((p, m), v), g)| adamw_chunk(step, g, p, m, v));
    out
}

/// Exact GELU.
pub(crate) fn gelu(x: &[f32]) -> Vec<f32> {
    // SAFETY: the chunks cover the buffer, and the kernel writes all of each.
    #[allow(unsafe_code)]
    unsafe {
        written(x.len(), |y| {
            y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| gelu_chunk(x, y));
        })
    }
}

/// Gradient of the exact GELU at `x`.
pub(crate) fn gelu_backward(x: &[f32], grad: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), grad.len());
    // SAFETY: as in `gelu`.
    #[allow(unsafe_code)]
    unsafe {
        written(x.len(), |y| {
            y.par_chunks_mut(CHUNK)
                .zip(x.par_chunks(CHUNK))
                .zip(grad.par_chunks(CHUNK))
                .for_each(|((y, x), g)| gelu_backward_chunk(x, g, y));
        })
    }
}

/// Inner product; partial sums are added in order, in double precision.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let parts: Vec<f32> =
        a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).map(|(a, b)| dot_chunk(a, b)).collect();
    parts.into_iter().map(f64::from).sum::<f64>() as f32
}
