//! Layer normalisation, and the learned scale of a residual branch.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::Init;

/// `(x - mean)/√(variance + ε)·weight + bias` over the last dimension.
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// Scale `[dim]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Shift `[dim]`.
    pub bias: Param<Tensor<B, 1>>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl<B: Backend> LayerNorm<B> {
    /// The identity scale and shift.
    pub fn new(dim: usize, epsilon: f64, init: &mut Init<B>) -> Self {
        Self { weight: init.constant([dim], 1.0), bias: init.constant([dim], 0.0), epsilon }
    }
}

impl<B: FusedOps> LayerNorm<B> {
    /// Normalises the last dimension.
    ///
    /// # Shapes
    /// - x: `[.., dim]`, output: the same.
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        fused::layer_norm(x, self.weight.val(), self.bias.val(), self.epsilon)
    }
}

/// `γ ⊙ x` (Touvron et al., 2021, LayerScale).
#[derive(Module, Debug)]
pub struct LayerScale<B: Backend> {
    /// Scale `[dim]`.
    pub gamma: Param<Tensor<B, 1>>,
}

impl<B: Backend> LayerScale<B> {
    /// A small scale, 1e-5.
    pub fn new(dim: usize, init: &mut Init<B>) -> Self {
        Self { gamma: init.constant([dim], 1e-5) }
    }

    /// Scales the last dimension.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, output: the same.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        x * self.gamma.val().unsqueeze()
    }
}
