//! The bottleneck convolution of a compact model in evaluation.

#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{FusedOps, Grid, LinearOps, ShiftOps, TokenOps, raw, wrap};

/// Weights of [`BottleneckOps::bottleneck`].
#[derive(Debug, Clone)]
pub struct Bottleneck<B: Backend> {
    /// Convolution `[d, dim, k, k]`.
    pub kernel: FloatTensor<B>,
    /// Factor of every channel `[d]`.
    pub scale: FloatTensor<B>,
    /// Summand of every channel `[d]`.
    pub shift: FloatTensor<B>,
    /// Projection `[d, dim]`.
    pub w: FloatTensor<B>,
    /// Its bias `[dim]`.
    pub b: FloatTensor<B>,
}

/// A bottleneck convolution in one piece.
pub trait BottleneckOps: LinearOps + ShiftOps + TokenOps {
    /// A whole bottleneck convolution with folded normalisation (Eqs. 8 to 10, for evaluation):
    /// x `[b, s + n, dim]` to the same shape, the first `s` tokens unchanged, the map
    /// `relu(conv(x)·scale + shift)·w + b`.
    fn bottleneck(
        x: FloatTensor<Self>,
        weights: Bottleneck<Self>,
        grid: Grid,
    ) -> FloatTensor<Self> {
        plain::bottleneck::<Self>(x, weights, grid)
    }
}

// In a graph it is its parts, each with its own backward pass.
impl<B: BottleneckOps, C: CheckpointStrategy> BottleneckOps for Autodiff<B, C> {}

/// A whole bottleneck convolution with folded normalisation (Eqs. 8 to 10, for evaluation):
/// `relu(conv(x)·scale + shift)·w + b` on the map, tokens before it unchanged.
///
/// # Shapes
/// - x: `[batch, s + tokens, dim]`, the first s tokens before the map, kernel: `[d, dim, k, k]`,
///   scale and shift: `[d]`, w: `[d, dim]`, b: `[dim]`, output: as x.
pub fn bottleneck<B: FusedOps>(
    x: Tensor<B, 3>,
    kernel: Tensor<B, 4>,
    [scale, shift]: [Tensor<B, 1>; 2],
    (w, b): (Tensor<B, 2>, Tensor<B, 1>),
    grid: Grid,
) -> Tensor<B, 3> {
    let [kernel, w] = [raw(kernel), raw(w)];
    let weights = Bottleneck { kernel, scale: raw(scale), shift: raw(shift), w, b: raw(b) };
    wrap(B::bottleneck(raw(x), weights, grid))
}
