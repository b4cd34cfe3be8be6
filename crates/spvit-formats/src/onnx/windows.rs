//! Indices that cut a map into windows or cells, and what attention in windows adds to its scores.

use super::network::{BlockDescription, WindowDescription};

/// Added to the scores of tokens that a shift has brought into one window though they are not
/// neighbours.
const MASKED: f32 = -100.0;

/// A map in windows; `rolled` below is the map after the shift and padding.
pub(super) struct Windows {
    map: [usize; 2],
    size: [usize; 2],
    shift: [usize; 2],
    /// Rows and columns of windows.
    grid: [usize; 2],
}

impl Windows {
    pub(super) fn new(block: &BlockDescription, window: WindowDescription) -> Self {
        let WindowDescription { size, shift } = window;
        let grid = [0, 1].map(|axis| block.map[axis].div_ceil(size[axis]));
        Self { map: block.map, size, shift, grid }
    }

    /// Number of windows, W.
    pub(super) fn count(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Tokens of a window, t.
    pub(super) fn tokens(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// A name that all blocks with the same windows of the same map have.
    pub(super) fn name(&self) -> String {
        let [map, size, shift] =
            [self.map, self.size, self.shift].map(|[rows, columns]| format!("{rows}x{columns}"));
        format!("windows.{map}.{size}.{shift}")
    }

    /// Row and column, in the rolled map, of a window's token.
    fn place(&self, window: usize, token: usize) -> [usize; 2] {
        let of_window = [window / self.grid[1], window % self.grid[1]];
        let in_window = [token / self.size[1], token % self.size[1]];
        [0, 1].map(|axis| of_window[axis] * self.size[axis] + in_window[axis])
    }

    /// For every token of every window, [W·t], the map's token; `None` where it is padding.
    pub(super) fn partition(&self) -> Vec<Option<usize>> {
        let ([rows, columns], shift) = (self.map, self.shift);
        let source = |i: usize| {
            let [row, column] = self.place(i / self.tokens(), i % self.tokens());
            let from = (row + shift[0]) % rows * columns + (column + shift[1]) % columns;
            (row < rows && column < columns).then_some(from)
        };
        (0..self.count() * self.tokens()).map(source).collect()
    }

    /// For every token of the map, the place in the windows' tokens.
    pub(super) fn reverse(&self) -> Vec<Option<usize>> {
        let mut out = vec![None; self.map[0] * self.map[1]];
        for (place, source) in self.partition().into_iter().enumerate() {
            if let Some(source) = source {
                out[source] = Some(place);
            }
        }
        out
    }

    /// Rows of the bias table.
    pub(super) fn table_rows(&self) -> usize {
        rows_of(self.size)
    }

    /// The table's [rows, heads] values by relative position, [heads, t, t].
    pub(super) fn bias(&self, table: &[f32], heads: usize) -> Vec<f32> {
        let t = self.tokens();
        let row = |pair: usize| row_of(self.size, pair / t, pair % t);
        let value = |i: usize| table[row(i % (t * t)) * heads + i / (t * t)];
        (0..heads * t * t).map(value).collect()
    }

    /// Whether windows hold tokens that are no neighbours.
    pub(super) fn shifted(&self) -> bool {
        self.shift != [0, 0]
    }

    /// 0 or [`MASKED`] for every window and pair of its tokens, [W, t, t].
    pub(super) fn mask(&self) -> Vec<f32> {
        // Bands of the rolled map between which the shift leaves a seam.
        let band = |position: usize, axis: usize| {
            let padded = self.grid[axis] * self.size[axis];
            match self.shift[axis] {
                0 => 0,
                _ if position < padded - self.size[axis] => 0,
                shift if position < padded - shift => 1,
                _ => 2,
            }
        };
        let t = self.tokens();
        let mut out = Vec::with_capacity(self.count() * t * t);
        for window in 0..self.count() {
            let places = (0..t).map(|token| self.place(window, token));
            let regions: Vec<_> =
                places.map(|[row, column]| [band(row, 0), band(column, 1)]).collect();
            for from in &regions {
                out.extend(regions.iter().map(|to| if from == to { 0.0 } else { MASKED }));
            }
        }
        out
    }
}

/// Number of relative positions in a rectangle of tokens.
fn rows_of(size: [usize; 2]) -> usize {
    size.map(|side| 2 * side - 1).iter().product()
}

/// The bias table's row for one token of a rectangle looking at another.
fn row_of([rows, columns]: [usize; 2], from: usize, to: usize) -> usize {
    let down = from / columns + rows - 1 - to / columns;
    let right = from % columns + columns - 1 - to % columns;
    down * (2 * columns - 1) + right
}

/// Rows of the bias table of a class token and a map.
pub(super) fn sequence_rows(map: [usize; 2]) -> usize {
    rows_of(map) + 3
}

/// For every pair of a class token and a map's tokens, [T, T], the bias table's row. The last three
/// rows are for the class token looking at the map, the map looking at it, and itself.
pub(super) fn sequence_places(map: [usize; 2]) -> Vec<i64> {
    let (own, t) = (rows_of(map), map.iter().product::<usize>() + 1);
    let row = |pair: usize| match (pair / t, pair % t) {
        (0, 0) => own + 2,
        (0, _) => own,
        (_, 0) => own + 1,
        (from, to) => row_of(map, from - 1, to - 1),
    };
    (0..t * t).map(|pair| row(pair) as i64).collect()
}

/// The four tokens of every cell of 2×2, column by column; `None` beyond the end of an odd map.
pub(super) fn cells([rows, columns]: [usize; 2]) -> Vec<Option<usize>> {
    let across = columns.div_ceil(2);
    let token = |i: usize| {
        let (cell, place) = (i / 4, i % 4);
        let (row, column) = (2 * (cell / across) + place % 2, 2 * (cell % across) + place / 2);
        (row < rows && column < columns).then_some(row * columns + column)
    };
    (0..4 * rows.div_ceil(2) * across).map(token).collect()
}
