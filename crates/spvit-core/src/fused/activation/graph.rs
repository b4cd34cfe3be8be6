//! [`ActivationOps`] in a graph.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::ops::FloatTensor;

use super::{Activation, ActivationOps};
use crate::fused::graph::{backward_step, record};

backward_step! {
    Activate of ActivationOps, 1 parents, keeping (FloatTensor<B>, Activation) =>
    |grad, (x, activation), _| [Some(B::activate_backward(x, grad, activation))]
}

impl<B: ActivationOps, C: CheckpointStrategy> ActivationOps for Autodiff<B, C> {
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let output = B::activate(x.primitive.clone(), activation);
        record!(Activate, C, [x], (x.primitive, activation), output)
    }
}
