//! Batch normalisation of bottleneck convolutions in training (Eqs. 8 and 9); in evaluation it is
//! folded.

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

/// Vectors of [`BatchNormOps::batch_norm`], each `[d]`.
#[derive(Debug, Clone)]
pub struct NormParameters<B: Backend> {
    /// Added to the input.
    pub offset: FloatTensor<B>,
    /// Factor of the normalised input.
    pub weight: FloatTensor<B>,
    /// Added to it.
    pub bias: FloatTensor<B>,
}

/// Batch normalisation with its own backward pass.
pub trait BatchNormOps: Backend {
    /// Batch normalisation of `x + offset` by the batch's own statistics: x `[.., d]`, offset,
    /// weight and bias `[d]`, to the output, and the mean and biased variance `[d]` of
    /// `x + offset`, which have no gradient.
    fn batch_norm(
        x: FloatTensor<Self>,
        parameters: NormParameters<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 3] {
        plain::batch_norm::<Self>(x, parameters, epsilon)
    }

    /// Gradients of [`BatchNormOps::batch_norm`] for x, offset, weight and bias, given its second and
    /// third output.
    fn batch_norm_backward(
        x: FloatTensor<Self>,
        parameters: NormParameters<Self>,
        statistics: [FloatTensor<Self>; 2],
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 4] {
        plain::batch_norm_backward::<Self>(x, parameters, statistics, grad, epsilon)
    }
}

/// Batch normalisation of `x + offset` by the batch's own statistics: the output, and the mean and
/// biased variance, which have no gradient.
///
/// # Shapes
/// - x: `[batch, tokens, d]`, offset, weight and bias: `[d]`, outputs: as x, and `[d]` each.
pub fn batch_norm<B: FusedOps>(
    x: Tensor<B, 3>,
    [offset, weight, bias]: [Tensor<B, 1>; 3],
    epsilon: f64,
) -> (Tensor<B, 3>, [Tensor<B, 1>; 2]) {
    let parameters = NormParameters { offset: raw(offset), weight: raw(weight), bias: raw(bias) };
    let [y, mean, variance] = B::batch_norm(raw(x), parameters, epsilon);
    (wrap(y), [wrap(mean), wrap(variance)])
}
