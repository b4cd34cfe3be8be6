//! [`ShiftOps`] in a graph.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::{TensorMetadata, ops::FloatTensor};

use super::{Grid, ShiftOps};
use crate::fused::graph::{backward_step, record};

backward_step! {
    MixShift of ShiftOps, 2 parents, keeping (FloatTensor<B>, FloatTensor<B>, Grid) =>
    |grad, (v, p, grid), _| B::mix_shift_backward(v, p, grad, grid).map(Some)
}

backward_step! {
    ShiftSum of ShiftOps, 1 parents, keeping (usize, Grid) =>
    |grad, (skipped, grid), _| [Some(B::shift_sum_backward(grad, skipped, grid))]
}

impl<B: ShiftOps, C: CheckpointStrategy> ShiftOps for Autodiff<B, C> {
    fn mix_shift(v: FloatTensor<Self>, p: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        let output = B::mix_shift(v.primitive.clone(), p.primitive.clone(), grid);
        record!(MixShift, C, [v, p], (v.primitive, p.primitive, grid), output)
    }

    fn shift_sum(u: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        let skipped = u.primitive.shape()[1] - grid.tokens();
        let output = B::shift_sum(u.primitive, grid);
        record!(ShiftSum, C, [u], (skipped, grid), output)
    }
}
