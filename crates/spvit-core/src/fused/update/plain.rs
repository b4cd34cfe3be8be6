//! [`UpdateOps`](super::UpdateOps) in plain tensor operations.

use burn::tensor::{backend::Backend, ops::FloatTensor};

use super::AdamWStep;

/// In the parameter's own shape: what changes a shape in between is computed by a kernel of its own.
pub(super) fn adamw_update<B: Backend>(
    [p, m, v, g]: [FloatTensor<B>; 4],
    step: AdamWStep,
) -> [FloatTensor<B>; 3] {
    let [beta1, beta2] = step.betas;
    let [correction1, correction2] = step.corrections();
    let times = |x: FloatTensor<B>, factor: f64| B::float_mul_scalar(x, factor.into());
    let m = B::float_add(times(m, beta1), times(g.clone(), 1.0 - beta1));
    let v = B::float_add(times(v, beta2), times(B::float_mul(g.clone(), g), 1.0 - beta2));
    let root = times(B::float_sqrt(v.clone()), correction2.sqrt().recip());
    let change = B::float_div(m.clone(), B::float_add_scalar(root, step.epsilon.into()));
    let change = times(change, step.learning_rate / correction1);
    let p = match step.weight_decay == 0.0 {
        true => p,
        false => times(p, 1.0 - step.learning_rate * step.weight_decay),
    };
    [B::float_sub(p, change), m, v]
}
