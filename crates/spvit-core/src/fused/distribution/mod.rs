//! How heads share the positions of a kernel (Eq. 5), and what heads' weights add up to by their
//! shares (Eqs. 8 and 9).

#[cfg(feature = "cube")]
mod cube;
mod graph;
#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{FusedOps, raw, wrap};

/// Distributions over heads with their own backward pass.
pub trait DistributionOps: Backend {
    /// `softmax over heads of z/α`: z and the output `[heads, k²]`.
    fn head_distribution(z: FloatTensor<Self>, alpha: f64) -> FloatTensor<Self> {
        plain::head_distribution::<Self>(z, alpha)
    }

    /// Gradient of [`DistributionOps::head_distribution`] for z, given its output `p`:
    /// `p·(grad - Σ_heads p·grad)/α`.
    fn head_distribution_backward(
        p: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        alpha: f64,
    ) -> FloatTensor<Self> {
        plain::head_distribution_backward::<Self>(p, grad, alpha)
    }

    /// `y = Σ_h (Σ_k P[h, k])·w_h`: w `[n, heads·d]`, P `[heads, k²]` to `[n, d]`.
    fn head_sum(w: FloatTensor<Self>, p: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::head_sum::<Self>(w, p)
    }

    /// Gradients of [`DistributionOps::head_sum`] for w, and for P added to an earlier one.
    fn head_sum_backward(
        w: FloatTensor<Self>,
        p: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        earlier: Option<FloatTensor<Self>>,
    ) -> [FloatTensor<Self>; 2] {
        plain::head_sum_backward::<Self>(w, p, grad, earlier)
    }
}

/// Head distribution `P = softmax over heads of z/α` (Eq. 5).
///
/// # Shapes
/// - z: `[heads, k²]`, output: `[heads, k²]`, every column summing to 1.
pub fn head_distribution<B: FusedOps>(z: Tensor<B, 2>, alpha: f64) -> Tensor<B, 2> {
    wrap(B::head_distribution(raw(z), alpha))
}

/// Sum over heads, each by its share of all kernel positions: `y = Σ_h (Σ_k P[h, k])·w_h`.
///
/// # Shapes
/// - w: `[n, heads·d]`, p: `[heads, k²]`, output: `[n, d]`.
pub fn head_sum<B: FusedOps>(w: Tensor<B, 2>, p: Tensor<B, 2>) -> Tensor<B, 2> {
    wrap(B::head_sum(raw(w), raw(p)))
}
