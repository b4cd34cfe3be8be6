//! [`CrossEntropyOps`] in a graph.
//!
//! The gradient is computed with the value instead of being derived step by step: the backward pass of a
//! logarithm takes a reciprocal, which Burn's ndarray backend rounds differently by where a tensor lies in
//! memory, so that runs would not repeat.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::ops::FloatTensor;

use super::CrossEntropyOps;
use crate::fused::graph::{backward_step, record};

backward_step! {
    CrossEntropy of CrossEntropyOps, 1 parents, keeping (FloatTensor<B>, usize) =>
    |grad, (gradient, total), _| {
        let scale = B::float_mul_scalar(grad, (1.0 / total as f32).into());
        [Some(B::float_mul(gradient, B::float_reshape(scale, [1, 1].into())))]
    }
}

impl<B: CrossEntropyOps, C: CheckpointStrategy> CrossEntropyOps for Autodiff<B, C> {
    fn mean_cross_entropy(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        total: usize,
    ) -> FloatTensor<Self> {
        let [sum, gradient] = B::cross_entropy(logits.primitive.clone(), targets.primitive);
        let output = B::float_div_scalar(sum, (total as f64).into());
        record!(CrossEntropy, C, [logits], (gradient, total), output)
    }
}
