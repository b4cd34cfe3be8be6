//! What the operations' tests share: fused against plain operations, differentiated by autodiff
//! through every step.

use std::cell::Cell;

use burn::backend::Autodiff;
use burn::prelude::DeviceOps;
use burn::tensor::{
    ElementConversion, Int, Tensor,
    backend::{Backend, DeviceId},
    ops::{FloatTensor, FloatTensorOps},
};

use super::{FusedOps, plain, raw};

thread_local! {
    static DEVICE: Cell<Option<DeviceId>> = const { Cell::new(None) };
}

/// The device that a test computes on.
pub(super) fn device<B: Backend>() -> B::Device {
    DEVICE.get().map_or_else(B::Device::default, B::Device::from_id)
}

/// A test on wgpu's default device, and on that device with kernels compiled to WGSL, which is not what they are
/// compiled to where SPIR-V is at hand.
#[cfg(feature = "wgpu")]
pub(super) fn by_every_compiler(test: impl Fn()) {
    let wgsl = crate::wgsl_device().to_id();
    test();
    DEVICE.set(Some(wgsl));
    test();
    DEVICE.set(None);
}

/// Largest difference relative to the largest reference value.
pub(super) fn error<B: FusedOps, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> f32 {
    let scale: f32 = b.clone().abs().max().into_scalar().elem();
    let difference: f32 = (a - b).abs().max().into_scalar().elem();
    difference / scale.max(1e-6)
}

/// Asserts that two tensors of one shape are equal but for rounding.
pub(super) fn close<B: FusedOps>(name: &str, a: FloatTensor<B>, b: FloatTensor<B>) {
    let e = error::<B, 1>(plain::flat::<B>(a), plain::flat::<B>(b));
    assert!(e < 1e-5, "{name} is off by {e:e}");
}

/// Values of a sine at equal distances.
pub(super) fn wave<B: FusedOps, const D: usize>(shape: [usize; D], frequency: f64) -> Tensor<B, D> {
    let count = shape.iter().product::<usize>() as i64;
    let numbers = Tensor::<B, 1, Int>::arange(0..count, &device::<B>()).float();
    (numbers * frequency).sin().reshape(shape)
}

/// Compares values and the gradients of every input of two functions on irregular inputs.
pub(super) fn check<B: FusedOps>(
    name: &str,
    shapes: &[&[usize]],
    fused: impl Fn(Vec<FloatTensor<Autodiff<B>>>) -> FloatTensor<Autodiff<B>>,
    reference: impl Fn(Vec<FloatTensor<Autodiff<B>>>) -> FloatTensor<Autodiff<B>>,
) {
    let device = device::<B>();
    let inputs: Vec<Tensor<Autodiff<B>, 1>> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| {
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> =
                (0..count).map(|n| 1.5 * ((n * n + 7 * n + 13 * i) as f32).sin()).collect();
            Tensor::<Autodiff<B>, 1>::from_floats(values.as_slice(), &device).require_grad()
        })
        .collect();
    let run = |function: &dyn Fn(Vec<FloatTensor<Autodiff<B>>>) -> FloatTensor<Autodiff<B>>| {
        let shaped = inputs
            .iter()
            .zip(shapes)
            .map(|(x, shape)| Autodiff::<B>::float_reshape(raw(x.clone()), shape.to_vec().into()));
        let y = plain::flat::<Autodiff<B>>(function(shaped.collect()));
        // A weighted sum, so that the incoming gradient differs from place to place.
        let [count] = y.dims();
        let weights = Tensor::<Autodiff<B>, 1, Int>::arange(0..count as i64, &device);
        let weights = (weights.float() * 0.37).sin();
        let grads = (y.clone() * weights).sum().backward();
        let grads: Vec<_> = inputs.iter().map(|x| x.grad(&grads).unwrap()).collect();
        (y.inner(), grads)
    };
    let (y, grads) = run(&fused);
    let (y_reference, grads_reference) = run(&reference);
    let e = error(y, y_reference);
    assert!(e < 2e-6, "{name}: values are off by {e:e}");
    for (i, (a, b)) in grads.into_iter().zip(grads_reference).enumerate() {
        let e = error(a, b);
        // The reference itself, differentiated step by step, is this inexact on ndarray.
        assert!(e < 1e-4, "{name}: gradient of input {i} is off by {e:e}");
    }
}
