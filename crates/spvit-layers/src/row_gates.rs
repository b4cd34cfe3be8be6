//! Gates over the rows of a matrix.

use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

/// Gates over all rows of a matrix, which lie among those of other blocks.
#[derive(Debug, Clone)]
pub struct RowGates<B: Backend> {
    all: Tensor<B, 1>,
    first: usize,
    count: usize,
}

impl<B: Backend> RowGates<B> {
    /// So many gates among others, `[gates]`, from the `first` on.
    pub fn new(all: Tensor<B, 1>, first: usize, count: usize) -> Self {
        Self { all, first, count }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The gates by themselves, `[count]`.
    pub fn values(&self) -> Tensor<B, 1> {
        self.all.clone().narrow(0, self.first, self.count)
    }
}

impl<B: FusedOps> RowGates<B> {
    /// The same outside any graph.
    pub fn constant(&self) -> Self {
        Self { all: fused::constant(self.all.clone()), ..*self }
    }

    /// Every row times its gate.
    ///
    /// # Shapes
    /// - w: `[count, n]`, output: the same.
    pub fn over(&self, w: Tensor<B, 2>) -> Tensor<B, 2> {
        fused::gated_rows(w, self.all.clone(), self.first)
    }
}

impl<B: Backend> From<Tensor<B, 1>> for RowGates<B> {
    fn from(all: Tensor<B, 1>) -> Self {
        let [count] = all.dims();
        Self { all, first: 0, count }
    }
}
