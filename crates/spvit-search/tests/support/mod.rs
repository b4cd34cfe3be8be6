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

use burn::tensor::{Tensor, TensorData, backend::Backend};

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
        #[cfg(feature = "wgpu")]
        mod wgpu {
            $(#[test] fn $name() { super::$name::<burn::backend::Wgpu>(); })*
        }
        #[cfg(feature = "tch")]
        mod tch {
            $(#[test] fn $name() { super::$name::<burn::backend::LibTorch>(); })*
        }
    };
}

/// A tensor's values as f32.
pub fn values(data: &TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

/// A tensor's values on the host.
pub fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    values(&tensor.into_data())
}
