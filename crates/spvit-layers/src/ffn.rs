//! Feed-forward networks.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::{Init, Linear};

/// `W2·GELU(W1·x + b1) + b2`.
#[derive(Module, Debug)]
pub struct Ffn<B: Backend> {
    /// `[dim, hidden]`.
    pub fc1: Linear<B>,
    /// `[hidden, dim]`.
    pub fc2: Linear<B>,
}

impl<B: Backend> Ffn<B> {
    /// A network with fresh weights.
    pub fn new(dim: usize, hidden: usize, init: &mut Init<B>) -> Self {
        Self { fc1: Linear::new(dim, hidden, init), fc2: Linear::new(hidden, dim, init) }
    }
}

impl<B: FusedOps> Ffn<B> {
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, output: the same.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.fc2.forward(fused::gelu(self.fc1.forward(x)))
    }
}

/// The searched FFN (Eq. 11): `W2·(m ⊙ GELU(W1·x + b1)) + b2`, a gate for every hidden dimension.
#[derive(Module, Debug)]
pub struct Uffn<B: Backend> {
    /// `[dim, hidden]`.
    pub fc1: Linear<B>,
    /// `[hidden, dim]`.
    pub fc2: Linear<B>,
}

impl<B: Backend> Uffn<B> {
    /// A network with fresh weights.
    pub fn new(dim: usize, hidden: usize, init: &mut Init<B>) -> Self {
        Self { fc1: Linear::new(dim, hidden, init), fc2: Linear::new(hidden, dim, init) }
    }
}

impl<B: FusedOps> Uffn<B> {
    /// The mask is laid over the rows of W2, where it costs `hidden·dim` products a step instead of
    /// one per token and hidden dimension; values and gradients are the same.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, gates: `[hidden]` (`None`: all open), output: as x.
    pub fn forward(&self, x: Tensor<B, 3>, gates: Option<Tensor<B, 1>>) -> Tensor<B, 3> {
        let hidden = fused::gelu(self.fc1.forward(x));
        let weight = match gates {
            Some(gates) => self.fc2.weight.val() * gates.unsqueeze_dim::<2>(1),
            None => self.fc2.weight.val(),
        };
        fused::affine(hidden, weight, Some(self.fc2.bias.val()))
    }
}
