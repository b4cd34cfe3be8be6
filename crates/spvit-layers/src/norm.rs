//! Normalisation of every token, and the learned scale of a residual branch.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::{BlockStyle, Init, NormKind, attention::free};

/// `(x - mean)/√(variance + ε)·weight + bias` over the last dimension; without a bias
/// `x/√(mean(x²) + ε)·weight` ([`NormKind::Rms`]).
#[derive(Module, Debug)]
pub struct Norm<B: Backend> {
    /// Scale `[dim]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Shift `[dim]`; `None`: the root mean square is the scale, and no mean is taken.
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// Added to the variance or mean square.
    pub epsilon: f64,
}

/// A norm's scale, shift and ε, in a graph or outside it.
#[derive(Debug, Clone)]
pub(crate) struct NormWeights<B: Backend> {
    weight: Tensor<B, 1>,
    bias: Option<Tensor<B, 1>>,
    epsilon: f64,
}

impl<B: Backend> Norm<B> {
    /// The identity scale and shift, of the style's kind and ε.
    pub fn new(dim: usize, style: &BlockStyle, init: &mut Init<B>) -> Self {
        let weight = init.constant([dim], 1.0);
        let bias = (style.norm == NormKind::Layer).then(|| init.constant([dim], 0.0));
        Self { weight, bias, epsilon: style.epsilon }
    }
}

impl<B: FusedOps> Norm<B> {
    pub(crate) fn weights(&self, in_graph: bool) -> NormWeights<B> {
        NormWeights {
            weight: free(&self.weight, in_graph),
            bias: self.bias.as_ref().map(|bias| free(bias, in_graph)),
            epsilon: self.epsilon,
        }
    }

    /// Normalises the last dimension.
    ///
    /// # Shapes
    /// - x: `[.., dim]`, output: the same.
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        self.weights(true).apply(x)
    }
}

impl<B: FusedOps> NormWeights<B> {
    pub fn apply<const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self.bias {
            Some(bias) => fused::layer_norm(x, self.weight, bias, self.epsilon),
            None => fused::rms_norm(x, self.weight, self.epsilon),
        }
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

    /// The scale of a row, `[1, dim]`.
    pub(crate) fn row(&self) -> Tensor<B, 2> {
        self.gamma.val().unsqueeze()
    }
}
