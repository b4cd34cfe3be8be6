//! What a classifier learns by.

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

/// Cross-entropy with its own backward pass.
pub trait CrossEntropyOps: Backend {
    /// `-Σ t·log softmax(x)` over all rows, `[1]`, and its gradient for x, `softmax(x)·Σt - t`: x and t
    /// `[count, classes]`.
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        plain::cross_entropy::<Self>(logits, targets)
    }

    /// `-Σ t·log softmax(x)/total`: what [`CrossEntropyOps::cross_entropy`] gives, in a graph where there is one.
    fn mean_cross_entropy(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        total: usize,
    ) -> FloatTensor<Self> {
        let [sum, _] = Self::cross_entropy(logits, targets);
        Self::float_div_scalar(sum, (total as f64).into())
    }
}

/// Cross-entropy against soft targets, summed over the rows and divided by `total`, the size of the batch that
/// they are of: `-Σ t·log softmax(x)/total`. The targets get no gradient.
///
/// # Shapes
/// - logits, targets: `[count, classes]`, output: `[1]`.
pub fn cross_entropy<B: FusedOps>(
    logits: Tensor<B, 2>,
    targets: Tensor<B, 2>,
    total: usize,
) -> Tensor<B, 1> {
    wrap(B::mean_cross_entropy(raw(logits), raw(targets), total))
}
