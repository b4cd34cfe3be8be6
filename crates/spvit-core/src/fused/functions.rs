//! [`FusedOps`] for [`Tensor`]s: what layers call.

use burn::tensor::Tensor;

use super::{AdamWStep, Bottleneck, FusedOps, Grid, NormParameters, raw, wrap};

/// Affine map of the last dimension, see [`FusedOps::affine`].
pub fn affine<B: FusedOps, const D: usize>(
    x: Tensor<B, D>,
    w: Tensor<B, 2>,
    b: Option<Tensor<B, 1>>,
) -> Tensor<B, D> {
    wrap(B::affine(raw(x), raw(w), b.map(raw)))
}

/// Sum of two tensors of one shape, see [`FusedOps::sum`].
pub fn sum<B: FusedOps, const D: usize>(x: Tensor<B, D>, y: Tensor<B, D>) -> Tensor<B, D> {
    wrap(B::sum(raw(x), raw(y)))
}

/// Output, mean and biased variance of a batch normalisation, see [`FusedOps::batch_norm`].
pub fn batch_norm<B: FusedOps>(
    x: Tensor<B, 3>,
    [offset, weight, bias]: [Tensor<B, 1>; 3],
    epsilon: f64,
) -> (Tensor<B, 3>, [Tensor<B, 1>; 2]) {
    let parameters = NormParameters { offset: raw(offset), weight: raw(weight), bias: raw(bias) };
    let [y, mean, variance] = B::batch_norm(raw(x), parameters, epsilon);
    (wrap(y), [wrap(mean), wrap(variance)])
}

/// Convolution by indexing values, see [`FusedOps::mix_shift`].
pub fn mix_shift<B: FusedOps>(v: Tensor<B, 3>, p: Tensor<B, 2>, grid: Grid) -> Tensor<B, 3> {
    wrap(B::mix_shift(raw(v), raw(p), grid))
}

/// Shift and add, see [`FusedOps::shift_sum`].
pub fn shift_sum<B: FusedOps>(u: Tensor<B, 3>, grid: Grid) -> Tensor<B, 3> {
    wrap(B::shift_sum(raw(u), grid))
}

/// Bottleneck convolution with a folded normalisation, see [`FusedOps::bottleneck`].
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

/// The tensor outside any graph, see [`FusedOps::constant`].
pub fn constant<B: FusedOps, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    wrap(B::constant(raw(x)))
}

/// One AdamW update of a parameter and its moments, see [`FusedOps::adamw_update`].
pub fn adamw_update<B: FusedOps>(
    [parameter, first, second, grad]: [Tensor<B, 1>; 4],
    step: AdamWStep,
) -> [Tensor<B, 1>; 3] {
    let inputs = [raw(parameter), raw(first), raw(second), raw(grad)];
    B::adamw_update(inputs, step).map(wrap)
}

/// Inner product of a tensor with itself, `[1]`.
pub fn squared_norm<B: FusedOps>(x: Tensor<B, 1>) -> Tensor<B, 1> {
    wrap(B::inner_products(raw(x.clone()), vec![raw(x)]))
}

/// Gives coefficients their gradients, see [`FusedOps::with_coefficient_grads`].
pub fn with_coefficient_grads<B: FusedOps, const D: usize>(
    x: Tensor<B, D>,
    coefficients: Tensor<B, 1>,
    values: Vec<Tensor<B, D>>,
) -> Tensor<B, D> {
    let values = values.into_iter().map(raw).collect();
    wrap(B::with_coefficient_grads(raw(x), raw(coefficients), values))
}
