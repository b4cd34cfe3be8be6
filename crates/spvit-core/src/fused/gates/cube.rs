//! [`GateOps`] in kernels of CubeCL: a unit for each gate, or for each path.

use burn::tensor::ops::FloatTensor;
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{EPSILON, GateOps, largest_threshold, plain};
use crate::fused::cube::{UNITS, cubes, register, served};

impl<R, F, I, BT> GateOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn sampled(theta: FloatTensor<Self>, uniform: FloatTensor<Self>) -> [FloatTensor<Self>; 2] {
        if !served([&theta, &uniform]) {
            return plain::sampled::<Self>(theta, uniform);
        }
        let shape = theta.shape.clone();
        let count = shape.num_elements();
        let launch = move |[theta, uniform]: [CubeTensor<R>; 2], outputs: [CubeTensor<R>; 2]| {
            let [hard, soft] = outputs.map(CubeTensor::into_array_arg);
            sampled_kernel::launch::<R>(
                &theta.client.clone(),
                cubes(count),
                CubeDim::new_1d(UNITS),
                theta.into_array_arg(),
                uniform.into_array_arg(),
                hard,
                soft,
                EPSILON,
                largest_threshold(),
                count,
            );
        };
        register("sampled gates", [theta, uniform], [shape.clone(), shape], launch)
    }

    fn expected(theta: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        if !served([&theta]) {
            return plain::expected::<Self>(theta);
        }
        let shape = theta.shape.clone();
        let count = shape.num_elements();
        let launch = move |[theta]: [CubeTensor<R>; 1], outputs: [CubeTensor<R>; 3]| {
            let [hard, p, q] = outputs.map(CubeTensor::into_array_arg);
            expected_kernel::launch::<R>(
                &theta.client.clone(),
                cubes(count),
                CubeDim::new_1d(UNITS),
                theta.into_array_arg(),
                hard,
                p,
                q,
                count,
            );
        };
        register("expected gates", [theta], [shape.clone(), shape.clone(), shape], launch)
    }

    fn single_path(own: FloatTensor<Self>) -> FloatTensor<Self> {
        if !served([&own]) {
            return plain::single_path::<Self>(own);
        }
        let shape = own.shape.clone();
        let (layers, operations) = (shape[0], shape[1]);
        let launch = move |[own]: [CubeTensor<R>; 1], [path]: [CubeTensor<R>; 1]| {
            single_path_kernel::launch::<R>(
                &own.client.clone(),
                cubes(layers),
                CubeDim::new_1d(UNITS),
                own.into_array_arg(),
                path.into_array_arg(),
                layers,
                operations,
            );
        };
        let [path] = register("single path", [own], [shape], launch);
        path
    }

    fn single_path_backward(own: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        if !served([&own, &grad]) {
            return plain::single_path_backward::<Self>(own, grad);
        }
        let shape = own.shape.clone();
        let (layers, operations) = (shape[0], shape[1]);
        let launch = move |[own, grad]: [CubeTensor<R>; 2], [own_grad]: [CubeTensor<R>; 1]| {
            single_path_backward_kernel::launch::<R>(
                &own.client.clone(),
                cubes(layers),
                CubeDim::new_1d(UNITS),
                own.into_array_arg(),
                grad.into_array_arg(),
                own_grad.into_array_arg(),
                layers,
                operations,
            );
        };
        let [own_grad] = register("single path's gradient", [own, grad], [shape], launch);
        own_grad
    }
}

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (-x).exp())
}

#[cube(launch)]
fn sampled_kernel(
    theta: &Array<f32>,
    uniform: &Array<f32>,
    hard: &mut Array<f32>,
    soft: &mut Array<f32>,
    epsilon: f32,
    largest: f32,
    count: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < count {
        let u = max(min(uniform[i], 1.0f32 - epsilon), epsilon);
        let l = u.ln() - (1.0f32 - u).ln() + max(min(theta[i], largest), -largest);
        hard[i] = select(l > 0.0f32, 1.0f32, 0.0f32);
        soft[i] = sigmoid(l);
        i += all;
    }
}

#[cube(launch)]
fn expected_kernel(
    theta: &Array<f32>,
    hard: &mut Array<f32>,
    p: &mut Array<f32>,
    q: &mut Array<f32>,
    count: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < count {
        let probability = sigmoid(theta[i]);
        hard[i] = select(probability > 0.5f32, 1.0f32, 0.0f32);
        p[i] = probability;
        q[i] = sigmoid(probability - 0.5f32);
        i += all;
    }
}

#[cube(launch)]
fn single_path_kernel(own: &Array<f32>, path: &mut Array<f32>, layers: usize, operations: usize) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut layer = ABSOLUTE_POS;
    while layer < layers {
        let mut product = 1.0f32;
        for i in 0..operations {
            product *= own[layer * operations + i];
            path[layer * operations + i] = product;
        }
        layer += all;
    }
}

/// What is left to multiply with is put in the gradient's place first.
#[cube(launch)]
fn single_path_backward_kernel(
    own: &Array<f32>,
    grad: &Array<f32>,
    own_grad: &mut Array<f32>,
    layers: usize,
    operations: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut layer = ABSOLUTE_POS;
    while layer < layers {
        let start = layer * operations;
        let mut along = 0.0f32;
        for back in 0..operations {
            let i = start + operations - 1 - back;
            along += grad[i];
            own_grad[i] = along;
            along *= own[i];
        }
        let mut product = 1.0f32;
        for i in start..start + operations {
            own_grad[i] *= product;
            product *= own[i];
        }
        layer += all;
    }
}
