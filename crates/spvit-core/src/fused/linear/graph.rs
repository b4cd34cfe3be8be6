//! [`LinearOps`] in a graph.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::ops::FloatTensor;

use super::LinearOps;
use crate::fused::graph::{absent, backward_step, record};

backward_step! {
    Affine of LinearOps, 3 parents, keeping (FloatTensor<B>, FloatTensor<B>) =>
    |grad, (x, w), [for_x, for_w, for_b]| [
        for_x.then(|| B::affine_x_backward(w, grad.clone())),
        for_w.then(|| B::affine_w_backward(x, grad.clone())),
        for_b.then(|| B::affine_b_backward(grad)),
    ]
}

backward_step! {
    Sum of LinearOps, 2 parents, keeping () =>
    |grad, (), _| [Some(grad.clone()), Some(grad)]
}

impl<B: LinearOps, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn affine(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let output = B::affine(
            x.primitive.clone(),
            w.primitive.clone(),
            b.as_ref().map(|b| b.primitive.clone()),
        );
        let b = b.unwrap_or_else(|| absent::<B, C>(&B::float_device(&w.primitive)));
        record!(Affine, C, [x, w, b], (x.primitive, w.primitive), output)
    }

    fn sum(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::sum(x.primitive.clone(), y.primitive.clone());
        record!(Sum, C, [x, y], (), output)
    }
}
