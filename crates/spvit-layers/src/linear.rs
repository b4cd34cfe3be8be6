//! Affine map of the last dimension.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::Init;

/// `x·W + b`.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// Weight `[input, output]`, the transpose of PyTorch's.
    pub weight: Param<Tensor<B, 2>>,
    /// Bias `[output]`.
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> Linear<B> {
    /// Weights from a normal distribution with deviation 0.02, cut at twice that; bias 0.
    pub fn new(input: usize, output: usize, init: &mut Init<B>) -> Self {
        Self {
            weight: init.truncated_normal([input, output], 0.02),
            bias: init.constant([output], 0.0),
        }
    }
}

impl<B: FusedOps> Linear<B> {
    /// # Shapes
    /// - x: `[.., input]`, output: `[.., output]`.
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        fused::affine(x, self.weight.val(), Some(self.bias.val()))
    }
}
