//! [`UpdateOps`](super::UpdateOps) in plain tensor operations.

use burn::tensor::{backend::Backend, ops::FloatTensor};

use super::AdamWStep;
use crate::fused::{raw, wrap};

pub(super) fn adamw_update<B: Backend>(
    inputs: [FloatTensor<B>; 4],
    step: AdamWStep,
) -> [FloatTensor<B>; 3] {
    let [p, m, v, g] = inputs.map(wrap::<B, 1>);
    let [beta1, beta2] = step.betas;
    let [correction1, correction2] = step.corrections();
    let p = p * (1.0 - step.learning_rate * step.weight_decay);
    let m = m * beta1 + g.clone() * (1.0 - beta1);
    let v = v * beta2 + g.square() * (1.0 - beta2);
    let root = v.clone().sqrt() / correction2.sqrt() + step.epsilon;
    let p = p - m.clone() / root * (step.learning_rate / correction1);
    [raw(p), raw(m), raw(v)]
}
