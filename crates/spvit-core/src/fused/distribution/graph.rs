//! [`DistributionOps`] in a graph.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::ops::FloatTensor;

use super::DistributionOps;
use crate::fused::graph::{backward_step, earlier_gradient, record};

backward_step! {
    HeadDistribution of DistributionOps, 1 parents, keeping (FloatTensor<B>, f64) =>
    |grad, (p, alpha), _| [Some(B::head_distribution_backward(p, grad, alpha))]
}

backward_step! {
    HeadSum of DistributionOps, 2 parents, keeping [FloatTensor<B>; 2],
    after earlier_gradient: Option<FloatTensor<B>> =>
    |grad, [w, p], _, earlier| {
        let [w_grad, p_grad] = B::head_sum_backward(w, p, grad, earlier);
        [Some(p_grad), Some(w_grad)]
    }
}

impl<B: DistributionOps, C: CheckpointStrategy> DistributionOps for Autodiff<B, C> {
    fn head_distribution(z: FloatTensor<Self>, alpha: f64) -> FloatTensor<Self> {
        let p = B::head_distribution(z.primitive.clone(), alpha);
        record!(HeadDistribution, C, [z], (p.clone(), alpha), p)
    }

    fn head_sum(w: FloatTensor<Self>, p: FloatTensor<Self>) -> FloatTensor<Self> {
        let inner = [w.primitive.clone(), p.primitive.clone()];
        let output = B::head_sum(w.primitive.clone(), p.primitive.clone());
        record!(HeadSum, C, [p, w], inner, output)
    }
}
