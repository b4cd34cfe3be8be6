//! [`TokenOps`] in kernels of CubeCL where plain operations would copy parts.

use burn::tensor::{Shape, ops::FloatTensor};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{TokenOps, plain};
use crate::fused::cube::{
    CubeFloat, UNITS, arrays, cubes, earlier_at, known, register, register_all, served,
};

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
        after_prefix("tokens", prefix, patches, Some(positions), shape)
    }

    fn tokens_backward(grad: FloatTensor<Self>, prefix: usize) -> [FloatTensor<Self>; 3] {
        let [batch, tokens, d] = grad.shape.dims();
        if !served([&grad]) || tokens == prefix {
            return plain::tokens_backward::<Self>(grad, prefix);
        }
        let shapes = [[batch, tokens - prefix, d], [1, prefix, d], [1, tokens, d]].map(Shape::new);
        let launch = move |[grad]: [CubeTensor<R>; 1], outputs: [CubeTensor<R>; 3]| {
            let [patches, before, positions] = outputs.map(CubeTensor::into_array_arg);
            tokens_backward_kernel::launch::<R>(
                &grad.client.clone(),
                cubes(tokens * d),
                CubeDim::new_1d(UNITS),
                grad.into_array_arg(),
                patches,
                before,
                positions,
                batch,
                tokens * d,
                prefix * d,
            );
        };
        register("tokens' gradients", [grad], shapes, launch)
    }

    fn with_prefix(x: FloatTensor<Self>, others: FloatTensor<Self>) -> FloatTensor<Self> {
        if !served([&x, &others]) {
            return plain::with_prefix::<Self>(x, others);
        }
        let shape = x.shape.clone();
        after_prefix("tokens after a prefix", x, others, None, shape)
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

/// The first tokens of `first`, whose own or those of all images alike, before others: `[batch, tokens, d]`.
fn after_prefix<R: CubeRuntime>(
    name: &'static str,
    first: CubeFloat<R>,
    others: CubeFloat<R>,
    positions: Option<CubeFloat<R>>,
    shape: Shape,
) -> CubeFloat<R> {
    let [batch, tokens, d] = shape.dims();
    let [images, _, _] = first.shape.dims();
    let before = (tokens - others.shape[1]) * d;
    let launch = move |mut inputs: Vec<CubeTensor<R>>, outputs: Vec<CubeTensor<R>>| {
        let [first, others] = known(inputs.drain(..2).collect());
        let [output] = known(outputs);
        after_prefix_kernel::launch::<R>(
            &first.client.clone(),
            cubes(batch * tokens * d),
            CubeDim::new_1d(UNITS),
            first.into_array_arg(),
            others.into_array_arg(),
            arrays(inputs),
            output.into_array_arg(),
            batch * tokens * d,
            tokens * d,
            before,
            if images == 1 { 0 } else { tokens * d },
        );
    };
    let inputs = [first, others].into_iter().chain(positions).collect();
    let [output] = known(register_all(name, inputs, vec![shape], launch));
    output
}

/// `image` elements of each image's tokens, of which `before` are the prefix's; `stride` from one image's prefix to
/// the next.
#[cube(launch)]
fn after_prefix_kernel(
    first: &Array<f32>,
    others: &Array<f32>,
    positions: &Sequence<Array<f32>>,
    output: &mut Array<f32>,
    elements: usize,
    image: usize,
    before: usize,
    stride: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < elements {
        let (index, within) = (i / image, i % image);
        let added = earlier_at(positions, within);
        if within < before {
            output[i] = first[index * stride + within] + added;
        } else {
            output[i] = others[index * (image - before) + within - before] + added;
        }
        i += all;
    }
}

/// A unit goes over the images at places of its own.
#[cube(launch)]
fn tokens_backward_kernel(
    grad: &Array<f32>,
    patches_grad: &mut Array<f32>,
    prefix_grad: &mut Array<f32>,
    positions_grad: &mut Array<f32>,
    batch: usize,
    image: usize,
    before: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut within = ABSOLUTE_POS;
    while within < image {
        let mut sum = 0.0f32;
        for index in 0..batch {
            let value = grad[index * image + within];
            sum += value;
            if within >= before {
                patches_grad[index * (image - before) + within - before] = value;
            }
        }
        positions_grad[within] = sum;
        if within < before {
            prefix_grad[within] = sum;
        }
        within += all;
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
