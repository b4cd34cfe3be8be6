//! Feed-forward networks.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{Activation, FusedOps, fused};

use crate::{BlockShape, FfnKind, Init, Linear, Norm, RowGates};

/// `W2·(m ⊙ a(W1·x + b1)) + b2` (Eq. 11), with the activation a (GELU in the paper) and, in search
/// form, a gate m for every hidden dimension.
///
/// A gated network, [`FfnKind`], has `a(Wg·x + bg) ⊙ (Wx·x + bx)` in place of the activation. Where
/// no hidden dimension is left, a network is its bias alone.
#[derive(Module, Debug)]
pub struct Ffn<B: Backend> {
    /// `[dim, hidden]`, or both maps of a gated network, `[dim, 2·hidden]`.
    pub fc1: Option<Linear<B>>,
    /// Wg and bg, where they are apart, `[dim, hidden]`.
    pub fc1_g: Option<Linear<B>>,
    /// Wx and bx, where they are apart, `[dim, hidden]`.
    pub fc1_x: Option<Linear<B>>,
    /// Over the hidden dimensions, before fc2.
    pub norm: Option<Norm<B>>,
    /// `[hidden, dim]`.
    pub fc2: Option<Linear<B>>,
    /// `[dim]`, what is left of b2 where no hidden dimension is.
    pub bias: Option<Param<Tensor<B, 1>>>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    kind: FfnKind,
}

/// The searched FFN: [`Ffn`] with gates.
pub type Uffn<B> = Ffn<B>;

impl<B: Backend> Ffn<B> {
    /// A plain network with fresh weights.
    pub fn new(dim: usize, hidden: usize, activation: Activation, init: &mut Init<B>) -> Self {
        Self::of_kind(FfnKind::Plain, [dim, hidden], activation, init)
    }

    /// A block's network with fresh weights, of this width.
    pub fn of_shape(shape: &BlockShape, hidden: usize, init: &mut Init<B>) -> Self {
        let style = &shape.style;
        let ffn = Self::of_kind(style.ffn, [shape.dim, hidden], style.activation, init);
        let norm = (style.mlp_norm && hidden > 0).then(|| Norm::new(hidden, style, init));
        Self { norm, ..ffn }
    }

    fn of_kind(
        kind: FfnKind,
        [dim, hidden]: [usize; 2],
        activation: Activation,
        init: &mut Init<B>,
    ) -> Self {
        let empty = Self {
            fc1: None,
            fc1_g: None,
            fc1_x: None,
            norm: None,
            fc2: None,
            bias: None,
            activation,
            kind,
        };
        if hidden == 0 {
            return Self { bias: Some(init.constant([dim], 0.0)), ..empty };
        }
        let mut map = |there: bool, [input, output]: [usize; 2]| {
            there.then(|| Linear::new(input, output, init))
        };
        let width = if kind == FfnKind::Plain { hidden } else { 2 * hidden };
        let split = kind == FfnKind::Split;
        Self {
            fc1: map(!split, [dim, width]),
            fc1_g: map(split, [dim, hidden]),
            fc1_x: map(split, [dim, hidden]),
            fc2: map(true, [hidden, dim]),
            ..empty
        }
    }

    /// Number of hidden dimensions.
    pub fn hidden(&self) -> usize {
        self.fc2.as_ref().map_or(0, |fc2| fc2.weight.dims()[0])
    }

    /// Where the two halves of [`Ffn::fc1`] begin that belong to a gated network's hidden
    /// dimensions: hidden dimension i is the columns `start + i` for every start.
    pub fn halves(&self) -> Vec<usize> {
        match self.kind {
            FfnKind::Plain | FfnKind::Split => vec![0],
            FfnKind::GateFirst | FfnKind::GateLast => vec![0, self.hidden()],
        }
    }
}

impl<B: FusedOps> Ffn<B> {
    /// Applies the network, with these gates over its hidden dimensions.
    ///
    /// The gates are laid over the rows of W2, where they cost `hidden·dim` products a step instead
    /// of one per token and hidden dimension; values and gradients are the same.
    ///
    /// # Shapes
    /// - x: `[.., dim]`, gates: one for each hidden dimension (`None`: all open), output: as x.
    pub fn forward<const D: usize>(
        &self,
        x: Tensor<B, D>,
        gates: Option<&RowGates<B>>,
    ) -> Tensor<B, D> {
        let Some(fc2) = &self.fc2 else {
            let zeros = x.detach().zeros_like();
            return match &self.bias {
                Some(bias) => zeros + bias.val().unsqueeze(),
                None => zeros,
            };
        };
        let weight = match gates {
            Some(gates) => gates.over(fc2.weight.val()),
            None => fc2.weight.val(),
        };
        let hidden = self.features(x);
        fused::affine(hidden, weight, fc2.bias.as_ref().map(Param::val))
    }

    /// What W2 maps, of a network that has hidden dimensions.
    ///
    /// # Shapes
    /// - x: `[.., dim]`, output: `[.., hidden]`.
    pub fn features<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let hidden = self.hidden_values(x);
        match &self.norm {
            Some(norm) => norm.forward(hidden),
            None => hidden,
        }
    }

    fn hidden_values<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let split = |both: Tensor<B, D>| {
            let width = both.dims()[D - 1] / 2;
            [0, 1].map(|half| both.clone().narrow(D - 1, half * width, width))
        };
        let [gate, value] = match (self.kind, &self.fc1, &self.fc1_g, &self.fc1_x) {
            (FfnKind::Plain, Some(fc1), ..) => {
                return fused::activate(fc1.forward(x), self.activation);
            }
            (FfnKind::GateFirst, Some(fc1), ..) => split(fc1.forward(x)),
            (FfnKind::GateLast, Some(fc1), ..) => {
                let [value, gate] = split(fc1.forward(x));
                [gate, value]
            }
            (_, _, Some(gate), Some(value)) => [gate.forward(x.clone()), value.forward(x)],
            _ => unreachable!("an FFN with fc2 has the maps before it"),
        };
        fused::activate(gate, self.activation) * value
    }
}
