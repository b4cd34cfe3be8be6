//! Sums over the rows of a matrix.

use std::{
    any::Any,
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use burn::tensor::Shape;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use burn_ir::TensorId;
use cubecl::prelude::*;

use super::{CubeFloat, arrays, register};

/// Columns and lanes of a cube that adds up columns.
pub(in crate::fused) const COLUMNS: u32 = 32;
pub(in crate::fused) const LANES: u32 = 8;

/// Sums over the rows of `[rows, N·width]`, its N parts `[width]` apart.
pub(in crate::fused) fn column_sums<R: CubeRuntime, const N: usize>(
    all: CubeFloat<R>,
) -> [CubeFloat<R>; N] {
    let (rows, width) = (all.shape[0], all.shape[1] / N);
    let launch = move |[all]: [CubeTensor<R>; 1], parts: [CubeTensor<R>; N]| {
        let client = all.client.clone();
        column_sums_kernel::launch::<R>(
            &client,
            CubeCount::Static((N * width).div_ceil(COLUMNS as usize) as u32, 1, 1),
            CubeDim::new_2d(COLUMNS, LANES),
            all.into_array_arg(),
            arrays(parts),
            rows,
            width,
        );
    };
    register("sums over rows", [all], [(); N].map(|()| Shape::new([width])), launch)
}

/// A gradient, and the sums over its rows that came of computing it.
type KnownSums = (TensorId, Box<dyn Any + Send>);

/// Those of the last gradients of all devices that have them.
static KNOWN_SUMS: Mutex<VecDeque<KnownSums>> = Mutex::new(VecDeque::new());

/// As many gradients' sums are kept: more than devices compute one at a time.
const KEPT: usize = 64;

/// Keeps the sums `[width]` over a gradient's rows: they cost little where it is computed, and where they are
/// asked for, [`known_sums`] saves reading all of it.
pub(in crate::fused) fn keep_sums<R: CubeRuntime>(grad: &CubeFloat<R>, sums: CubeFloat<R>) {
    let mut all = KNOWN_SUMS.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = all.len().min(KEPT - 1);
    let forgotten = all.split_off(kept);
    all.push_front((grad.id, Box::new(sums)));
    drop(all);
    // What a tensor's end does on its device does not wait for this lock, nor this lock for it.
    drop(forgotten);
}

/// What [`keep_sums`] was given for this gradient, if that is not long ago.
pub(in crate::fused) fn known_sums<R: CubeRuntime>(grad: &CubeFloat<R>) -> Option<CubeFloat<R>> {
    let mut all = KNOWN_SUMS.lock().unwrap_or_else(PoisonError::into_inner);
    let place = all.iter().position(|(id, _)| *id == grad.id)?;
    let (_, sums) = all.remove(place)?;
    sums.downcast().ok().map(|sums| *sums)
}

#[cube(launch)]
fn column_sums_kernel(
    x: &Array<f32>,
    parts: &mut Sequence<Array<f32>>,
    rows: usize,
    #[comptime] width: usize,
) {
    let all = comptime!(parts.len() * width);
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * LANES) as usize));
    let column = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    let mut sum = 0.0f32;
    if column < all {
        let mut row = UNIT_POS_Y as usize;
        while row < rows {
            sum += x[row * all + column];
            row += CUBE_DIM_Y as usize;
        }
    }
    let sum = column_sum(sum, &mut shared);
    if UNIT_POS_Y == 0 {
        #[unroll]
        for part in 0..parts.len() {
            let first = comptime!(part * width);
            if column >= first && column < first + width {
                parts.index_mut(part)[column - first] = sum;
            }
        }
    }
}

/// Sum of a value over the lanes of a cube of [`COLUMNS`] times [`LANES`] units; every unit has its
/// column's.
#[cube]
pub(in crate::fused) fn column_sum(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let columns = CUBE_DIM_X as usize;
    // Others may still read the sums before these.
    sync_cube();
    shared[UNIT_POS_Y as usize * columns + UNIT_POS_X as usize] = value;
    sync_cube();
    let mut sum = 0.0f32;
    for lane in 0..CUBE_DIM_Y as usize {
        sum += shared[lane * columns + UNIT_POS_X as usize];
    }
    sum
}
