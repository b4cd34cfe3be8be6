//! [`GateOps`] in a graph. The soft gates' gradients need no division: Burn's ndarray backend divides by an
//! approximate reciprocal (12 to 14 bits) in a backward pass.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::ops::FloatTensor;

use super::GateOps;
use crate::fused::graph::{backward_step, record};

backward_step! {
    Sampled of GateOps, 1 parents, keeping [FloatTensor<B>; 2] =>
    |grad, [theta, soft], _| [Some(B::sampled_backward(theta, soft, grad))]
}

backward_step! {
    Expected of GateOps, 1 parents, keeping [FloatTensor<B>; 2] =>
    |grad, [p, q], _| [Some(B::expected_backward(p, q, grad))]
}

backward_step! {
    SinglePath of GateOps, 1 parents, keeping FloatTensor<B> =>
    |grad, own, _| [Some(B::single_path_backward(own, grad))]
}

impl<B: GateOps, C: CheckpointStrategy> GateOps for Autodiff<B, C> {
    fn sampled_gates(theta: FloatTensor<Self>, uniform: FloatTensor<Self>) -> FloatTensor<Self> {
        let [hard, soft] = B::sampled(theta.primitive.clone(), uniform.primitive);
        record!(Sampled, C, [theta], [theta.primitive, soft], hard)
    }

    fn expected_gates(theta: FloatTensor<Self>) -> FloatTensor<Self> {
        let [hard, p, q] = B::expected(theta.primitive.clone());
        record!(Expected, C, [theta], [p, q], hard)
    }

    fn single_path(own: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::single_path(own.primitive.clone());
        record!(SinglePath, C, [own], own.primitive, output)
    }
}
