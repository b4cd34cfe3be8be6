//! [`UpdateOps`](super::UpdateOps) in plain tensor operations.

use burn::tensor::{FloatDType, TensorMetadata, backend::Backend, ops::FloatTensor};

use super::{AdamWParameter, AdamWStep, CLIP_EPSILON, Clip};
use crate::fused::{raw, wrap};

pub(super) fn adamw_update<B: Backend>(
    parameters: Vec<AdamWParameter<FloatTensor<B>>>,
    step: AdamWStep,
    clip: Option<Clip<FloatTensor<B>>>,
) -> Vec<[FloatTensor<B>; 3]> {
    let factor = clip.map(|clip| clip_factor::<B>(clip, step));
    let clipped = |mut own: AdamWParameter<FloatTensor<B>>| {
        own.grad = own.grad.map(|grad| match &factor {
            Some(factor) => {
                let wide = vec![1; grad.shape().num_dims()];
                B::float_mul(grad, B::float_reshape(factor.clone(), wide.into()))
            }
            None => grad,
        });
        own
    };
    parameters.into_iter().map(|own| adamw::<B>(clipped(own), step)).collect()
}

/// What a limit makes of gradients, as it stands on the device: reading it would be a wait. `[1]`.
pub(super) fn clip_factor<B: Backend>(
    Clip { squares, limit }: Clip<FloatTensor<B>>,
    step: AdamWStep,
) -> FloatTensor<B> {
    let norm = wrap::<B, 1>(squares).sum().sqrt() * step.grad_factor.abs();
    let factor = (norm + CLIP_EPSILON).recip() * limit;
    raw(factor.clamp_max(1.0))
}

/// In the parameter's own shape: what changes a shape in between is computed by a kernel of its own.
fn adamw<B: Backend>(
    AdamWParameter { value: p, first: m, second: v, grad, decays }: AdamWParameter<FloatTensor<B>>,
    step: AdamWStep,
) -> [FloatTensor<B>; 3] {
    let [beta1, beta2] = step.betas;
    let [correction1, correction2] = step.corrections();
    let times = |x: FloatTensor<B>, factor: f64| match factor == 1.0 {
        true => x,
        false => B::float_mul_scalar(x, factor.into()),
    };
    let g = times(grad.unwrap_or_else(|| zeros::<B>(&p)), step.grad_factor);
    let m = B::float_add(times(m, beta1), times(g.clone(), 1.0 - beta1));
    let v = B::float_add(times(v, beta2), times(B::float_mul(g.clone(), g), 1.0 - beta2));
    let root = times(B::float_sqrt(v.clone()), correction2.sqrt().recip());
    let change = B::float_div(m.clone(), B::float_add_scalar(root, step.epsilon.into()));
    let change = times(change, step.learning_rate / correction1);
    [B::float_sub(times(p, step.keep(decays)), change), m, v]
}

/// As many as another tensor has.
pub(super) fn zeros<B: Backend>(like: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_zeros(like.shape(), &B::float_device(like), FloatDType::F32)
}

pub(super) fn averages<B: Backend>(
    pairs: Vec<[FloatTensor<B>; 2]>,
    decay: f64,
) -> Vec<FloatTensor<B>> {
    let times = |x: FloatTensor<B>, factor: f64| B::float_mul_scalar(x, factor.into());
    let pairs = pairs.into_iter();
    pairs
        .map(|[average, now]| B::float_add(times(average, decay), times(now, 1.0 - decay)))
        .collect()
}
