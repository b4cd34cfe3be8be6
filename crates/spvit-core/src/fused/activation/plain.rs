//! [`ActivationOps`](super::ActivationOps) in plain tensor operations.

use std::f64::consts::{FRAC_2_PI, PI, SQRT_2};

use burn::tensor::{
    Tensor,
    activation::{relu, sigmoid},
    backend::Backend,
    ops::FloatTensor,
};

use super::Activation;
use crate::fused::plain::{dims, rows, unfold};

pub(super) fn activate<B: Backend>(x: FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
    let dims = dims::<B>(&x);
    unfold(activation_of(rows::<B>(x), activation), dims)
}

pub(super) fn activate_backward<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    let dims = dims::<B>(&x);
    unfold(slope_times(rows::<B>(x), rows::<B>(grad), activation), dims)
}

fn activation_of<B: Backend>(x: Tensor<B, 2>, activation: Activation) -> Tensor<B, 2> {
    match activation {
        Activation::Gelu => x.clone() * normal_cdf(x),
        Activation::Relu => relu(x),
        Activation::Tanh => x.tanh(),
        Activation::GeluTanh | Activation::QuickGelu | Activation::Silu => {
            x.clone() * sigmoid(argument(x, activation))
        }
    }
}

/// The gradient for x.
fn slope_times<B: Backend>(
    x: Tensor<B, 2>,
    grad: Tensor<B, 2>,
    activation: Activation,
) -> Tensor<B, 2> {
    match activation {
        Activation::Gelu => {
            let density = (x.clone().square() * -0.5).exp() * (1.0 / (2.0 * PI).sqrt());
            grad * (normal_cdf(x.clone()) + x * density)
        }
        Activation::Relu => grad.mask_fill(x.lower_equal_elem(0.0), 0.0),
        Activation::Tanh => grad * (-x.tanh().square() + 1.0),
        Activation::GeluTanh | Activation::QuickGelu | Activation::Silu => {
            let g = argument(x.clone(), activation);
            let (gate, closed) = (sigmoid(g.clone()), sigmoid(-g));
            let within = x.clone() * slope(x, activation) * gate.clone() * closed;
            grad * (gate + within)
        }
    }
}

/// Φ of the standard normal distribution.
fn normal_cdf<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    ((x / SQRT_2).erf() + 1.0) * 0.5
}

/// The g of `x·σ(g(x))`; as `0.5·(1 + tanh u) = σ(2u)`, that is the form of all but two activations.
fn argument<B: Backend>(x: Tensor<B, 2>, activation: Activation) -> Tensor<B, 2> {
    match activation {
        Activation::GeluTanh => (x.clone().square() * 0.044715 + 1.0) * x * (2.0 * root()),
        Activation::QuickGelu => x * 1.702,
        _ => x,
    }
}

/// Derivative of [`argument`].
fn slope<B: Backend>(x: Tensor<B, 2>, activation: Activation) -> Tensor<B, 2> {
    match activation {
        Activation::GeluTanh => (x.square() * (3.0 * 0.044715) + 1.0) * (2.0 * root()),
        Activation::QuickGelu => x.ones_like() * 1.702,
        _ => x.ones_like(),
    }
}

fn root() -> f64 {
    FRAC_2_PI.sqrt()
}
