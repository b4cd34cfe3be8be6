//! [`CoefficientOps`] in kernels of CubeCL: sums of parts, then the sums of those.

use burn::tensor::{Shape, ops::FloatTensor};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{CoefficientOps, plain};
use crate::fused::cube::{
    CubeFloat, UNITS, arrays, cube_sum, cubes, earlier_at, groups, known, lengths, register,
    register_all, row_cubes, served,
};

/// Parts of an inner product at most.
const PARTS: usize = 1024;
/// Elements that a unit multiplies before there are more parts.
const ELEMENTS: usize = 8;
/// Values at most; each is a buffer that the kernel binds.
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
        earlier: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let all = values.iter().chain(&earlier).all(|value| served([&grad, value]));
        if !all || values.is_empty() || values.len() > VALUES {
            return plain::inner_products::<Self>(grad, values, [first, count], earlier);
        }
        let elements = grad.shape.num_elements();
        let parts = elements.div_ceil(UNITS as usize * ELEMENTS).min(PARTS);
        let products = values.len();
        let shapes = [Shape::new([products, parts]), Shape::new([count])];
        let launch = move |mut inputs: Vec<CubeTensor<R>>, outputs: Vec<CubeTensor<R>>| {
            let [sums, output] = known(outputs);
            let earlier = inputs.split_off(1 + products);
            let grad = inputs.remove(0);
            let client = grad.client.clone();
            partial_products_kernel::launch::<R>(
                &client,
                CubeCount::Static(parts as u32, 1, 1),
                CubeDim::new_1d(UNITS),
                grad.into_array_arg(),
                arrays(inputs),
                sums.clone().into_array_arg(),
                elements,
            );
            products_kernel::launch::<R>(
                &client,
                CubeCount::Static(count as u32, 1, 1),
                CubeDim::new_1d(UNITS),
                sums.into_array_arg(),
                arrays(earlier),
                output.into_array_arg(),
                first,
                products,
                parts,
            );
        };
        let inputs = std::iter::once(grad).chain(values).chain(earlier).collect();
        let [_, output] = known(register_all("inner products", inputs, shapes.into(), launch));
        output
    }

    fn gated_rows(
        w: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        first: usize,
    ) -> FloatTensor<Self> {
        if !served([&w, &gates]) {
            return plain::gated_rows::<Self>(w, gates, first);
        }
        let shape = w.shape.clone();
        let (elements, width) = (shape.num_elements(), shape[1]);
        let launch = move |[w, gates]: [CubeTensor<R>; 2], [output]: [CubeTensor<R>; 1]| {
            gated_rows_kernel::launch::<R>(
                &w.client.clone(),
                cubes(elements),
                CubeDim::new_1d(UNITS),
                w.into_array_arg(),
                gates.into_array_arg(),
                output.into_array_arg(),
                first,
                elements,
                width,
            );
        };
        let [output] = register("gated rows", [w, gates], [shape], launch);
        output
    }

    fn gated_rows_backward(
        w: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        earlier: Option<FloatTensor<Self>>,
        first: usize,
    ) -> [FloatTensor<Self>; 2] {
        let rest = earlier.as_ref().unwrap_or(&gates);
        if !served([&w, &gates, &grad, rest]) {
            return plain::gated_rows_backward::<Self>(w, gates, grad, earlier, first);
        }
        let shapes = vec![w.shape.clone(), gates.shape.clone()];
        let ([rows, width], count) = ([w.shape[0], w.shape[1]], gates.shape.num_elements());
        let launch = move |mut inputs: Vec<CubeTensor<R>>, outputs: Vec<CubeTensor<R>>| {
            let earlier = inputs.split_off(3);
            let ([w, gates, grad], [w_grad, gates_grad]) = (known(inputs), known(outputs));
            gated_rows_backward_kernel::launch::<R>(
                &w.client.clone(),
                row_cubes(rows, u16::MAX as usize),
                CubeDim::new_1d(UNITS),
                w.into_array_arg(),
                gates.into_array_arg(),
                grad.into_array_arg(),
                arrays(earlier),
                w_grad.into_array_arg(),
                gates_grad.into_array_arg(),
                first,
                rows,
                width,
                count,
            );
        };
        let inputs = [w, gates, grad].into_iter().chain(earlier).collect();
        known(register_all("gated rows' gradients", inputs, shapes, launch))
    }

    fn squared_norms(vectors: Vec<FloatTensor<Self>>) -> FloatTensor<Self> {
        if !vectors.iter().all(|vector| served([vector])) {
            return plain::squared_norms::<Self>(vectors);
        }
        let longest = vectors.iter().map(|vector| vector.shape.num_elements()).max();
        let parts = longest.unwrap_or(1).div_ceil(UNITS as usize * ELEMENTS).min(PARTS);
        let groups = groups::<R, _>(vectors, [1, 2], |vector| vector).into_iter();
        let sums = groups.fold(None, |before, group| Some(squares(group, before, parts)));
        sums.unwrap_or_else(|| plain::squared_norms::<Self>(Vec::new()))
    }
}

#[cube(launch)]
fn gated_rows_kernel(
    w: &Array<f32>,
    gates: &Array<f32>,
    output: &mut Array<f32>,
    first: usize,
    elements: usize,
    width: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < elements {
        output[i] = w[i] * gates[first + i / width];
        i += all;
    }
}

/// A row for a cube at a time; what belongs to other rows' gates is passed on by all units.
#[cube(launch)]
fn gated_rows_backward_kernel(
    w: &Array<f32>,
    gates: &Array<f32>,
    grad: &Array<f32>,
    earlier: &Sequence<Array<f32>>,
    w_grad: &mut Array<f32>,
    gates_grad: &mut Array<f32>,
    first: usize,
    rows: usize,
    width: usize,
    count: usize,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let mut row = CUBE_POS_X as usize;
    while row < rows {
        let gate = gates[first + row];
        let mut sum = 0.0f32;
        let mut column = UNIT_POS_X as usize;
        while column < width {
            let i = row * width + column;
            let slope = grad[i];
            sum += slope * w[i];
            w_grad[i] = slope * gate;
            column += CUBE_DIM_X as usize;
        }
        let sum = cube_sum(sum, &mut shared, comptime!(UNITS as usize));
        if UNIT_POS_X == 0 {
            gates_grad[first + row] = sum + earlier_at(earlier, first + row);
        }
        row += CUBE_COUNT_X as usize;
    }
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < count {
        if i < first || i >= first + rows {
            gates_grad[i] = earlier_at(earlier, i);
        }
        i += all;
    }
}

/// The parts' sums of the vectors' squares, added to those of vectors before.
fn squares<R: CubeRuntime>(
    vectors: Vec<CubeFloat<R>>,
    before: Option<CubeFloat<R>>,
    parts: usize,
) -> CubeFloat<R> {
    let count = vectors.len();
    let launch = move |mut inputs: Vec<CubeTensor<R>>, outputs: Vec<CubeTensor<R>>| {
        let [sums] = known(outputs);
        let before = inputs.split_off(count);
        let elements = lengths(&inputs);
        squares_kernel::launch::<R>(
            &sums.client.clone(),
            CubeCount::Static(parts as u32, 1, 1),
            CubeDim::new_1d(UNITS),
            arrays(inputs),
            arrays(before),
            sums.into_array_arg(),
            elements.into_iter().collect(),
        );
    };
    let inputs = vectors.into_iter().chain(before).collect();
    let [sums] = known(register_all("squares", inputs, vec![Shape::new([parts])], launch));
    sums
}

/// A part for a cube.
#[cube(launch)]
fn squares_kernel(
    vectors: &Sequence<Array<f32>>,
    before: &Sequence<Array<f32>>,
    sums: &mut Array<f32>,
    elements: &Sequence<usize>,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut sum = 0.0f32;
    #[unroll]
    for index in 0..vectors.len() {
        let vector = vectors.index(index);
        let elements = *elements.index(index);
        let mut i = ABSOLUTE_POS;
        while i < elements {
            sum += vector[i] * vector[i];
            i += all;
        }
    }
    let mut sum = cube_sum(sum, &mut shared, comptime!(UNITS as usize));
    if UNIT_POS_X == 0 {
        #[unroll]
        for index in 0..before.len() {
            sum += before.index(index)[CUBE_POS_X as usize];
        }
        sums[CUBE_POS_X as usize] = sum;
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

/// Sums over `[products, parts]` from place `first` on, and zeros elsewhere, added to earlier ones: a place
/// for a cube.
#[cube(launch)]
fn products_kernel(
    sums: &Array<f32>,
    earlier: &Sequence<Array<f32>>,
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
        output[place] = sum + earlier_at(earlier, place);
    }
}
