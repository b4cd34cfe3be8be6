//! [`CoefficientOps`] in a graph.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::{TensorMetadata, backend::AutodiffBackend, ops::FloatTensor};

use super::CoefficientOps;
use crate::fused::graph::{backward_step, earlier_gradient, record};

backward_step! {
    CoefficientGrads of CoefficientOps, 2 parents, keeping (Vec<FloatTensor<B>>, [usize; 2]),
    after earlier_gradient: Option<FloatTensor<B>> =>
    |grad, (values, place), [for_gates, _], earlier| [
        for_gates.then(|| B::inner_products(grad.clone(), values, place, earlier)),
        Some(grad),
    ]
}

backward_step! {
    GatedRows of CoefficientOps, 2 parents, keeping (FloatTensor<B>, FloatTensor<B>, usize),
    after earlier_gradient: Option<FloatTensor<B>> =>
    |grad, (w, gates, first), [for_gates, _], earlier| {
        let [w_grad, gates_grad] = B::gated_rows_backward(w, gates, grad, earlier, first);
        [for_gates.then_some(gates_grad), Some(w_grad)]
    }
}

impl<B: CoefficientOps, C: CheckpointStrategy> CoefficientOps for Autodiff<B, C> {
    fn constant(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(x.primitive)
    }

    fn with_coefficient_grads(
        x: FloatTensor<Self>,
        coefficients: FloatTensor<Self>,
        first: usize,
        values: Vec<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let values = values.into_iter().map(|value| value.primitive).collect();
        let state = (values, [first, coefficients.primitive.shape().num_elements()]);
        record!(CoefficientGrads, C, [coefficients, x], state, x.primitive)
    }

    fn gated_rows(
        w: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        first: usize,
    ) -> FloatTensor<Self> {
        let output = B::gated_rows(w.primitive.clone(), gates.primitive.clone(), first);
        let state = (w.primitive, gates.primitive, first);
        record!(GatedRows, C, [gates, w], state, output)
    }
}
