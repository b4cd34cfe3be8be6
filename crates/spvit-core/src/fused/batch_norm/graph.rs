//! [`BatchNormOps`] in a graph.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::{backend::AutodiffBackend, ops::FloatTensor};

use super::{BatchNormOps, NormParameters};
use crate::fused::graph::{backward_step, record};

backward_step! {
    BatchNormRelu of BatchNormOps, 4 parents,
    keeping (FloatTensor<B>, NormParameters<B>, [FloatTensor<B>; 3], f64) =>
    |grad, (x, parameters, outputs, epsilon), _| {
        B::batch_norm_relu_backward(x, parameters, outputs, grad, epsilon).map(Some)
    }
}

impl<B: BatchNormOps, C: CheckpointStrategy> BatchNormOps for Autodiff<B, C> {
    fn batch_norm_relu(
        x: FloatTensor<Self>,
        parameters: NormParameters<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 4] {
        let NormParameters { offset, weight, bias } = parameters;
        let inner = NormParameters {
            offset: offset.primitive.clone(),
            weight: weight.primitive.clone(),
            bias: bias.primitive.clone(),
        };
        let [y, mean, variance, unbiased] =
            B::batch_norm_relu(x.primitive.clone(), inner.clone(), epsilon);
        let outputs = [y.clone(), mean.clone(), variance.clone()];
        let statistics = [mean, variance, unbiased].map(Self::from_inner);
        let state = (x.primitive, inner, outputs, epsilon);
        let y = record!(BatchNormRelu, C, [x, offset, weight, bias], state, y);
        let [mean, variance, unbiased] = statistics;
        [y, mean, variance, unbiased]
    }
}
