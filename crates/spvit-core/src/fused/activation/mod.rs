//! Activations of feed-forward networks (Eq. 11).

mod graph;
#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{FusedOps, raw, wrap};

/// A function of one number between the two layers of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x·Φ(x)`, exact, with the error function.
    #[default]
    Gelu,
    /// `0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
    GeluTanh,
    /// `x·σ(1.702·x)`.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `x·σ(x)`.
    Silu,
    /// `tanh(x)`.
    Tanh,
}

/// Activations with their own backward pass.
pub trait ActivationOps: Backend {
    /// The activation of every element. Any shape.
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        plain::activate::<Self>(x, activation)
    }

    /// Gradient of [`ActivationOps::activate`] at `x`.
    fn activate_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        plain::activate_backward::<Self>(x, grad, activation)
    }
}

/// The activation of every element.
///
/// # Shapes
/// - x: any, output: the same.
pub fn activate<B: FusedOps, const D: usize>(
    x: Tensor<B, D>,
    activation: Activation,
) -> Tensor<B, D> {
    wrap(B::activate(raw(x), activation))
}

/// Exact GELU of every element, [`Activation::Gelu`].
///
/// # Shapes
/// - x: any, output: the same.
pub fn gelu<B: FusedOps, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    activate(x, Activation::Gelu)
}
