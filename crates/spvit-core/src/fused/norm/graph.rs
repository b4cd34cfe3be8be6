//! [`NormOps`] in a graph.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::ops::FloatTensor;

use super::NormOps;
use crate::fused::graph::{backward_step, earlier_gradient, record};

backward_step! {
    LayerNorm of NormOps, 3 parents, keeping (FloatTensor<B>, FloatTensor<B>, f64),
    after earlier_gradient: Option<FloatTensor<B>> =>
    |grad, (x, weight, epsilon), _, earlier| {
        B::affine_layer_norm_backward(x, weight, grad, earlier, epsilon).map(Some)
    }
}

backward_step! {
    RmsNorm of NormOps, 2 parents, keeping (FloatTensor<B>, FloatTensor<B>, f64) =>
    |grad, (x, weight, epsilon), _| B::rms_norm_backward(x, weight, grad, epsilon).map(Some)
}

impl<B: NormOps, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
    fn affine_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let [inner, w, b] = [&x, &weight, &bias].map(|x| x.primitive.clone());
        let output = B::affine_layer_norm(inner, w, b, epsilon);
        let state = (x.primitive, weight.primitive, epsilon);
        record!(LayerNorm, C, [x, weight, bias], state, output)
    }

    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let output = B::rms_norm(x.primitive.clone(), weight.primitive.clone(), epsilon);
        record!(RmsNorm, C, [x, weight], (x.primitive, weight.primitive, epsilon), output)
    }
}
