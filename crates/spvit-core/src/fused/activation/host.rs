//! [`ActivationOps`] over slices.

use std::{f32::consts::FRAC_1_SQRT_2, mem::MaybeUninit};

use burn::tensor::{TensorMetadata, ops::FloatTensor};
use rayon::prelude::*;

use super::{Activation, ActivationOps, plain};
use crate::fused::host::{
    CHUNK, HostAccess, lent,
    math::{erf, exp},
    simd::simd_fn,
    written,
};

/// √(2/π), twice.
const TWICE_ROOT: f32 = 1.595_769;
const CUBIC: f32 = 0.044_715;
const QUICK: f32 = 1.702;

/// `x·σ(g)`.
#[inline(always)]
fn gated(x: f32, g: f32) -> f32 {
    x / (1.0 + exp(-g))
}

/// Derivative of `x·σ(g(x))`; `e·σ²` is `σ·(1 - σ)` without its cancellation.
#[inline(always)]
fn gated_slope(x: f32, g: f32, slope: f32) -> f32 {
    let e = exp(-g);
    let gate = 1.0 / (1.0 + e);
    gate + x * slope * (e * gate * gate)
}

#[inline(always)]
fn each(x: &[f32], y: &mut [MaybeUninit<f32>], f: impl Fn(f32) -> f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        y.write(f(x));
    }
}

#[inline(always)]
fn each_slope(x: &[f32], g: &[f32], y: &mut [MaybeUninit<f32>], f: impl Fn(f32) -> f32) {
    for ((y, &x), &g) in y.iter_mut().zip(x).zip(g) {
        y.write(g * f(x));
    }
}

simd_fn! {
    fn forward_chunk(x: &[f32], activation: Activation, y: &mut [MaybeUninit<f32>]) {
        match activation {
            Activation::Gelu => each(x, y, |x| 0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))),
            Activation::GeluTanh => {
                each(x, y, |x| gated(x, (x * x * CUBIC + 1.0) * x * TWICE_ROOT));
            }
            Activation::QuickGelu => each(x, y, |x| gated(x, QUICK * x)),
            Activation::Relu => each(x, y, |x| x.max(0.0)),
            Activation::Silu => each(x, y, |x| gated(x, x)),
            Activation::Tanh => each(x, y, |x| 2.0 / (1.0 + exp(-2.0 * x)) - 1.0),
        }
    }
}

simd_fn! {
    fn backward_chunk(x: &[f32], g: &[f32], activation: Activation, y: &mut [MaybeUninit<f32>]) {
        const INV_SQRT_2PI: f32 = 0.398_942_3;
        match activation {
            Activation::Gelu => each_slope(x, g, y, |x| {
                let cdf = 0.5 * (1.0 + erf(x * FRAC_1_SQRT_2));
                cdf + x * INV_SQRT_2PI * exp(-0.5 * x * x)
            }),
            Activation::GeluTanh => each_slope(x, g, y, |x| {
                let square = x * x * CUBIC;
                let slope = (3.0 * square + 1.0) * TWICE_ROOT;
                gated_slope(x, (square + 1.0) * x * TWICE_ROOT, slope)
            }),
            Activation::QuickGelu => each_slope(x, g, y, |x| gated_slope(x, QUICK * x, QUICK)),
            Activation::Relu => each_slope(x, g, y, |x| if x > 0.0 { 1.0 } else { 0.0 }),
            Activation::Silu => each_slope(x, g, y, |x| gated_slope(x, x, 1.0)),
            Activation::Tanh => each_slope(x, g, y, |x| {
                let e = exp(-2.0 * x.abs());
                4.0 * e / ((1.0 + e) * (1.0 + e))
            }),
        }
    }
}

fn forward(x: &[f32], activation: Activation) -> Vec<f32> {
    // SAFETY: the chunks cover the buffer, and the kernel writes all of each.
    #[allow(unsafe_code)]
    unsafe {
        written(x.len(), |y| {
            y.par_chunks_mut(CHUNK)
                .zip(x.par_chunks(CHUNK))
                .for_each(|(y, x)| forward_chunk(x, activation, y));
        })
    }
}

fn backward(x: &[f32], grad: &[f32], activation: Activation) -> Vec<f32> {
    assert_eq!(x.len(), grad.len());
    // SAFETY: as in `forward`.
    #[allow(unsafe_code)]
    unsafe {
        written(x.len(), |y| {
            y.par_chunks_mut(CHUNK)
                .zip(x.par_chunks(CHUNK))
                .zip(grad.par_chunks(CHUNK))
                .for_each(|((y, x), g)| backward_chunk(x, g, activation, y));
        })
    }
}

impl<B: HostAccess> ActivationOps for B {
    fn activate(x: FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
        let shape = x.shape();
        lent!(
            (x) => B::own(forward(&x, activation), shape),
            plain::activate::<B>(x, activation)
        )
    }

    fn activate_backward(
        x: FloatTensor<B>,
        grad: FloatTensor<B>,
        activation: Activation,
    ) -> FloatTensor<B> {
        let shape = x.shape();
        lent!(
            (x, grad) => B::own(backward(&x, &grad, activation), shape),
            plain::activate_backward::<B>(x, grad, activation)
        )
    }
}
