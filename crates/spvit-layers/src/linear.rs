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
    /// Bias `[output]`, or none.
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Linear<B> {
    /// Weights from a normal distribution with deviation 0.02, cut at twice that; bias 0.
    pub fn new(input: usize, output: usize, init: &mut Init<B>) -> Self {
        let bias = Some(init.constant([output], 0.0));
        Self { bias, ..Self::without_bias(input, output, init) }
    }

    /// The same without a bias.
    pub fn without_bias(input: usize, output: usize, init: &mut Init<B>) -> Self {
        Self { weight: init.truncated_normal([input, output], 0.02), bias: None }
    }
}

impl<B: FusedOps> Linear<B> {
    /// Applies the map to the last dimension.
    ///
    /// # Shapes
    /// - x: `[.., input]`, output: `[.., output]`.
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        fused::affine(x, self.weight.val(), self.bias.as_ref().map(Param::val))
    }
}
