//! [`UpdateOps`] over slices.

use burn::tensor::{TensorMetadata, ops::FloatTensor};
use rayon::prelude::*;

use super::{AdamWParameter, AdamWStep, Clip, UpdateOps, plain};
use crate::fused::{
    host::{CHUNK, HostAccess, simd::simd_fn},
    wrap,
};

simd_fn! {
    fn adamw_chunk(
        step: AdamWStep,
        keep: f32,
        g: &[f32],
        p: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
    ) {
        let [beta1, beta2] = step.betas.map(|beta| beta as f32);
        let [correction1, correction2] = step.corrections();
        let factor = step.grad_factor as f32;
        let rate = (step.learning_rate / correction1) as f32;
        let scale = correction2.sqrt().recip() as f32;
        let epsilon = step.epsilon as f32;
        for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * factor;
            *m = *m * beta1 + g * (1.0 - beta1);
            *v = *v * beta2 + g * g * (1.0 - beta2);
            *p = *p * keep - *m / (v.sqrt() * scale + epsilon) * rate;
        }
    }
}

/// One AdamW update: the parameter and its two moments.
fn adamw([p, m, v, g]: [&[f32]; 4], step: AdamWStep, keep: f32) -> [Vec<f32>; 3] {
    let mut out = [p.to_vec(), m.to_vec(), v.to_vec()];
    let [p, m, v] = &mut out;
    p.par_chunks_mut(CHUNK)
        .zip(m.par_chunks_mut(CHUNK))
        .zip(v.par_chunks_mut(CHUNK))
        .zip(g.par_chunks(CHUNK))
        .for_each(|(((p, m), v), g)| adamw_chunk(step, keep, g, p, m, v));
    out
}

impl<B: HostAccess> UpdateOps for B {
    fn adamw_update(
        parameters: Vec<AdamWParameter<FloatTensor<B>>>,
        step: AdamWStep,
        clip: Option<Clip<FloatTensor<B>>>,
    ) -> Vec<[FloatTensor<B>; 3]> {
        let step = clip.map_or(step, |Clip { squares, limit }| {
            let squares = wrap::<B, 1>(squares).into_data();
            step.clipped(squares.iter::<f64>().sum(), limit)
        });
        let update = |own: AdamWParameter<FloatTensor<B>>| {
            let shape = own.value.shape();
            let grad = own.grad.clone().unwrap_or_else(|| plain::zeros::<B>(&own.value));
            let AdamWParameter { value, first, second, decays, .. } = &own;
            match (B::lend(value), B::lend(first), B::lend(second), B::lend(&grad)) {
                (Some(p), Some(m), Some(v), Some(g)) => {
                    let updated = adamw([&*p, &*m, &*v, &*g], step, step.keep(*decays) as f32);
                    vec![updated.map(|data| B::own(data, shape.clone()))]
                }
                _ => plain::adamw_update::<B>(vec![own], step, None),
            }
        };
        parameters.into_iter().flat_map(update).collect()
    }
}
