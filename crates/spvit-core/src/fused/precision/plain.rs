//! [`PrecisionOps`](super::PrecisionOps) in plain tensor operations.

use burn::tensor::{FloatDType, backend::Backend, ops::FloatTensor};

use super::Precision;

pub(super) fn lowered<B: Backend>(x: FloatTensor<B>, to: Precision) -> FloatTensor<B> {
    match to {
        Precision::F32 => x,
        Precision::Bf16 => B::float_cast(x, FloatDType::BF16),
        Precision::F16 => B::float_cast(x, FloatDType::F16),
    }
}
