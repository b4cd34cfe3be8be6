//! Feed-forward networks.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{Activation, FusedOps, fused};

use crate::{Init, Linear};

/// `W2·(m ⊙ a(W1·x + b1)) + b2` (Eq. 11), with the activation a (GELU in the paper) and, in search
/// form, a gate m for every hidden dimension.
///
/// Where no hidden dimension is left, it is the bias alone.
#[derive(Module, Debug)]
pub struct Ffn<B: Backend> {
    /// `[dim, hidden]`.
    pub fc1: Option<Linear<B>>,
    /// `[hidden, dim]`.
    pub fc2: Option<Linear<B>>,
    /// `[dim]`, what is left of b2 where no hidden dimension is.
    pub bias: Option<Param<Tensor<B, 1>>>,
    #[module(skip)]
    activation: Activation,
}

/// The searched FFN: [`Ffn`] with gates.
pub type Uffn<B> = Ffn<B>;

impl<B: Backend> Ffn<B> {
    /// A network with fresh weights.
    pub fn new(dim: usize, hidden: usize, activation: Activation, init: &mut Init<B>) -> Self {
        match hidden {
            0 => {
                let bias = Some(init.constant([dim], 0.0));
                Self { fc1: None, fc2: None, bias, activation }
            }
            _ => Self {
                fc1: Some(Linear::new(dim, hidden, init)),
                fc2: Some(Linear::new(hidden, dim, init)),
                bias: None,
                activation,
            },
        }
    }

    /// Number of hidden dimensions.
    pub fn hidden(&self) -> usize {
        self.fc1.as_ref().map_or(0, |fc1| fc1.weight.dims()[1])
    }
}

impl<B: FusedOps> Ffn<B> {
    /// Applies the network, with these gates over its hidden dimensions.
    ///
    /// The gates are laid over the rows of W2, where they cost `hidden·dim` products a step instead
    /// of one per token and hidden dimension; values and gradients are the same.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, gates: `[hidden]` (`None`: all open), output: as x.
    pub fn forward(&self, x: Tensor<B, 3>, gates: Option<Tensor<B, 1>>) -> Tensor<B, 3> {
        let (Some(fc1), Some(fc2)) = (&self.fc1, &self.fc2) else {
            let zeros = x.detach().zeros_like();
            return match &self.bias {
                Some(bias) => zeros + bias.val().unsqueeze(),
                None => zeros,
            };
        };
        let hidden = fused::activate(fc1.forward(x), self.activation);
        let weight = match gates {
            Some(gates) => fc2.weight.val() * gates.unsqueeze_dim::<2>(1),
            None => fc2.weight.val(),
        };
        fused::affine(hidden, weight, fc2.bias.as_ref().map(Param::val))
    }
}
