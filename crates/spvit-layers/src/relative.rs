//! Attention's bias for relative positions.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, backend::Backend};

/// For every pair of tokens that attention looks at, the row of the bias table.
#[derive(Debug, Clone)]
pub(crate) struct RelativePositions {
    /// `[tokens, tokens]`, the token that looks first.
    rows: Arc<Vec<i32>>,
    tokens: usize,
}

impl RelativePositions {
    /// Of a window of this size: row `(Δy + h - 1)·(2w - 1) + Δx + w - 1`.
    pub fn of_window(size: [usize; 2]) -> Self {
        let tokens = size[0] * size[1];
        let rows = (0..tokens * tokens).map(|i| {
            let (from, to) = (i / tokens, i % tokens);
            let row = from / size[1] + size[0] - 1 - to / size[1];
            let column = from % size[1] + size[1] - 1 - to % size[1];
            (row * (2 * size[1] - 1) + column) as i32
        });
        Self { rows: Arc::new(rows.collect()), tokens }
    }

    /// Of a map of this size after a class token (BEiT's). The table's last three rows are for the
    /// class token looking at the map, the map looking at it, and itself.
    pub fn after_class_token(size: [usize; 2]) -> Self {
        let map = Self::of_window(size);
        let own = ((2 * size[0] - 1) * (2 * size[1] - 1)) as i32;
        let tokens = map.tokens + 1;
        let rows = (0..tokens * tokens).map(|i| match (i / tokens, i % tokens) {
            (0, 0) => own + 2,
            (0, _) => own,
            (_, 0) => own + 1,
            (from, to) => map.rows[(from - 1) * map.tokens + to - 1],
        });
        Self { rows: Arc::new(rows.collect()), tokens }
    }

    /// The table's values by relative position.
    ///
    /// # Shapes
    /// - table: `[rows, heads]`, output: `[1, heads, tokens, tokens]`.
    pub fn bias<B: Backend>(&self, table: Tensor<B, 2>) -> Tensor<B, 4> {
        let heads = table.dims()[1];
        let index = Tensor::<B, 1, Int>::from_ints(self.rows.as_slice(), &table.device());
        table.select(0, index).transpose().reshape([1, heads, self.tokens, self.tokens])
    }
}
