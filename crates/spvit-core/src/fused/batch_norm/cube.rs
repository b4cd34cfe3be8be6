//! [`BatchNormOps`] in kernels of CubeCL: sums of parts of the rows, then the rows themselves, for
//! which every cube adds the parts up anew.

use burn::tensor::{
    FloatDType, Shape,
    ops::{FloatTensor, FloatTensorOps},
};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{BatchNormOps, NormParameters, plain, unbiased};
use crate::fused::cube::{COLUMNS, LANES, column_sum, column_sums, register, served};

/// Parts of the rows at most.
const PARTS: usize = 64;
/// Rows of a part before there are more.
const ROWS: usize = 32;

impl<R, F, I, BT> BatchNormOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn batch_norm_relu(
        x: FloatTensor<Self>,
        parameters: NormParameters<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 4] {
        let NormParameters { offset, weight, bias } = parameters.clone();
        if !served([&x, &offset, &weight, &bias]) {
            return plain::batch_norm_relu::<Self>(x, parameters, epsilon);
        }
        let parts = Parts::of(&x.shape);
        let launch = move |[x]: [CubeTensor<R>; 1], [sums]: [CubeTensor<R>; 1]| {
            statistics_kernel::launch::<R>(
                &x.client.clone(),
                parts.cubes(),
                CubeDim::new_2d(COLUMNS, LANES),
                x.into_array_arg(),
                sums.into_array_arg(),
                parts.rows,
                parts.length,
                parts.width,
            );
        };
        let [sums] = register("batch norm's sums", [x.clone()], [parts.sums()], launch);
        let vector = || Shape::new([parts.width]);
        let shapes = [x.shape.clone(), vector(), vector(), vector()];
        let launch =
            move |[x, offset, weight, bias, sums]: [CubeTensor<R>; 5],
                  [output, mean, variance, unbiased_variance]: [CubeTensor<R>; 4]| {
                batch_norm_kernel::launch::<R>(
                    &x.client.clone(),
                    parts.cubes(),
                    CubeDim::new_2d(COLUMNS, LANES),
                    x.into_array_arg(),
                    offset.into_array_arg(),
                    weight.into_array_arg(),
                    bias.into_array_arg(),
                    sums.into_array_arg(),
                    output.into_array_arg(),
                    mean.into_array_arg(),
                    variance.into_array_arg(),
                    unbiased_variance.into_array_arg(),
                    epsilon as f32,
                    unbiased(parts.rows) as f32,
                    parts.rows,
                    parts.length,
                    parts.width,
                );
            };
        register("batch norm", [x, offset, weight, bias, sums], shapes, launch)
    }

    fn batch_norm_relu_backward(
        x: FloatTensor<Self>,
        parameters: NormParameters<Self>,
        outputs: [FloatTensor<Self>; 3],
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 4] {
        let NormParameters { offset, weight, .. } = parameters.clone();
        let [y, mean, variance] = outputs.clone();
        if !served([&x, &offset, &weight, &y, &mean, &variance, &grad]) {
            return plain::batch_norm_relu_backward::<Self>(x, parameters, outputs, grad, epsilon);
        }
        let parts = Parts::of(&x.shape);
        let launch = move |[x, offset, mean, variance, y, grad]: [CubeTensor<R>; 6],
                           [sums]: [CubeTensor<R>; 1]| {
            gradient_sums_kernel::launch::<R>(
                &x.client.clone(),
                parts.cubes(),
                CubeDim::new_2d(COLUMNS, LANES),
                x.into_array_arg(),
                offset.into_array_arg(),
                mean.into_array_arg(),
                variance.into_array_arg(),
                y.into_array_arg(),
                grad.into_array_arg(),
                sums.into_array_arg(),
                epsilon as f32,
                parts.rows,
                parts.length,
                parts.width,
            );
        };
        let around = [x, offset, mean, variance, y, grad];
        let [sums] = register("batch norm's gradients", around.clone(), [parts.sums()], launch);
        let launch = move |[x, offset, mean, variance, y, grad, weight, sums]: [CubeTensor<R>;
                               8],
                           [x_grad]: [CubeTensor<R>; 1]| {
            batch_norm_backward_kernel::launch::<R>(
                &x.client.clone(),
                parts.cubes(),
                CubeDim::new_2d(COLUMNS, LANES),
                x.into_array_arg(),
                offset.into_array_arg(),
                mean.into_array_arg(),
                variance.into_array_arg(),
                weight.into_array_arg(),
                y.into_array_arg(),
                grad.into_array_arg(),
                sums.into_array_arg(),
                x_grad.into_array_arg(),
                epsilon as f32,
                parts.rows,
                parts.length,
                parts.width,
            );
        };
        let [x, offset, mean, variance, y, grad] = around;
        let (shape, device) = (x.shape.clone(), x.client.device().clone());
        let inputs = [x, offset, mean, variance, y, grad, weight, sums.clone()];
        let [x_grad] = register("batch norm's gradient", inputs, [shape], launch);
        let [bias_grad, weight_grad] = column_sums(sums);
        // The mean takes away whatever is added to all rows.
        let offset_grad = Self::float_zeros(Shape::new([parts.width]), &device, FloatDType::F32);
        [x_grad, offset_grad, weight_grad, bias_grad]
    }
}

/// How rows are shared among cubes.
#[derive(Clone, Copy)]
struct Parts {
    rows: usize,
    width: usize,
    /// Rows of a part; the last may have fewer.
    length: usize,
}

impl Parts {
    fn of(shape: &Shape) -> Self {
        let width = shape[shape.num_dims() - 1];
        let rows = shape.num_elements() / width;
        Self { rows, width, length: rows.div_ceil(PARTS).max(ROWS) }
    }

    fn count(&self) -> usize {
        self.rows.div_ceil(self.length)
    }

    /// One for every part of some columns.
    fn cubes(&self) -> CubeCount {
        let columns = self.width.div_ceil(COLUMNS as usize);
        CubeCount::Static(columns as u32, self.count() as u32, 1)
    }

    /// Two sums for every part.
    fn sums(&self) -> Shape {
        Shape::new([self.count(), 2 * self.width])
    }
}

#[cube]
fn column() -> usize {
    (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize
}

/// The first row of a unit, from which it takes every [`LANES`]th, and the end of its part.
#[cube]
fn lane_of_part(rows: usize, length: usize) -> (usize, usize) {
    let start = CUBE_POS_Y as usize * length;
    (start + UNIT_POS_Y as usize, min(start + length, rows))
}

/// The first (`start` 0) or second (`start` width) sums of all parts together, for the unit's column.
#[cube]
fn all_parts(
    sums: &Array<f32>,
    start: usize,
    shared: &mut SharedMemory<f32>,
    #[comptime] width: usize,
) -> f32 {
    let column = column();
    let mut sum = 0.0f32;
    if column < width {
        let mut part = UNIT_POS_Y as usize;
        while part < CUBE_COUNT_Y as usize {
            sum += sums[part * (2 * width) + start + column];
            part += CUBE_DIM_Y as usize;
        }
    }
    column_sum(sum, shared)
}

/// What the input of a column is centred by before the offset is added, and the inverse of its
/// standard deviation.
#[cube]
fn standard(
    offset: &Array<f32>,
    mean: &Array<f32>,
    variance: &Array<f32>,
    epsilon: f32,
    column: usize,
) -> (f32, f32) {
    (mean[column] - offset[column], 1.0f32 / (variance[column] + epsilon).sqrt())
}

/// The gradient before ReLU.
#[cube]
fn slope_at(y: &Array<f32>, grad: &Array<f32>, place: usize) -> f32 {
    let mut slope = 0.0f32;
    if y[place] > 0.0f32 {
        slope = grad[place];
    }
    slope
}

/// Sum of every part, and of its squared distances from its own mean.
#[cube(launch)]
fn statistics_kernel(
    x: &Array<f32>,
    sums: &mut Array<f32>,
    rows: usize,
    length: usize,
    #[comptime] width: usize,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * LANES) as usize));
    let column = column();
    let (first, end) = lane_of_part(rows, length);
    let mut sum = 0.0f32;
    if column < width {
        let mut row = first;
        while row < end {
            sum += x[row * width + column];
            row += CUBE_DIM_Y as usize;
        }
    }
    let sum = column_sum(sum, &mut shared);
    let mean = sum / ((end - CUBE_POS_Y as usize * length) as f32);
    let mut squares = 0.0f32;
    if column < width {
        let mut row = first;
        while row < end {
            let centred = x[row * width + column] - mean;
            squares += centred * centred;
            row += CUBE_DIM_Y as usize;
        }
    }
    let squares = column_sum(squares, &mut shared);
    if UNIT_POS_Y == 0 && column < width {
        let place = CUBE_POS_Y as usize * (2 * width) + column;
        sums[place] = sum;
        sums[place + width] = squares;
    }
}

#[cube(launch)]
fn batch_norm_kernel(
    x: &Array<f32>,
    offset: &Array<f32>,
    weight: &Array<f32>,
    bias: &Array<f32>,
    sums: &Array<f32>,
    output: &mut Array<f32>,
    mean_of: &mut Array<f32>,
    variance_of: &mut Array<f32>,
    unbiased_variance_of: &mut Array<f32>,
    epsilon: f32,
    unbiased: f32,
    rows: usize,
    length: usize,
    #[comptime] width: usize,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * LANES) as usize));
    let column = column();
    let parts = CUBE_COUNT_Y as usize;
    let count = rows as f32;
    let mean = all_parts(sums, 0, &mut shared, width) / count;
    // Of all rows around the mean: of each part around its own, and of its mean.
    let mut squares = 0.0f32;
    if column < width {
        let mut part = UNIT_POS_Y as usize;
        while part < parts {
            let place = part * (2 * width) + column;
            let own = (min(part * length + length, rows) - part * length) as f32;
            let apart = sums[place] / own - mean;
            squares += sums[place + width] + own * apart * apart;
            part += CUBE_DIM_Y as usize;
        }
    }
    let variance = column_sum(squares, &mut shared) / count;
    if column < width {
        let scale = weight[column] / (variance + epsilon).sqrt();
        let shift = bias[column];
        let (first, end) = lane_of_part(rows, length);
        let mut row = first;
        while row < end {
            let place = row * width + column;
            let mut value = (x[place] - mean) * scale + shift;
            // So that what is not a number stays that.
            if value <= 0.0f32 {
                value = 0.0f32;
            }
            output[place] = value;
            row += CUBE_DIM_Y as usize;
        }
        if CUBE_POS_Y == 0 && UNIT_POS_Y == 0 {
            mean_of[column] = mean + offset[column];
            variance_of[column] = variance;
            unbiased_variance_of[column] = variance * unbiased;
        }
    }
}

/// Sum of every part of the gradient, and of its product with the normalised input: what its
/// columns of the gradients of bias and weight are made of.
#[cube(launch)]
fn gradient_sums_kernel(
    x: &Array<f32>,
    offset: &Array<f32>,
    mean: &Array<f32>,
    variance: &Array<f32>,
    y: &Array<f32>,
    grad: &Array<f32>,
    sums: &mut Array<f32>,
    epsilon: f32,
    rows: usize,
    length: usize,
    #[comptime] width: usize,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * LANES) as usize));
    let column = column();
    let mut sum = 0.0f32;
    let mut along = 0.0f32;
    if column < width {
        let (centre, inverse) = standard(offset, mean, variance, epsilon, column);
        let (first, end) = lane_of_part(rows, length);
        let mut row = first;
        while row < end {
            let place = row * width + column;
            let slope = slope_at(y, grad, place);
            sum += slope;
            along += slope * (x[place] - centre) * inverse;
            row += CUBE_DIM_Y as usize;
        }
    }
    let sum = column_sum(sum, &mut shared);
    let along = column_sum(along, &mut shared);
    if UNIT_POS_Y == 0 && column < width {
        let place = CUBE_POS_Y as usize * (2 * width) + column;
        sums[place] = sum;
        sums[place + width] = along;
    }
}

#[cube(launch)]
fn batch_norm_backward_kernel(
    x: &Array<f32>,
    offset: &Array<f32>,
    mean: &Array<f32>,
    variance: &Array<f32>,
    weight: &Array<f32>,
    y: &Array<f32>,
    grad: &Array<f32>,
    sums: &Array<f32>,
    x_grad: &mut Array<f32>,
    epsilon: f32,
    rows: usize,
    length: usize,
    #[comptime] width: usize,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * LANES) as usize));
    let column = column();
    let count = rows as f32;
    let sum = all_parts(sums, 0, &mut shared, width) / count;
    let along = all_parts(sums, width, &mut shared, width) / count;
    if column < width {
        let (centre, inverse) = standard(offset, mean, variance, epsilon, column);
        let scale = inverse * weight[column];
        let (first, end) = lane_of_part(rows, length);
        let mut row = first;
        while row < end {
            let place = row * width + column;
            let normal = (x[place] - centre) * inverse;
            x_grad[place] = (slope_at(y, grad, place) - sum - normal * along) * scale;
            row += CUBE_DIM_Y as usize;
        }
    }
}
