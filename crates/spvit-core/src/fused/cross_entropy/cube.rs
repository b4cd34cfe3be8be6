//! [`CrossEntropyOps`] in a kernel of CubeCL: a row for a cube at a time, whose units hold its values.

use burn::tensor::{
    Shape,
    ops::{FloatTensor, FloatTensorOps},
};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{CrossEntropyOps, plain};
use crate::fused::cube::{RowSplit, cube_max, cube_sum, register, row_cubes, served};

impl<R, F, I, BT> CrossEntropyOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        let split = RowSplit::of(&logits.shape).filter(|_| served([&logits, &targets]));
        let Some((split, rows)) = split else {
            return plain::cross_entropy::<Self>(logits, targets);
        };
        let shapes = [Shape::new([rows]), logits.shape.clone()];
        let launch = move |[x, t]: [CubeTensor<R>; 2], [losses, gradient]: [CubeTensor<R>; 2]| {
            let client = x.client.clone();
            cross_entropy_kernel::launch::<R>(
                &client,
                row_cubes(rows, u16::MAX as usize),
                split.dim(),
                x.into_array_arg(),
                t.into_array_arg(),
                losses.into_array_arg(),
                gradient.into_array_arg(),
                rows,
                split,
            );
        };
        let [losses, gradient] = register("cross-entropy", [logits, targets], shapes, launch);
        [Self::float_sum(losses), gradient]
    }
}

#[cube(launch)]
fn cross_entropy_kernel(
    x: &Array<f32>,
    targets: &Array<f32>,
    losses: &mut Array<f32>,
    gradient: &mut Array<f32>,
    rows: usize,
    #[comptime] split: RowSplit,
) {
    let RowSplit { width, units, held } = split;
    let mut shared = SharedMemory::<f32>::new(units);
    let mut values = Array::<f32>::new(held);
    let mut shares = Array::<f32>::new(held);
    let mut row = CUBE_POS_X as usize;
    while row < rows {
        let start = row * width;
        // Units beyond the row's end take its first value, which changes no maximum.
        let mut most = x[start];
        #[unroll]
        for i in 0..held {
            let column = UNIT_POS_X as usize + i * units;
            if column < width {
                let value = x[start + column];
                values[i] = value;
                most = max(most, value);
            }
        }
        let most = cube_max(most, &mut shared, units);
        let mut sum = 0.0f32;
        let mut wanted = 0.0f32;
        let mut along = 0.0f32;
        #[unroll]
        for i in 0..held {
            let column = UNIT_POS_X as usize + i * units;
            if column < width {
                let target = targets[start + column];
                let shifted = values[i] - most;
                let share = shifted.exp();
                shares[i] = share;
                sum += share;
                wanted += target;
                along += target * shifted;
            }
        }
        let sum = cube_sum(sum, &mut shared, units);
        let wanted = cube_sum(wanted, &mut shared, units);
        let along = cube_sum(along, &mut shared, units);
        if UNIT_POS_X == 0 {
            losses[row] = wanted * sum.ln() - along;
        }
        #[unroll]
        for i in 0..held {
            let column = UNIT_POS_X as usize + i * units;
            if column < width {
                gradient[start + column] = shares[i] / sum * wanted - targets[start + column];
            }
        }
        row += CUBE_COUNT_X as usize;
    }
}
