//! How heads share the positions of a kernel (Eq. 5).

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
}

/// Head distribution `P = softmax over heads of z/α` (Eq. 5).
///
/// # Shapes
/// - z: `[heads, k²]`, output: `[heads, k²]`, every column summing to 1.
pub fn head_distribution<B: FusedOps>(z: Tensor<B, 2>, alpha: f64) -> Tensor<B, 2> {
    wrap(B::head_distribution(raw(z), alpha))
}
