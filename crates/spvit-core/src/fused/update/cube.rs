//! [`UpdateOps`] in kernels of CubeCL, each of which takes as many tensors as it may bind buffers for.

use burn::tensor::{Shape, ops::FloatTensor};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{AdamWParameter, AdamWStep, Clip, UpdateOps, plain};
use crate::fused::cube::{
    CubeFloat, UNITS, arrays, groups, lengths, register_all, register_in_place, served, unit_cubes,
};

impl<R, F, I, BT> UpdateOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn adamw_update(
        parameters: Vec<AdamWParameter<FloatTensor<Self>>>,
        step: AdamWStep,
        clip: Option<Clip<FloatTensor<Self>>>,
    ) -> Vec<[FloatTensor<Self>; 3]> {
        let all = parameters.iter().all(|own| {
            let grad = own.grad.as_ref().unwrap_or(&own.value);
            served([&own.value, &own.first, &own.second, grad])
        });
        if !all {
            return plain::adamw_update::<Self>(parameters, step, clip);
        }
        let factor = clip.map(|clip| plain::clip_factor::<Self>(clip, step));
        groups::<R, _>(parameters, [5, factor.iter().len()], |own| &own.value)
            .into_iter()
            .flat_map(|group| adamw(group, step, factor.clone()))
            .collect()
    }

    fn averages(pairs: Vec<[FloatTensor<Self>; 2]>, decay: f64) -> Vec<FloatTensor<Self>> {
        match pairs.iter().all(|[average, now]| served([average, now])) {
            true => groups::<R, _>(pairs, [3, 0], |[average, _]| average)
                .into_iter()
                .flat_map(|group| averages(group, decay))
                .collect(),
            false => plain::averages::<Self>(pairs, decay),
        }
    }
}

/// The updates of parameters that one kernel takes.
fn adamw<R: CubeRuntime>(
    parameters: Vec<AdamWParameter<CubeFloat<R>>>,
    step: AdamWStep,
    clip_factor: Option<CubeFloat<R>>,
) -> Vec<[CubeFloat<R>; 3]> {
    let count = parameters.len();
    let has_grad: Vec<u32> = parameters.iter().map(|own| own.grad.is_some().into()).collect();
    let keep: Vec<f32> = parameters.iter().map(|own| step.keep(own.decays) as f32).collect();
    let [mut values, mut firsts, mut seconds, mut grads] = [const { Vec::new() }; 4];
    for AdamWParameter { value, first, second, grad, .. } in parameters {
        // What is bound where there is no gradient is not read.
        grads.push(grad.unwrap_or_else(|| value.clone()));
        values.push(value);
        firsts.push(first);
        seconds.push(second);
    }
    let shapes: Vec<Shape> = values.iter().map(|value| value.shape.clone()).collect();
    let inputs = [firsts, seconds, values, grads, clip_factor.into_iter().collect()].concat();
    let launch = move |inputs: Vec<CubeTensor<R>>, outputs: Vec<CubeTensor<R>>| {
        let elements = lengths(&outputs);
        let [beta1, beta2] = step.betas;
        let [correction1, correction2] = step.corrections();
        let client = inputs[0].client.clone();
        let mut all = inputs.into_iter();
        adamw_kernel::launch::<R>(
            &client,
            unit_cubes(&elements),
            CubeDim::new_1d(UNITS),
            arrays(all.by_ref().take(count)),
            arrays(all.by_ref().take(count)),
            arrays(all.by_ref().take(count)),
            arrays(all.by_ref().take(count)),
            arrays(all),
            arrays(outputs),
            elements.iter().copied().collect(),
            has_grad.iter().copied().collect(),
            keep.iter().copied().collect(),
            step.grad_factor as f32,
            beta1 as f32,
            (1.0 - beta1) as f32,
            beta2 as f32,
            (1.0 - beta2) as f32,
            (step.learning_rate / correction1) as f32,
            correction2.sqrt().recip() as f32,
            step.epsilon as f32,
        );
    };
    let mut firsts = register_in_place("AdamW", 2 * count, inputs, shapes, launch);
    let values = firsts.split_off(2 * count);
    let seconds = firsts.split_off(count);
    let moments = firsts.into_iter().zip(seconds);
    values.into_iter().zip(moments).map(|(value, (first, second))| [value, first, second]).collect()
}

/// Every unit goes over elements of its own of one tensor after the other.
#[cube(launch)]
fn adamw_kernel(
    firsts: &mut Sequence<Array<f32>>,
    seconds: &mut Sequence<Array<f32>>,
    values: &Sequence<Array<f32>>,
    grads: &Sequence<Array<f32>>,
    clip_factor: &Sequence<Array<f32>>,
    new_values: &mut Sequence<Array<f32>>,
    elements: &Sequence<usize>,
    has_grad: &Sequence<u32>,
    keep: &Sequence<f32>,
    grad_factor: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    rate: f32,
    scale: f32,
    epsilon: f32,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut factor = grad_factor;
    #[unroll]
    for index in 0..clip_factor.len() {
        factor *= clip_factor.index(index)[0];
    }
    #[unroll]
    for index in 0..values.len() {
        let elements = *elements.index(index);
        let has_grad = *has_grad.index(index) == 1u32;
        let keep = *keep.index(index);
        let mut i = ABSOLUTE_POS;
        while i < elements {
            let mut grad = 0.0f32;
            if has_grad {
                grad = grads.index(index)[i] * factor;
            }
            let first = firsts.index(index)[i] * beta1 + grad * rest1;
            let second = seconds.index(index)[i] * beta2 + grad * grad * rest2;
            let value = values.index(index)[i] * keep;
            new_values.index_mut(index)[i] =
                value - first / (second.sqrt() * scale + epsilon) * rate;
            firsts.index_mut(index)[i] = first;
            seconds.index_mut(index)[i] = second;
            i += all;
        }
    }
}

/// The averages that one kernel takes.
fn averages<R: CubeRuntime>(pairs: Vec<[CubeFloat<R>; 2]>, decay: f64) -> Vec<CubeFloat<R>> {
    let count = pairs.len();
    let shapes = pairs.iter().map(|[average, _]| average.shape.clone()).collect();
    let (averages, now): (Vec<_>, Vec<_>) = pairs.into_iter().map(|[a, b]| (a, b)).unzip();
    let launch = move |inputs: Vec<CubeTensor<R>>, outputs: Vec<CubeTensor<R>>| {
        let elements = lengths(&inputs[..count]);
        let client = inputs[0].client.clone();
        let mut all = inputs.into_iter();
        averages_kernel::launch::<R>(
            &client,
            unit_cubes(&elements),
            CubeDim::new_1d(UNITS),
            arrays(all.by_ref().take(count)),
            arrays(all),
            arrays(outputs),
            elements.iter().copied().collect(),
            decay as f32,
            (1.0 - decay) as f32,
        );
    };
    register_all("averages", [averages, now].concat(), shapes, launch)
}

#[cube(launch)]
fn averages_kernel(
    averages: &Sequence<Array<f32>>,
    now: &Sequence<Array<f32>>,
    new: &mut Sequence<Array<f32>>,
    elements: &Sequence<usize>,
    decay: f32,
    rest: f32,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    #[unroll]
    for index in 0..averages.len() {
        let elements = *elements.index(index);
        let mut i = ABSOLUTE_POS;
        while i < elements {
            new.index_mut(index)[i] = averages.index(index)[i] * decay + now.index(index)[i] * rest;
            i += all;
        }
    }
}
