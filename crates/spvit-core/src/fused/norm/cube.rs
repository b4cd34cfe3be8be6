//! [`NormOps`] in kernels of CubeCL: a row for a cube at a time, whose units hold its values.

use burn::tensor::{Shape, ops::FloatTensor};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{NormOps, plain};
use crate::fused::cube::{
    CubeFloat, RowSplit, arrays, column_sums, cube_sum, earlier_at, keep_sums, known, register,
    register_all, row_cubes, served,
};

/// Cubes of a backward pass at most: each has sums of its own for the weight's gradient.
const SUMS: usize = 1024;

impl<R, F, I, BT> NormOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn affine_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        match split_of([&x, &weight, &bias]) {
            Some(split) => layer_norm(x, weight, bias, epsilon as f32, split),
            None => plain::layer_norm::<Self>(x, weight, bias, epsilon),
        }
    }

    fn affine_layer_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        earlier: Option<FloatTensor<Self>>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 3] {
        let split = split_of([&x, &weight, &grad]);
        match split.filter(|_| earlier.as_ref().is_none_or(|earlier| served([earlier]))) {
            Some(split) => layer_norm_backward([x, weight, grad], earlier, epsilon as f32, split),
            None => plain::layer_norm_backward::<Self>(x, weight, grad, earlier, epsilon),
        }
    }
}

/// None where the plain operations have to serve.
fn split_of<R: CubeRuntime>(tensors: [&CubeFloat<R>; 3]) -> Option<(RowSplit, usize)> {
    RowSplit::of(&tensors[0].shape).filter(|_| served(tensors))
}

fn layer_norm<R: CubeRuntime>(
    x: CubeFloat<R>,
    weight: CubeFloat<R>,
    bias: CubeFloat<R>,
    epsilon: f32,
    (split, rows): (RowSplit, usize),
) -> CubeFloat<R> {
    let shape = x.shape.clone();
    let launch = move |[x, weight, bias]: [CubeTensor<R>; 3], [output]: [CubeTensor<R>; 1]| {
        let client = x.client.clone();
        layer_norm_kernel::launch::<R>(
            &client,
            row_cubes(rows, u16::MAX as usize),
            split.dim(),
            x.into_array_arg(),
            weight.into_array_arg(),
            bias.into_array_arg(),
            output.into_array_arg(),
            epsilon,
            rows,
            split,
        );
    };
    let [output] = register("layer norm", [x, weight, bias], [shape], launch);
    output
}

fn layer_norm_backward<R: CubeRuntime>(
    around: [CubeFloat<R>; 3],
    earlier: Option<CubeFloat<R>>,
    epsilon: f32,
    (split, rows): (RowSplit, usize),
) -> [CubeFloat<R>; 3] {
    let shapes = vec![around[0].shape.clone(), Shape::new([rows.min(SUMS), 3 * split.width])];
    let launch = move |mut inputs: Vec<CubeTensor<R>>, outputs: Vec<CubeTensor<R>>| {
        let [x_grad, sums] = known(outputs);
        let [x, weight, grad] = known(inputs.drain(..3).collect());
        let client = x.client.clone();
        layer_norm_backward_kernel::launch::<R>(
            &client,
            row_cubes(rows, SUMS),
            split.dim(),
            x.into_array_arg(),
            weight.into_array_arg(),
            grad.into_array_arg(),
            arrays(inputs),
            x_grad.into_array_arg(),
            sums.into_array_arg(),
            epsilon,
            rows,
            split,
        );
    };
    let inputs = around.into_iter().chain(earlier).collect();
    let [x_grad, all] = known(register_all("layer norm's gradient", inputs, shapes, launch));
    let [weight, bias, of_x] = column_sums(all);
    // Where x is a residual sum, what a bias of its branch asks for.
    keep_sums(&x_grad, of_x);
    [x_grad, weight, bias]
}

/// The values of a row that a unit holds (0 beyond the row's end), and the row's mean.
#[cube]
fn load_row(
    x: &Array<f32>,
    start: usize,
    values: &mut Array<f32>,
    shared: &mut SharedMemory<f32>,
    #[comptime] split: RowSplit,
) -> f32 {
    let RowSplit { width, units, held } = split;
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..held {
        let column = UNIT_POS_X as usize + i * units;
        let mut value = 0.0f32;
        if column < width {
            value = x[start + column];
        }
        values[i] = value;
        sum += value;
    }
    cube_sum(sum, shared, units) / (width as f32)
}

/// Normalises what [`load_row`] gave; the inverse of the standard deviation.
#[cube]
fn normalise(
    values: &mut Array<f32>,
    mean: f32,
    epsilon: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] split: RowSplit,
) -> f32 {
    let RowSplit { width, units, held } = split;
    let mut squares = 0.0f32;
    #[unroll]
    for i in 0..held {
        if UNIT_POS_X as usize + i * units < width {
            let centred = values[i] - mean;
            values[i] = centred;
            squares += centred * centred;
        }
    }
    let variance = cube_sum(squares, shared, units) / (width as f32);
    let inverse = 1.0f32 / (variance + epsilon).sqrt();
    #[unroll]
    for i in 0..held {
        values[i] *= inverse;
    }
    inverse
}

#[cube(launch)]
fn layer_norm_kernel(
    x: &Array<f32>,
    weight: &Array<f32>,
    bias: &Array<f32>,
    output: &mut Array<f32>,
    epsilon: f32,
    rows: usize,
    #[comptime] split: RowSplit,
) {
    let RowSplit { width, units, held } = split;
    let mut shared = SharedMemory::<f32>::new(units);
    let mut values = Array::<f32>::new(held);
    let mut row = CUBE_POS_X as usize;
    while row < rows {
        let start = row * width;
        let mean = load_row(x, start, &mut values, &mut shared, split);
        normalise(&mut values, mean, epsilon, &mut shared, split);
        #[unroll]
        for i in 0..held {
            let column = UNIT_POS_X as usize + i * units;
            if column < width {
                output[start + column] = values[i] * weight[column] + bias[column];
            }
        }
        row += CUBE_COUNT_X as usize;
    }
}

#[cube(launch)]
fn layer_norm_backward_kernel(
    x: &Array<f32>,
    weight: &Array<f32>,
    grad: &Array<f32>,
    earlier: &Sequence<Array<f32>>,
    x_grad: &mut Array<f32>,
    sums: &mut Array<f32>,
    epsilon: f32,
    rows: usize,
    #[comptime] split: RowSplit,
) {
    let RowSplit { width, units, held } = split;
    let mut shared = SharedMemory::<f32>::new(units);
    let mut normal = Array::<f32>::new(held);
    let mut scaled = Array::<f32>::new(held);
    let mut weight_grad = Array::<f32>::new(held);
    let mut bias_grad = Array::<f32>::new(held);
    let mut x_sum = Array::<f32>::new(held);
    #[unroll]
    for i in 0..held {
        weight_grad[i] = 0.0f32;
        bias_grad[i] = 0.0f32;
        x_sum[i] = 0.0f32;
    }
    let mut row = CUBE_POS_X as usize;
    while row < rows {
        let start = row * width;
        let mean = load_row(x, start, &mut normal, &mut shared, split);
        let inverse = normalise(&mut normal, mean, epsilon, &mut shared, split);
        let mut sum = 0.0f32;
        let mut along = 0.0f32;
        #[unroll]
        for i in 0..held {
            let column = UNIT_POS_X as usize + i * units;
            let mut product = 0.0f32;
            if column < width {
                let slope = grad[start + column];
                weight_grad[i] += slope * normal[i];
                bias_grad[i] += slope;
                product = slope * weight[column];
            }
            scaled[i] = product;
            sum += product;
            along += product * normal[i];
        }
        let mean = cube_sum(sum, &mut shared, units) / (width as f32);
        let along = cube_sum(along, &mut shared, units) / (width as f32);
        #[unroll]
        for i in 0..held {
            let column = UNIT_POS_X as usize + i * units;
            if column < width {
                let own = (scaled[i] - mean - normal[i] * along) * inverse;
                let whole = own + earlier_at(earlier, start + column);
                x_grad[start + column] = whole;
                x_sum[i] += whole;
            }
        }
        row += CUBE_COUNT_X as usize;
    }
    let start = CUBE_POS_X as usize * (3 * width);
    #[unroll]
    for i in 0..held {
        let column = UNIT_POS_X as usize + i * units;
        if column < width {
            sums[start + column] = weight_grad[i];
            sums[start + width + column] = bias_grad[i];
            sums[start + 2 * width + column] = x_sum[i];
        }
    }
}
