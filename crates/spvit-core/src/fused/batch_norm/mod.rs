//! Batch normalisation and ReLU of bottleneck convolutions in training (Eqs. 8 and 9); in evaluation they are
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

/// Vectors of [`BatchNormOps::batch_norm_relu`], each `[d]`.
#[derive(Debug, Clone)]
pub struct NormParameters<B: Backend> {
    /// Added to the input.
    pub offset: FloatTensor<B>,
    /// Factor of the normalised input.
    pub weight: FloatTensor<B>,
    /// Added to it.
    pub bias: FloatTensor<B>,
}

/// Batch normalisation and ReLU with their own backward pass.
pub trait BatchNormOps: Backend {
    /// ReLU of the batch normalisation of `x + offset` by the batch's own statistics: x `[.., d]`, offset,
    /// weight and bias `[d]`, to the output, and the mean and the biased and unbiased variance `[d]` of
    /// `x + offset`, which have no gradient.
    fn batch_norm_relu(
        x: FloatTensor<Self>,
        parameters: NormParameters<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 4] {
        plain::batch_norm_relu::<Self>(x, parameters, epsilon)
    }

    /// Gradients of [`BatchNormOps::batch_norm_relu`] for x, offset, weight and bias, given its first three
    /// outputs.
    fn batch_norm_relu_backward(
        x: FloatTensor<Self>,
        parameters: NormParameters<Self>,
        outputs: [FloatTensor<Self>; 3],
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 4] {
        plain::batch_norm_relu_backward::<Self>(x, parameters, outputs, grad, epsilon)
    }
}

/// ReLU of the batch normalisation of `x + offset` by the batch's own statistics: the output, and the mean
/// and unbiased variance, which have no gradient.
///
/// # Shapes
/// - x: `[batch, tokens, d]`, offset, weight and bias: `[d]`, outputs: as x, and `[d]` each.
pub fn batch_norm_relu<B: FusedOps>(
    x: Tensor<B, 3>,
    [offset, weight, bias]: [Tensor<B, 1>; 3],
    epsilon: f64,
) -> (Tensor<B, 3>, [Tensor<B, 1>; 2]) {
    let parameters = NormParameters { offset: raw(offset), weight: raw(weight), bias: raw(bias) };
    let [y, mean, _, unbiased] = B::batch_norm_relu(raw(x), parameters, epsilon);
    (wrap(y), [wrap(mean), wrap(unbiased)])
}

/// What makes the biased variance of so many values an unbiased one.
fn unbiased(count: usize) -> f64 {
    count as f64 / (count as f64 - 1.0)
}
