//! One node of the graph for each forward and backward pair of [`FusedOps`].

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::{TensorMetadata, backend::AutodiffBackend, ops::FloatTensor};

use super::{
    FusedOps, Grid, NormParameters,
    graph::{absent, backward_step, record},
};

backward_step!(
    Affine<FusedOps, 3>((FloatTensor<B>, FloatTensor<B>)) = |grad, (x, w), [for_x, for_w, for_b]| [
        for_x.then(|| B::affine_x_backward(w, grad.clone())),
        for_w.then(|| B::affine_w_backward(x, grad.clone())),
        for_b.then(|| B::affine_b_backward(grad)),
    ]
);

backward_step!(Sum < FusedOps, 2 > (()) = |grad, (), _| [Some(grad.clone()), Some(grad)]);

backward_step!(
    BatchNorm<FusedOps, 4>((FloatTensor<B>, NormParameters<B>, [FloatTensor<B>; 2], f64)) =
        |grad, (x, parameters, statistics, epsilon), _| {
            B::batch_norm_backward(x, parameters, statistics, grad, epsilon).map(Some)
        }
);

backward_step!(
    MixShift<FusedOps, 2>((FloatTensor<B>, FloatTensor<B>, Grid)) = |grad, (v, p, grid), _| {
        let (v, p) = B::mix_shift_backward(v, p, grad, grid);
        [Some(v), Some(p)]
    }
);

backward_step!(
    ShiftSum < FusedOps,
    1 > ((usize, Grid)) =
        |grad, (skipped, grid), _| [Some(B::shift_sum_backward(grad, skipped, grid))]
);

backward_step!(
    CoefficientGrads<FusedOps, 2>(Vec<FloatTensor<B>>) = |grad, values, [_, for_gates]| [
        Some(grad.clone()),
        for_gates.then(|| B::inner_products(grad, values)),
    ]
);

impl<B: FusedOps, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
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

    fn mix_shift(v: FloatTensor<Self>, p: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        let output = B::mix_shift(v.primitive.clone(), p.primitive.clone(), grid);
        record!(MixShift, C, [v, p], (v.primitive, p.primitive, grid), output)
    }

    fn shift_sum(u: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        let skipped = u.primitive.shape()[1] - grid.tokens();
        let output = B::shift_sum(u.primitive, grid);
        record!(ShiftSum, C, [u], (skipped, grid), output)
    }

    fn constant(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(x.primitive)
    }

    fn with_coefficient_grads(
        x: FloatTensor<Self>,
        coefficients: FloatTensor<Self>,
        values: Vec<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let values = values.into_iter().map(|value| value.primitive).collect();
        record!(CoefficientGrads, C, [x, coefficients], values, x.primitive)
    }
}
