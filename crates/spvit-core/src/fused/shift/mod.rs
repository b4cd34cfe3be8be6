//! Convolution by indexing (Eq. 7): values mixed over heads, or finished products, shifted and
//! added.

#[cfg(feature = "cube")]
mod cube;
mod graph;
mod grid;
#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

pub use grid::Grid;

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{FusedOps, raw, wrap};

/// Convolution by indexing, with its own backward pass.
pub trait ShiftOps: Backend {
    /// Search-time convolution by indexing values (Eqs. 6 and 7, without the bias):
    /// v `[b, s + n, heads·d]`, p `[heads, k²]` to `[b, n, d]`,
    /// `y(t) = Σ_k Σ_h P[h, k]·v_h(neighbour k of t)`, tokens outside the map counting 0. The
    /// first `s` tokens, those before the map's `n` (a class token), are skipped.
    fn mix_shift(v: FloatTensor<Self>, p: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        plain::mix_shift::<Self>(v, p, grid)
    }

    /// Gradients of [`ShiftOps::mix_shift`] for v and p.
    fn mix_shift_backward(
        v: FloatTensor<Self>,
        p: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        grid: Grid,
    ) -> [FloatTensor<Self>; 2] {
        plain::mix_shift_backward::<Self>(v, p, grad, grid)
    }

    /// The shift-and-add half of a convolution whose products are done: u `[b, s + n, k²·d]` to
    /// `[b, n, d]`, `y(t) = Σ_k u(neighbour k of t)[k]`; the first `s` tokens are skipped.
    fn shift_sum(u: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        plain::shift_sum::<Self>(u, grid)
    }

    /// Gradient of [`ShiftOps::shift_sum`], with zeros for the `skipped` tokens.
    fn shift_sum_backward(
        grad: FloatTensor<Self>,
        skipped: usize,
        grid: Grid,
    ) -> FloatTensor<Self> {
        plain::shift_sum_backward::<Self>(grad, skipped, grid)
    }
}

/// Search-time convolution by indexing values (Eqs. 6 and 7, without the bias):
/// `y(t) = Σ_k Σ_h P[h, k]·v_h(neighbour k of t)`, tokens outside the map counting 0.
///
/// # Shapes
/// - v: `[batch, s + tokens, heads·d]`, the first s tokens (those before the map) skipped, p:
///   `[heads, k²]`, output: `[batch, tokens, d]`.
pub fn mix_shift<B: FusedOps>(v: Tensor<B, 3>, p: Tensor<B, 2>, grid: Grid) -> Tensor<B, 3> {
    wrap(B::mix_shift(raw(v), raw(p), grid))
}

/// The shift-and-add half of a convolution whose products are done:
/// `y(t) = Σ_k u(neighbour k of t)[k]` (Eq. 7).
///
/// # Shapes
/// - u: `[batch, s + tokens, k²·d]`, the first s tokens skipped, output: `[batch, tokens, d]`.
pub fn shift_sum<B: FusedOps>(u: Tensor<B, 3>, grid: Grid) -> Tensor<B, 3> {
    wrap(B::shift_sum(raw(u), grid))
}
