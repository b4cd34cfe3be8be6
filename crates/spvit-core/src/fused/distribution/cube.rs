//! [`DistributionOps`] in kernels of CubeCL: a unit for each position, or for each number of a sum.

use burn::tensor::{Shape, ops::FloatTensor};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{DistributionOps, plain};
use crate::fused::cube::{
    UNITS, arrays, cube_sum, cubes, earlier_at, known, register, register_all, served,
};

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

    fn head_sum(w: FloatTensor<Self>, p: FloatTensor<Self>) -> FloatTensor<Self> {
        if !served([&w, &p]) {
            return plain::head_sum::<Self>(w, p);
        }
        let (heads, positions) = (p.shape[0], p.shape[1]);
        let d = w.shape[1] / heads;
        let outputs = w.shape[0] * d;
        let launch = move |[w, p]: [CubeTensor<R>; 2], [output]: [CubeTensor<R>; 1]| {
            head_sum_kernel::launch::<R>(
                &w.client.clone(),
                cubes(outputs),
                CubeDim::new_1d(UNITS),
                w.into_array_arg(),
                p.into_array_arg(),
                output.into_array_arg(),
                outputs,
                d,
                heads,
                positions,
            );
        };
        let shape = Shape::new([w.shape[0], d]);
        let [output] = register("sum over heads", [w, p], [shape], launch);
        output
    }

    fn head_sum_backward(
        w: FloatTensor<Self>,
        p: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        earlier: Option<FloatTensor<Self>>,
    ) -> [FloatTensor<Self>; 2] {
        if !served([&w, &p, &grad, earlier.as_ref().unwrap_or(&p)]) {
            return plain::head_sum_backward::<Self>(w, p, grad, earlier);
        }
        let (heads, positions) = (p.shape[0], p.shape[1]);
        let d = w.shape[1] / heads;
        let outputs = grad.shape.num_elements();
        let shapes = vec![w.shape.clone(), p.shape.clone()];
        let launch = move |mut inputs: Vec<CubeTensor<R>>, outputs_of: Vec<CubeTensor<R>>| {
            let earlier = inputs.split_off(3);
            let ([w, p, grad], [w_grad, p_grad]) = (known(inputs), known(outputs_of));
            head_sum_backward_kernel::launch::<R>(
                &w.client.clone(),
                CubeCount::Static(heads as u32, 1, 1),
                CubeDim::new_1d(UNITS),
                w.into_array_arg(),
                p.into_array_arg(),
                grad.into_array_arg(),
                arrays(earlier),
                w_grad.into_array_arg(),
                p_grad.into_array_arg(),
                outputs,
                d,
                positions,
            );
        };
        let inputs = [w, p, grad].into_iter().chain(earlier).collect();
        known(register_all("sum over heads' gradients", inputs, shapes, launch))
    }
}

/// A head's share of all positions.
#[cube]
fn share(p: &Array<f32>, h: usize, #[comptime] positions: usize) -> f32 {
    let mut share = 0.0f32;
    for k in 0..positions {
        share += p[h * positions + k];
    }
    share
}

#[cube(launch)]
fn head_sum_kernel(
    w: &Array<f32>,
    p: &Array<f32>,
    output: &mut Array<f32>,
    outputs: usize,
    d: usize,
    #[comptime] heads: usize,
    #[comptime] positions: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < outputs {
        let start = i / d * (heads * d) + i % d;
        let mut sum = 0.0f32;
        for h in 0..heads {
            sum += share(p, h, positions) * w[start + h * d];
        }
        output[i] = sum;
        i += all;
    }
}

/// A head for a cube; all its positions have the same gradient.
#[cube(launch)]
fn head_sum_backward_kernel(
    w: &Array<f32>,
    p: &Array<f32>,
    grad: &Array<f32>,
    earlier: &Sequence<Array<f32>>,
    w_grad: &mut Array<f32>,
    p_grad: &mut Array<f32>,
    outputs: usize,
    d: usize,
    #[comptime] positions: usize,
) {
    let (h, heads) = (CUBE_POS_X as usize, CUBE_COUNT_X as usize);
    let share = share(p, h, positions);
    let mut sum = 0.0f32;
    let mut i = UNIT_POS_X as usize;
    while i < outputs {
        let place = i / d * (heads * d) + h * d + i % d;
        sum += grad[i] * w[place];
        w_grad[place] = share * grad[i];
        i += CUBE_DIM_X as usize;
    }
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let sum = cube_sum(sum, &mut shared, comptime!(UNITS as usize));
    let mut k = UNIT_POS_X as usize;
    while k < positions {
        let place = h * positions + k;
        p_grad[place] = sum + earlier_at(earlier, place);
        k += CUBE_DIM_X as usize;
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
