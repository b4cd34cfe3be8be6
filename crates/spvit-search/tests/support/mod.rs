//! What the tests share: the stored cases, models and gates from them, gradients by published
//! name, and comparisons that remember their largest error.

// Every test program compiles this module and uses a part of it.
#![allow(dead_code, unused_imports)]

mod case;
mod compare;
mod gradients;
mod noise;

pub use case::{Case, cases, gates_of, operation, read};
pub use compare::{Errors, Scale, gradient_scale, magnitude};
pub use gradients::{gradients, split_qkv, threshold_gradients, thresholds};
pub use noise::Noise;

use std::cell::Cell;

use burn::{
    prelude::DeviceOps,
    tensor::{
        Tensor, TensorData,
        backend::{Backend, DeviceId},
    },
};

/// Makes a test of every generic function for each CPU backend, and for those that a feature of this
/// crate adds.
macro_rules! on_all_backends {
    ($($name:ident),* $(,)?) => {
        mod flex {
            $(#[test] fn $name() { super::$name::<burn::backend::Flex>(); })*
        }
        mod ndarray {
            $(#[test] fn $name() { super::$name::<burn::backend::NdArray>(); })*
        }
        #[cfg(feature = "cuda")]
        mod cuda {
            $(#[test] fn $name() { super::$name::<burn::backend::Cuda>(); })*
        }
        // Twice, as the other compiler may be compiled in.
        #[cfg(feature = "wgpu")]
        mod wgpu {
            $(#[test] fn $name() {
                spvit_core::wgsl_device();
                super::$name::<burn::backend::Wgpu>();
            })*

            mod by_wgsl {
                $(#[test] fn $name() {
                    crate::support::on_device(
                        spvit_core::wgsl_device(),
                        super::super::$name::<burn::backend::Wgpu>,
                    );
                })*
            }
        }
        #[cfg(feature = "tch")]
        mod tch {
            $(#[test] fn $name() { super::$name::<burn::backend::LibTorch>(); })*
        }
    };
}

thread_local! {
    static DEVICE: Cell<Option<DeviceId>> = const { Cell::new(None) };
}

/// The device that a test computes on.
pub fn device<B: Backend>() -> B::Device {
    DEVICE.get().map_or_else(B::Device::default, B::Device::from_id)
}

/// A test on this device.
pub fn on_device(device: impl DeviceOps, test: impl FnOnce()) {
    DEVICE.set(Some(device.to_id()));
    test();
    DEVICE.set(None);
}

/// A tensor's values as f32.
pub fn values(data: &TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

/// A tensor's values on the host.
pub fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    values(&tensor.into_data())
}
