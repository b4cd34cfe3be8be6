//! [`ShiftOps`] in kernels of CubeCL: a unit for each number of a result, which reads its neighbours.

use burn::tensor::{Shape, ops::FloatTensor};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{Grid, ShiftOps, plain};
use crate::fused::cube::{CubeFloat, UNITS, cube_sum, cubes, register, served};

/// Parts in which a share's gradient is added up, at most.
const PARTS: usize = 64;
/// Elements that a unit multiplies before there are more parts.
const ELEMENTS: usize = 8;

impl<R, F, I, BT> ShiftOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn mix_shift(v: FloatTensor<Self>, p: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        if !served([&v, &p]) {
            return plain::mix_shift::<Self>(v, p, grid);
        }
        let heads = p.shape[0];
        let (sizes, output) = Sizes::of(&v.shape, heads, grid);
        let outputs = output.num_elements();
        let launch = move |[v, p]: [CubeTensor<R>; 2], [output]: [CubeTensor<R>; 1]| {
            mix_shift_kernel::launch::<R>(
                &v.client.clone(),
                cubes(outputs),
                CubeDim::new_1d(UNITS),
                v.into_array_arg(),
                p.into_array_arg(),
                output.into_array_arg(),
                outputs,
                sizes,
                heads,
            );
        };
        let [output] = register("mix and shift", [v, p], [output], launch);
        output
    }

    fn mix_shift_backward(
        v: FloatTensor<Self>,
        p: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        grid: Grid,
    ) -> [FloatTensor<Self>; 2] {
        if !served([&v, &p, &grad]) {
            return plain::mix_shift_backward::<Self>(v, p, grad, grid);
        }
        let heads = p.shape[0];
        let (sizes, _) = Sizes::of(&v.shape, heads, grid);
        let shape = v.shape.clone();
        let inputs = shape.num_elements();
        let launch = move |[p, grad]: [CubeTensor<R>; 2], [v_grad]: [CubeTensor<R>; 1]| {
            mix_shift_backward_kernel::launch::<R>(
                &p.client.clone(),
                cubes(inputs),
                CubeDim::new_1d(UNITS),
                p.into_array_arg(),
                grad.into_array_arg(),
                v_grad.into_array_arg(),
                inputs,
                sizes,
                heads,
            );
        };
        let name = "mix and shift's gradient";
        let [v_grad] = register(name, [p.clone(), grad.clone()], [shape], launch);
        [v_grad, shares_backward(v, grad, p.shape.clone(), sizes)]
    }

    fn shift_sum(u: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        if !served([&u]) {
            return plain::shift_sum::<Self>(u, grid);
        }
        let (sizes, output) = Sizes::of(&u.shape, grid.positions(), grid);
        let outputs = output.num_elements();
        let launch = move |[u]: [CubeTensor<R>; 1], [output]: [CubeTensor<R>; 1]| {
            shift_sum_kernel::launch::<R>(
                &u.client.clone(),
                cubes(outputs),
                CubeDim::new_1d(UNITS),
                u.into_array_arg(),
                output.into_array_arg(),
                outputs,
                sizes,
            );
        };
        let [output] = register("shift and add", [u], [output], launch);
        output
    }

    fn shift_sum_backward(
        grad: FloatTensor<Self>,
        skipped: usize,
        grid: Grid,
    ) -> FloatTensor<Self> {
        if !served([&grad]) {
            return plain::shift_sum_backward::<Self>(grad, skipped, grid);
        }
        let (batch, d, positions) = (grad.shape[0], grad.shape[2], grid.positions());
        let sizes = Sizes { skipped, d, grid };
        let shape = Shape::new([batch, skipped + grid.tokens(), positions * d]);
        let inputs = shape.num_elements();
        let launch = move |[grad]: [CubeTensor<R>; 1], [u_grad]: [CubeTensor<R>; 1]| {
            shift_sum_backward_kernel::launch::<R>(
                &grad.client.clone(),
                cubes(inputs),
                CubeDim::new_1d(UNITS),
                grad.into_array_arg(),
                u_grad.into_array_arg(),
                inputs,
                sizes,
            );
        };
        let [u_grad] = register("shift and add's gradient", [grad], [shape], launch);
        u_grad
    }
}

/// The gradient of `P`, `[heads, k²]`.
fn shares_backward<R: CubeRuntime>(
    v: CubeFloat<R>,
    grad: CubeFloat<R>,
    shape: Shape,
    sizes: Sizes,
) -> CubeFloat<R> {
    let (heads, shares) = (shape[0], shape.num_elements());
    let outputs = grad.shape.num_elements();
    let parts = outputs.div_ceil(UNITS as usize * ELEMENTS).min(PARTS);
    let shapes = [Shape::new([shares, parts]), shape];
    let launch = move |[v, grad]: [CubeTensor<R>; 2], [sums, p_grad]: [CubeTensor<R>; 2]| {
        let client = v.client.clone();
        partial_shares_kernel::launch::<R>(
            &client,
            CubeCount::Static(parts as u32, shares as u32, 1),
            CubeDim::new_1d(UNITS),
            v.into_array_arg(),
            grad.into_array_arg(),
            sums.clone().into_array_arg(),
            outputs,
            sizes,
            heads,
        );
        shares_kernel::launch::<R>(
            &client,
            cubes(shares),
            CubeDim::new_1d(UNITS),
            sums.into_array_arg(),
            p_grad.into_array_arg(),
            shares,
            parts,
        );
    };
    let [_, p_grad] = register("gradient of the shares", [v, grad], shapes, launch);
    p_grad
}

/// The sizes that a kernel is compiled for: any number of images runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sizes {
    skipped: usize,
    d: usize,
    grid: Grid,
}

impl Sizes {
    /// Those of `[b, s + n, parts·d]`, and the shape `[b, n, d]` of what is computed from it.
    fn of(shape: &Shape, parts: usize, grid: Grid) -> (Self, Shape) {
        let (skipped, d) = (shape[1] - grid.tokens(), shape[2] / parts);
        (Self { skipped, d, grid }, Shape::new([shape[0], grid.tokens(), d]))
    }
}

/// `x[start + stride·m]` for the token `m` that kernel position `k` reads for `token`, 0 off the map
/// ([`Grid::neighbour`]).
#[cube]
fn neighbour(
    x: &Array<f32>,
    token: usize,
    k: usize,
    start: usize,
    stride: usize,
    #[comptime] grid: Grid,
) -> f32 {
    let half = comptime!(grid.kernel / 2);
    let row = token / grid.width + k % grid.kernel;
    let column = token % grid.width + k / grid.kernel;
    let inside = row >= half
        && row < comptime!(grid.height + half)
        && column >= half
        && column < comptime!(grid.width + half);
    let mut value = 0.0f32;
    if inside {
        value = x[start + ((row - half) * grid.width + column - half) * stride];
    }
    value
}

/// The token of place `i` of `[b, n, d]`.
#[cube]
fn token_of(i: usize, #[comptime] sizes: Sizes) -> usize {
    (i / sizes.d) % comptime!(sizes.grid.tokens())
}

/// Where the map of the image of place `i` of `[b, n, d]` begins in `[b, s + n, parts·d]`, at the same of
/// the d numbers.
#[cube]
fn map_of(i: usize, parts: usize, #[comptime] sizes: Sizes) -> usize {
    let Sizes { skipped, d, grid } = sizes;
    let image = i / comptime!(d * grid.tokens());
    (image * comptime!(skipped + grid.tokens()) + skipped) * (parts * d) + i % d
}

/// What of `grad` `[b, n, d]` comes back through kernel position `k` to place `i` of `[b, s + n, parts·d]`.
#[cube]
fn returned(grad: &Array<f32>, i: usize, k: usize, parts: usize, #[comptime] sizes: Sizes) -> f32 {
    let Sizes { skipped, d, grid } = sizes;
    let row = i / (parts * d);
    let rows = comptime!(skipped + grid.tokens());
    let place = row % rows;
    let mut slope = 0.0f32;
    if place >= skipped {
        let start = row / rows * comptime!(grid.tokens() * d) + i % d;
        // The tokens that read this one lie where it would read with the kernel turned.
        let turned = comptime!(grid.positions() - 1) - k;
        slope = neighbour(grad, place - skipped, turned, start, d, grid);
    }
    slope
}

#[cube(launch)]
fn mix_shift_kernel(
    v: &Array<f32>,
    p: &Array<f32>,
    output: &mut Array<f32>,
    outputs: usize,
    #[comptime] sizes: Sizes,
    #[comptime] heads: usize,
) {
    let Sizes { d, grid, .. } = sizes;
    let positions = comptime!(grid.positions());
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < outputs {
        let (token, start) = (token_of(i, sizes), map_of(i, heads, sizes));
        let mut sum = 0.0f32;
        for k in 0..positions {
            for h in 0..heads {
                let value = neighbour(v, token, k, start + h * d, heads * d, grid);
                sum += p[h * positions + k] * value;
            }
        }
        output[i] = sum;
        i += all;
    }
}

#[cube(launch)]
fn mix_shift_backward_kernel(
    p: &Array<f32>,
    grad: &Array<f32>,
    v_grad: &mut Array<f32>,
    inputs: usize,
    #[comptime] sizes: Sizes,
    #[comptime] heads: usize,
) {
    let positions = comptime!(sizes.grid.positions());
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < inputs {
        let h = (i / sizes.d) % heads;
        let mut sum = 0.0f32;
        for k in 0..positions {
            sum += p[h * positions + k] * returned(grad, i, k, heads, sizes);
        }
        v_grad[i] = sum;
        i += all;
    }
}

/// Sums for a head and a position, `CUBE_POS_Y`, over the elements that a cube takes.
#[cube(launch)]
fn partial_shares_kernel(
    v: &Array<f32>,
    grad: &Array<f32>,
    sums: &mut Array<f32>,
    outputs: usize,
    #[comptime] sizes: Sizes,
    #[comptime] heads: usize,
) {
    let Sizes { d, grid, .. } = sizes;
    let positions = comptime!(grid.positions());
    let h = CUBE_POS_Y as usize / positions;
    let k = CUBE_POS_Y as usize % positions;
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut sum = 0.0f32;
    let mut i = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    while i < outputs {
        let start = map_of(i, heads, sizes) + h * d;
        sum += grad[i] * neighbour(v, token_of(i, sizes), k, start, heads * d, grid);
        i += all;
    }
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let sum = cube_sum(sum, &mut shared, comptime!(UNITS as usize));
    if UNIT_POS_X == 0 {
        sums[(CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize] = sum;
    }
}

#[cube(launch)]
fn shares_kernel(sums: &Array<f32>, output: &mut Array<f32>, shares: usize, parts: usize) {
    let i = ABSOLUTE_POS;
    if i < shares {
        let mut sum = 0.0f32;
        for part in 0..parts {
            sum += sums[i * parts + part];
        }
        output[i] = sum;
    }
}

#[cube(launch)]
fn shift_sum_kernel(
    u: &Array<f32>,
    output: &mut Array<f32>,
    outputs: usize,
    #[comptime] sizes: Sizes,
) {
    let Sizes { d, grid, .. } = sizes;
    let positions = comptime!(grid.positions());
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < outputs {
        let (token, start) = (token_of(i, sizes), map_of(i, positions, sizes));
        let mut sum = 0.0f32;
        for k in 0..positions {
            sum += neighbour(u, token, k, start + k * d, positions * d, grid);
        }
        output[i] = sum;
        i += all;
    }
}

#[cube(launch)]
fn shift_sum_backward_kernel(
    grad: &Array<f32>,
    u_grad: &mut Array<f32>,
    inputs: usize,
    #[comptime] sizes: Sizes,
) {
    let positions = comptime!(sizes.grid.positions());
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < inputs {
        u_grad[i] = returned(grad, i, (i / sizes.d) % positions, positions, sizes);
        i += all;
    }
}
