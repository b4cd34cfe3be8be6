//! Products of matrices in a lower type, as mixed-precision training has them.
//!
//! Everything is float32 and stays so: parameters, their moments, thresholds, statistics, softmax, sums,
//! losses. Within [`Precision::within`] the factors of the products that a graph records ([`affine`](super::affine)
//! and [`self_attention`](super::self_attention), forwards and backwards) are rounded to the lower type, which is
//! also what is kept for the backward pass; what comes out is float32 again.

#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use std::cell::Cell;

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::{DType, FloatDType, backend::Backend, ops::FloatTensor};
use serde::{Deserialize, Serialize};

/// The type of products' factors while a model is trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32, 24 bits.
    #[default]
    F32,
    /// bfloat16: float32's exponent, 8 bits.
    Bf16,
    /// float16: 11 bits, from 6e-8 to 65504.
    F16,
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Puts the precision before back, also where work panics.
struct Before(Precision);

impl Drop for Before {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

impl Precision {
    /// Does `work` with products of this type. They are those that the calling thread records in a graph;
    /// their backward passes keep to it, wherever they run.
    pub fn within<R>(self, work: impl FnOnce() -> R) -> R {
        let _before = Before(CURRENT.replace(self));
        work()
    }

    /// That of the calling thread.
    pub(super) fn current() -> Self {
        CURRENT.get()
    }

    /// As a configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// As Burn names it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

/// Rounding to a lower type and back.
pub trait PrecisionOps: Backend {
    /// Whether products of a lower type are those of float32 with rounded factors, as slow as those: to see
    /// what a precision does, not to be faster.
    const EMULATED: bool = false;

    /// The values rounded to the type, in it or in float32.
    fn lowered(x: FloatTensor<Self>, to: Precision) -> FloatTensor<Self> {
        plain::lowered::<Self>(x, to)
    }

    /// The values in float32.
    fn raised(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match Self::float_dtype(&x) {
            DType::F32 => x,
            _ => Self::float_cast(x, FloatDType::F32),
        }
    }

    /// A tensor's type.
    fn float_dtype(x: &FloatTensor<Self>) -> DType {
        burn::tensor::TensorMetadata::dtype(x)
    }
}

// A graph's operations round what is inside.
impl<B: PrecisionOps, C: CheckpointStrategy> PrecisionOps for Autodiff<B, C> {
    const EMULATED: bool = B::EMULATED;
}
