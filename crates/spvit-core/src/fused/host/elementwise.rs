//! Kernels that treat every element alike.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::{
    CHUNK,
    simd::{simd_fn, sum2},
    written,
};
use crate::fused::AdamWStep;

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

/// Inner product; partial sums are added in order, in double precision.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let parts: Vec<f32> =
        a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).map(|(a, b)| dot_chunk(a, b)).collect();
    parts.into_iter().map(f64::from).sum::<f64>() as f32
}
