//! Rows of a matrix, each for a cube, and sums over a cube's units.

use burn::tensor::Shape;
use cubecl::prelude::*;

use super::UNITS;

/// Values of a row that a unit holds at most.
const HELD: usize = 16;

/// How a cube's units share the values of a row: what a kernel is compiled for, which any number of
/// rows runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::fused) struct RowSplit {
    pub(in crate::fused) width: usize,
    pub(in crate::fused) units: usize,
    /// Values that a unit holds.
    pub(in crate::fused) held: usize,
}

impl RowSplit {
    /// That of the last dimension, and how many rows there are; none where a row is too long.
    pub(in crate::fused) fn of(shape: &Shape) -> Option<(Self, usize)> {
        let width = *shape.as_slice().last()?;
        // Fewer units than values: adding up over a cube costs more than a few values a unit.
        let units = (width.next_power_of_two() / 4).clamp(32, UNITS as usize);
        let held = width.div_ceil(units);
        let fits = width > 0 && held <= HELD;
        fits.then(|| (Self { width, units, held }, shape.num_elements() / width))
    }

    pub(in crate::fused) fn dim(&self) -> CubeDim {
        CubeDim::new_1d(self.units as u32)
    }
}

/// Cubes that share so many rows, at most as many as said.
pub(in crate::fused) fn row_cubes(rows: usize, most: usize) -> CubeCount {
    CubeCount::Static(rows.min(most) as u32, 1, 1)
}

/// Sum of a value over the units of a cube of one dimension, whose number is a power of two;
/// every unit has the sum.
#[cube]
pub(in crate::fused) fn cube_sum(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] units: usize,
) -> f32 {
    cube_fold(value, shared, units, false)
}

/// The greatest value, as [`cube_sum`].
#[cube]
pub(in crate::fused) fn cube_max(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] units: usize,
) -> f32 {
    cube_fold(value, shared, units, true)
}

#[cube]
fn cube_fold(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] units: usize,
    #[comptime] greatest: bool,
) -> f32 {
    let unit = UNIT_POS_X as usize;
    // Others may still read what came of the values before these.
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let steps = comptime!(units.ilog2());
    #[unroll]
    for step in 0..steps {
        let half = comptime!(units >> (step + 1));
        if unit < half {
            let other = shared[unit + half];
            if greatest {
                shared[unit] = max(shared[unit], other);
            } else {
                shared[unit] += other;
            }
        }
        sync_cube();
    }
    shared[0]
}
