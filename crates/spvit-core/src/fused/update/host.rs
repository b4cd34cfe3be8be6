//! [`UpdateOps`] over slices.

use burn::tensor::{TensorMetadata, ops::FloatTensor};
use rayon::prelude::*;

use super::{AdamWStep, UpdateOps, plain};
use crate::fused::host::{CHUNK, HostAccess, lent, simd::simd_fn};

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

/// One AdamW update: the parameter and its two moments.
fn adamw([p, m, v, g]: [&[f32]; 4], step: AdamWStep) -> [Vec<f32>; 3] {
    let mut out = [p.to_vec(), m.to_vec(), v.to_vec()];
    let [p, m, v] = &mut out;
    p.par_chunks_mut(CHUNK)
        .zip(m.par_chunks_mut(CHUNK))
        .zip(v.par_chunks_mut(CHUNK))
        .zip(g.par_chunks(CHUNK))
        .for_each(|(((p, m), v), g)| adamw_chunk(step, g, p, m, v));
    out
}

impl<B: HostAccess> UpdateOps for B {
    fn adamw_update(inputs: [FloatTensor<B>; 4], step: AdamWStep) -> [FloatTensor<B>; 3] {
        let shape = inputs[0].shape();
        let [p, m, v, g] = inputs;
        lent!(
            (p, m, v, g) => {
                adamw([&*p, &*m, &*v, &*g], step).map(|data| B::own(data, shape.clone()))
            },
            plain::adamw_update::<B>([p, m, v, g], step)
        )
    }
}
