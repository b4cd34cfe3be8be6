//! [`LinearOps`] in a graph.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::ops::FloatTensor;

use super::LinearOps;
use crate::fused::Precision;
use crate::fused::graph::{absent, backward_step, record};

backward_step! {
    Affine of LinearOps, 3 parents, keeping (FloatTensor<B>, FloatTensor<B>, Precision) =>
    |grad, (x, w, precision), [for_x, for_w, for_b]| {
        let low = B::lowered(grad.clone(), precision);
        let b_grad = for_b.then(|| B::affine_b_backward(grad));
        let w_grad = for_w.then(|| B::raised(B::affine_w_backward(x, low.clone())));
        // Last, so that the backward pass of what gave x can be part of the same kernel.
        let x_grad = for_x.then(|| B::raised(B::affine_x_backward(w, low)));
        [x_grad, w_grad, b_grad]
    }
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
        let precision = Precision::current();
        let low = |x: &FloatTensor<Self>| B::lowered(x.primitive.clone(), precision);
        let (own_x, own_w) = (low(&x), low(&w));
        let own_b = b.as_ref().map(|b| b.primitive.clone());
        let output = B::affine(own_x.clone(), own_w.clone(), own_b);
        let b = b.unwrap_or_else(|| absent::<B, C>(&B::float_device(&w.primitive)));
        record!(Affine, C, [x, w, b], (own_x, own_w, precision), output)
    }

    fn sum(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::sum(x.primitive.clone(), y.primitive.clone());
        record!(Sum, C, [x, y], (), output)
    }
}
