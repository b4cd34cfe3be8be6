//! [`DistributionOps`] in kernels of CubeCL: a unit for each position.

use burn::tensor::ops::FloatTensor;
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{DistributionOps, plain};
use crate::fused::cube::{UNITS, cubes, register, served};

impl<R, F, I, BT> DistributionOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn head_distribution(z: FloatTensor<Self>, alpha: f64) -> FloatTensor<Self> {
        if !served([&z]) {
            return plain::head_distribution::<Self>(z, alpha);
        }
        let shape = z.shape.clone();
        let (heads, positions) = (shape[0], shape[1]);
        let launch = move |[z]: [CubeTensor<R>; 1], [p]: [CubeTensor<R>; 1]| {
            let client = z.client.clone();
            head_distribution_kernel::launch::<R>(
                &client,
                cubes(positions),
                CubeDim::new_1d(UNITS),
                z.into_array_arg(),
                p.into_array_arg(),
                alpha as f32,
                heads,
                positions,
            );
        };
        let [p] = register("head distribution", [z], [shape], launch);
        p
    }

    fn head_distribution_backward(
        p: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        alpha: f64,
    ) -> FloatTensor<Self> {
        if !served([&p, &grad]) {
            return plain::head_distribution_backward::<Self>(p, grad, alpha);
        }
        let shape = p.shape.clone();
        let (heads, positions) = (shape[0], shape[1]);
        let launch = move |[p, grad]: [CubeTensor<R>; 2], [z_grad]: [CubeTensor<R>; 1]| {
            let client = p.client.clone();
            head_distribution_backward_kernel::launch::<R>(
                &client,
                cubes(positions),
                CubeDim::new_1d(UNITS),
                p.into_array_arg(),
                grad.into_array_arg(),
                z_grad.into_array_arg(),
                alpha as f32,
                heads,
                positions,
            );
        };
        let [z_grad] = register("head distribution's gradient", [p, grad], [shape], launch);
        z_grad
    }
}

#[cube(launch)]
fn head_distribution_kernel(
    z: &Array<f32>,
    p: &mut Array<f32>,
    alpha: f32,
    heads: usize,
    positions: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut k = ABSOLUTE_POS;
    while k < positions {
        let mut most = z[k] / alpha;
        for h in 1..heads {
            most = max(most, z[h * positions + k] / alpha);
        }
        let mut sum = 0.0f32;
        for h in 0..heads {
            sum += (z[h * positions + k] / alpha - most).exp();
        }
        for h in 0..heads {
            p[h * positions + k] = (z[h * positions + k] / alpha - most).exp() / sum;
        }
        k += all;
    }
}

#[cube(launch)]
fn head_distribution_backward_kernel(
    p: &Array<f32>,
    grad: &Array<f32>,
    z_grad: &mut Array<f32>,
    alpha: f32,
    heads: usize,
    positions: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut k = ABSOLUTE_POS;
    while k < positions {
        let mut mean = 0.0f32;
        for h in 0..heads {
            mean += p[h * positions + k] * grad[h * positions + k];
        }
        for h in 0..heads {
            let at = h * positions + k;
            z_grad[at] = p[at] * (grad[at] - mean) / alpha;
        }
        k += all;
    }
}
