//! Gates of all blocks at once: sampled, expected, and along the single path.

#[cfg(feature = "cube")]
mod cube;
mod graph;
#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use burn::tensor::{backend::Backend, ops::FloatTensor};

/// Uniform draws and probabilities are kept this far from 0 and 1 before their logarithm is taken.
const EPSILON: f32 = f32::EPSILON;

/// Keeping p within ε of 0 and 1 keeps θ within this: `ln((1 - ε)/ε)`.
fn largest_threshold() -> f32 {
    ((1.0 - EPSILON) / EPSILON).ln()
}

/// Hard gates with the gradients of soft ones.
pub trait GateOps: Backend {
    /// `b = 1[l > 0]` and `s = σ(l)` with `l = log u - log(1 - u) + θ` (Eq. 1): all `[n]`.
    fn sampled(theta: FloatTensor<Self>, uniform: FloatTensor<Self>) -> [FloatTensor<Self>; 2] {
        plain::sampled::<Self>(theta, uniform)
    }

    /// Gradient of [`GateOps::sampled`] for θ, given s: `s(1 - s)·grad`.
    fn sampled_backward(
        theta: FloatTensor<Self>,
        soft: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        plain::sampled_backward::<Self>(theta, soft, grad)
    }

    /// `e = 1[p > 0.5]`, `p = σ(θ)` and `q = σ(p - 0.5)` (Eq. 12): all `[n]`.
    fn expected(theta: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        plain::expected::<Self>(theta)
    }

    /// Gradient of [`GateOps::expected`] for θ, given p and q: `q(1 - q)·p(1 - p)·grad`.
    fn expected_backward(
        p: FloatTensor<Self>,
        q: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        plain::expected_backward::<Self>(p, q, grad)
    }

    /// `g_i = b_0·b_1·…·b_i` of every row (Eq. 2): b and the output `[layers, operations]`.
    fn single_path(own: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::single_path::<Self>(own)
    }

    /// Gradient of [`GateOps::single_path`] for b.
    fn single_path_backward(own: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::single_path_backward::<Self>(own, grad)
    }

    /// The first of [`GateOps::sampled`], in a graph where there is one.
    fn sampled_gates(theta: FloatTensor<Self>, uniform: FloatTensor<Self>) -> FloatTensor<Self> {
        let [hard, _] = Self::sampled(theta, uniform);
        hard
    }

    /// The first of [`GateOps::expected`], in a graph where there is one.
    fn expected_gates(theta: FloatTensor<Self>) -> FloatTensor<Self> {
        let [hard, _, _] = Self::expected(theta);
        hard
    }
}
