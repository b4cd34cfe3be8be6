//! [`CoefficientOps`] in kernels of CubeCL: sums of parts, then the sums of those.

use burn::tensor::{Shape, ops::FloatTensor};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{CoefficientOps, plain};
use crate::fused::cube::{UNITS, cube_sum, register_all, served};

/// Parts of an inner product at most.
const PARTS: usize = 1024;
/// Elements that a unit multiplies before there are more parts.
const ELEMENTS: usize = 8;
/// Values at most: a kernel may bind eight buffers everywhere.
const VALUES: usize = 6;

impl<R, F, I, BT> CoefficientOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn inner_products(
        grad: FloatTensor<Self>,
        values: Vec<FloatTensor<Self>>,
        [first, count]: [usize; 2],
    ) -> FloatTensor<Self> {
        let all = values.iter().all(|value| served([&grad, value]));
        if !all || values.is_empty() || values.len() > VALUES {
            return plain::inner_products::<Self>(grad, values, [first, count]);
        }
        let elements = grad.shape.num_elements();
        let parts = elements.div_ceil(UNITS as usize * ELEMENTS).min(PARTS);
        let products = values.len();
        let shapes = [Shape::new([products, parts]), Shape::new([count])];
        let launch = move |mut inputs: Vec<CubeTensor<R>>, outputs: [CubeTensor<R>; 2]| {
            let [sums, output] = outputs;
            let grad = inputs.remove(0);
            let client = grad.client.clone();
            let mut values = SequenceArg::new();
            inputs.into_iter().for_each(|value| values.push(value.into_array_arg()));
            partial_products_kernel::launch::<R>(
                &client,
                CubeCount::Static(parts as u32, 1, 1),
                CubeDim::new_1d(UNITS),
                grad.into_array_arg(),
                values,
                sums.clone().into_array_arg(),
                elements,
            );
            products_kernel::launch::<R>(
                &client,
                CubeCount::Static(count as u32, 1, 1),
                CubeDim::new_1d(UNITS),
                sums.into_array_arg(),
                output.into_array_arg(),
                first,
                products,
                parts,
            );
        };
        let inputs = std::iter::once(grad).chain(values).collect();
        let [_, output] = register_all("inner products", inputs, shapes, launch);
        output
    }
}

/// `⟨grad, values_i⟩` over the elements that a cube takes, `[values, cubes]`.
#[cube(launch)]
fn partial_products_kernel(
    grad: &Array<f32>,
    values: &Sequence<Array<f32>>,
    sums: &mut Array<f32>,
    elements: usize,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    #[unroll]
    for index in 0..values.len() {
        let value = values.index(index);
        let mut sum = 0.0f32;
        let mut i = ABSOLUTE_POS;
        while i < elements {
            sum += grad[i] * value[i];
            i += all;
        }
        let sum = cube_sum(sum, &mut shared, comptime!(UNITS as usize));
        if UNIT_POS_X == 0 {
            sums[index * CUBE_COUNT_X as usize + CUBE_POS_X as usize] = sum;
        }
    }
}

/// Sums over `[products, parts]` from place `first` on, and zeros elsewhere: a place for a cube.
#[cube(launch)]
fn products_kernel(
    sums: &Array<f32>,
    output: &mut Array<f32>,
    first: usize,
    products: usize,
    parts: usize,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let place = CUBE_POS_X as usize;
    let mut sum = 0.0f32;
    if place >= first && place < first + products {
        let mut i = UNIT_POS_X as usize;
        while i < parts {
            sum += sums[(place - first) * parts + i];
            i += CUBE_DIM_X as usize;
        }
    }
    let sum = cube_sum(sum, &mut shared, comptime!(UNITS as usize));
    if UNIT_POS_X == 0 {
        output[place] = sum;
    }
}
