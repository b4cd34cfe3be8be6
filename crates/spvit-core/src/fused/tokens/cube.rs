//! [`TokenOps`] in kernels of CubeCL where plain operations would copy parts.

use burn::tensor::{Shape, ops::FloatTensor};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{TokenOps, plain};
use crate::fused::cube::{UNITS, arrays, cubes, earlier_at, known, register, register_all, served};

impl<R, F, I, BT> TokenOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn tokens(
        patches: FloatTensor<Self>,
        prefix: FloatTensor<Self>,
        positions: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if !served([&patches, &prefix, &positions]) {
            return plain::tokens::<Self>(patches, prefix, positions);
        }
        let [batch, _, d] = patches.shape.dims();
        let shape = Shape::new([batch, positions.shape[1], d]);
        let (elements, before) = (shape.num_elements(), prefix.shape.num_elements());
        let launch = move |[patches, prefix, positions]: [CubeTensor<R>; 3],
                           [output]: [CubeTensor<R>; 1]| {
            tokens_kernel::launch::<R>(
                &patches.client.clone(),
                cubes(elements),
                CubeDim::new_1d(UNITS),
                patches.into_array_arg(),
                prefix.into_array_arg(),
                positions.into_array_arg(),
                output.into_array_arg(),
                elements,
                elements / batch,
                before,
            );
        };
        let [output] = register("tokens", [patches, prefix, positions], [shape], launch);
        output
    }

    fn with_prefix(x: FloatTensor<Self>, others: FloatTensor<Self>) -> FloatTensor<Self> {
        if !served([&x, &others]) {
            return plain::with_prefix::<Self>(x, others);
        }
        let shape = x.shape.clone();
        let [batch, _, _] = shape.dims();
        let elements = shape.num_elements();
        let before = (elements - others.shape.num_elements()) / batch;
        let launch = move |[x, others]: [CubeTensor<R>; 2], [output]: [CubeTensor<R>; 1]| {
            with_prefix_kernel::launch::<R>(
                &x.client.clone(),
                cubes(elements),
                CubeDim::new_1d(UNITS),
                x.into_array_arg(),
                others.into_array_arg(),
                output.into_array_arg(),
                elements,
                elements / batch,
                before,
            );
        };
        let [output] = register("tokens after a prefix", [x, others], [shape], launch);
        output
    }

    fn with_prefix_backward(
        grad: FloatTensor<Self>,
        earlier: Option<FloatTensor<Self>>,
        prefix: usize,
    ) -> [FloatTensor<Self>; 2] {
        let [batch, tokens, d] = grad.shape.dims();
        let all = served([&grad]) && earlier.iter().all(|earlier| served([earlier]));
        if !all || tokens == prefix {
            return plain::with_prefix_backward::<Self>(grad, earlier, prefix);
        }
        let elements = grad.shape.num_elements();
        let shapes = vec![grad.shape.clone(), Shape::new([batch, tokens - prefix, d])];
        let launch = move |mut inputs: Vec<CubeTensor<R>>, outputs: Vec<CubeTensor<R>>| {
            let ([x_grad, others_grad], grad) = (known(outputs), inputs.remove(0));
            with_prefix_backward_kernel::launch::<R>(
                &grad.client.clone(),
                cubes(elements),
                CubeDim::new_1d(UNITS),
                grad.into_array_arg(),
                arrays(inputs),
                x_grad.into_array_arg(),
                others_grad.into_array_arg(),
                elements,
                elements / batch,
                prefix * d,
            );
        };
        let inputs = std::iter::once(grad).chain(earlier).collect();
        known(register_all("gradients of tokens after a prefix", inputs, shapes, launch))
    }
}

/// `image` elements of each image's tokens, of which `before` are the prefix's.
#[cube(launch)]
fn tokens_kernel(
    patches: &Array<f32>,
    prefix: &Array<f32>,
    positions: &Array<f32>,
    output: &mut Array<f32>,
    elements: usize,
    image: usize,
    before: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < elements {
        let (index, within) = (i / image, i % image);
        if within < before {
            output[i] = prefix[within] + positions[within];
        } else {
            output[i] = patches[index * (image - before) + within - before] + positions[within];
        }
        i += all;
    }
}

#[cube(launch)]
fn with_prefix_kernel(
    x: &Array<f32>,
    others: &Array<f32>,
    output: &mut Array<f32>,
    elements: usize,
    image: usize,
    before: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < elements {
        let (index, within) = (i / image, i % image);
        if within < before {
            output[i] = x[i];
        } else {
            output[i] = others[index * (image - before) + within - before];
        }
        i += all;
    }
}

#[cube(launch)]
fn with_prefix_backward_kernel(
    grad: &Array<f32>,
    earlier: &Sequence<Array<f32>>,
    x_grad: &mut Array<f32>,
    others_grad: &mut Array<f32>,
    elements: usize,
    image: usize,
    before: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < elements {
        let (index, within) = (i / image, i % image);
        let mut sum = earlier_at(earlier, i);
        if within < before {
            sum += grad[i];
        } else {
            others_grad[index * (image - before) + within - before] = grad[i];
        }
        x_grad[i] = sum;
        i += all;
    }
}
