//! Windows of a map, shifted and padded, and their relative positions.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData, backend::Backend};
use spvit_core::{FusedOps, TokenMap, fused};

use crate::{BlockShape, Window, relative::RelativePositions};

/// Added to the scores of tokens that a shift has brought into one window though they are not
/// neighbours.
const MASKED: f32 = -100.0;

/// How a map is cut into windows.
///
/// The map is rolled by the shift, padded at its lower and right end to whole windows, and cut
/// row-major, as timm does.
#[derive(Debug, Clone)]
pub(crate) struct Windows {
    /// From the map to the windows' tokens, one window after the other.
    partition: TokenMap,
    /// And back.
    merge: TokenMap,
    /// Number of windows.
    count: usize,
    /// Tokens of a window.
    tokens: usize,
    relative: RelativePositions,
    /// 0 or [`MASKED`] for every window and pair; empty where no window needs it.
    mask: Arc<Vec<f32>>,
}

impl Windows {
    pub fn new(shape: &BlockShape, window: Window) -> Self {
        let Window { size, shift } = window;
        let [rows, columns] = shape.map;
        let grid = [rows.div_ceil(size[0]), columns.div_ceil(size[1])];
        let padded = [grid[0] * size[0], grid[1] * size[1]];
        let (count, tokens) = (grid[0] * grid[1], size[0] * size[1]);
        // Row and column, in the rolled and padded map, of a window's token.
        let place = |window: usize, token: usize| {
            let row = window / grid[1] * size[0] + token / size[1];
            let column = window % grid[1] * size[1] + token % size[1];
            [row, column]
        };
        let all = || (0..count).flat_map(move |w| (0..tokens).map(move |t| (w, t)));
        let source = |(w, t): (usize, usize)| {
            let [row, column] = place(w, t);
            let inside = row < rows && column < columns;
            let from = (row + shift[0]) % rows * columns + (column + shift[1]) % columns;
            inside.then_some(from as u32)
        };
        let partition = TokenMap::new(all().map(source).collect(), rows * columns);
        // Bands between which a shift leaves a seam.
        let band = |position: usize, axis: usize| match shift[axis] {
            0 => 0,
            _ if position < padded[axis] - size[axis] => 0,
            s if position < padded[axis] - s => 1,
            _ => 2,
        };
        let region = |w: usize, t: usize| {
            let [row, column] = place(w, t);
            [band(row, 0), band(column, 1)]
        };
        let pair = |(w, t): (usize, usize)| {
            (0..tokens).map(move |s| match region(w, t) == region(w, s) {
                true => 0.0,
                false => MASKED,
            })
        };
        let mask = match shift {
            [0, 0] => Vec::new(),
            _ => all().flat_map(pair).collect(),
        };
        Self {
            merge: partition.inverse(),
            partition,
            count,
            tokens,
            relative: RelativePositions::of_window(size),
            mask: Arc::new(mask),
        }
    }

    /// `[batch, patches, dim]` to `[batch·windows, tokens of a window, dim]`.
    pub fn cut<B: FusedOps>(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, _, dim] = x.dims();
        let cut = fused::gather_tokens(x, &self.partition);
        cut.reshape([batch * self.count, self.tokens, dim])
    }

    /// The reverse of [`Windows::cut`].
    pub fn join<B: FusedOps>(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [items, tokens, dim] = x.dims();
        let rows = x.reshape([items / self.count, self.count * tokens, dim]);
        fused::gather_tokens(rows, &self.merge)
    }

    /// What attention adds to its scores: the table's values by relative position, and the mask.
    ///
    /// # Shapes
    /// - table: `[rows, heads]`, output: `[1 or windows, heads, tokens, tokens]`.
    pub fn bias<B: Backend>(&self, table: Tensor<B, 2>) -> Tensor<B, 4> {
        let (device, t) = (table.device(), self.tokens);
        let bias = self.relative.bias(table);
        if self.mask.is_empty() {
            return bias;
        }
        let mask = TensorData::new(self.mask.to_vec(), [self.count, 1, t, t]);
        bias + Tensor::<B, 4>::from_data(mask, &device)
    }
}
