//! [`BatchNormOps`] in a graph.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::{backend::AutodiffBackend, ops::FloatTensor};

use super::{BatchNormOps, NormParameters};
use crate::fused::graph::{backward_step, record};

backward_step! {
    BatchNorm of BatchNormOps, 4 parents,
    keeping (FloatTensor<B>, NormParameters<B>, [FloatTensor<B>; 2], f64) =>
    |grad, (x, parameters, statistics, epsilon), _| {
        B::batch_norm_backward(x, parameters, statistics, grad, epsilon).map(Some)
    }
}

impl<B: BatchNormOps, C: CheckpointStrategy> BatchNormOps for Autodiff<B, C> {
    fn batch_norm(
        x: FloatTensor<Self>,
        parameters: NormParameters<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 3] {
        let NormParameters { offset, weight, bias } = parameters;
        let inner = NormParameters {
            offset: offset.primitive.clone(),
            weight: weight.primitive.clone(),
            bias: bias.primitive.clone(),
        };
        let [y, mean, variance] = B::batch_norm(x.primitive.clone(), inner.clone(), epsilon);
        let statistics = [mean, variance];
        let [mean, variance] = statistics.clone().map(Self::from_inner);
        let state = (x.primitive, inner, statistics, epsilon);
        [record!(BatchNorm, C, [x, offset, weight, bias], state, y), mean, variance]
    }
}
