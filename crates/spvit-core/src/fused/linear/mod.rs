//! Linear layers, and residual sums.

#[cfg(feature = "cube")]
mod cube;
mod graph;
#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use burn::tensor::{Tensor, ops::FloatTensor};

use super::{FusedOps, PrecisionOps, raw, wrap};

/// Affine maps and sums with their own backward pass.
pub trait LinearOps: PrecisionOps {
    /// `x·w + b`: x `[.., k]`, w `[k, n]`, b `[n]` to `[.., n]`. x and w are of one type; b and the
    /// output are float32.
    fn affine(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        plain::affine::<Self>(x, w, b)
    }

    /// Gradient of [`LinearOps::affine`] for x: `grad·wᵀ`.
    fn affine_x_backward(w: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::affine_x_backward::<Self>(w, grad)
    }

    /// Gradient of [`LinearOps::affine`] for w: `xᵀ·grad`.
    fn affine_w_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::affine_w_backward::<Self>(x, grad)
    }

    /// Gradient of [`LinearOps::affine`] for b: the sum of the rows.
    fn affine_b_backward(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::affine_b_backward::<Self>(grad)
    }

    /// Sum of two tensors of one shape, such as a residual and its branch.
    fn sum(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(x, y)
    }
}

/// Affine map of the last dimension, `x·w + b`.
///
/// # Shapes
/// - x: `[.., k]`, w: `[k, n]`, b: `[n]`, output: `[.., n]`.
pub fn affine<B: FusedOps, const D: usize>(
    x: Tensor<B, D>,
    w: Tensor<B, 2>,
    b: Option<Tensor<B, 1>>,
) -> Tensor<B, D> {
    wrap(B::affine(raw(x), raw(w), b.map(raw)))
}

/// Sum of two tensors of one shape, such as a residual and its branch.
///
/// # Shapes
/// - x, y and output: any, all the same.
pub fn sum<B: FusedOps, const D: usize>(x: Tensor<B, D>, y: Tensor<B, D>) -> Tensor<B, D> {
    wrap(B::sum(raw(x), raw(y)))
}
