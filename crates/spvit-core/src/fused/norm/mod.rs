//! Normalisation of every token over its channels.

#[cfg(feature = "cube")]
mod cube;
mod graph;
#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{FusedOps, raw, wrap};

/// Normalisation over the last dimension with its own backward pass.
pub trait NormOps: Backend {
    /// `(x - mean)/√(variance + ε)·weight + bias` of every row: x `[.., d]`, weight and bias `[d]`.
    fn affine_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        plain::layer_norm::<Self>(x, weight, bias, epsilon)
    }

    /// Gradients of [`NormOps::affine_layer_norm`] for x, weight and bias; that for x is added to an
    /// earlier one, such as a residual's.
    fn affine_layer_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        earlier: Option<FloatTensor<Self>>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 3] {
        plain::layer_norm_backward::<Self>(x, weight, grad, earlier, epsilon)
    }

    /// `x/√(mean(x²) + ε)·weight` of every row: x `[.., d]`, weight `[d]`.
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        plain::rms_norm::<Self>(x, weight, epsilon)
    }

    /// Gradients of [`NormOps::rms_norm`] for x and weight.
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 2] {
        plain::rms_norm_backward::<Self>(x, weight, grad, epsilon)
    }
}

/// Layer normalisation: `(x - mean)/√(variance + ε)·weight + bias` over the last dimension.
///
/// # Shapes
/// - x: `[.., d]`, weight and bias: `[d]`, output: as x.
pub fn layer_norm<B: FusedOps, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    wrap(B::affine_layer_norm(raw(x), raw(weight), raw(bias), epsilon))
}

/// Root-mean-square normalisation: `x/√(mean(x²) + ε)·weight` over the last dimension.
///
/// # Shapes
/// - x: `[.., d]`, weight: `[d]`, output: as x.
pub fn rms_norm<B: FusedOps, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    wrap(B::rms_norm(raw(x), raw(weight), epsilon))
}
