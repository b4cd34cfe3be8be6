//! [`NormOps`](super::NormOps) in plain tensor operations.

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use crate::fused::{
    plain::{dims, inverse_root, rows, unfold, with_earlier},
    raw, wrap,
};

/// Normalised rows and the inverse of their standard deviation.
fn normalise<B: Backend>(x: Tensor<B, 2>, epsilon: f64) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let centred = x.clone() - x.mean_dim(1);
    let inverse = (centred.clone().square().mean_dim(1) + epsilon).sqrt().recip();
    (centred * inverse.clone(), inverse)
}

pub(super) fn layer_norm<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let dims = dims::<B>(&x);
    let (normal, _) = normalise(rows::<B>(x), epsilon);
    unfold(normal * wrap::<B, 1>(weight).unsqueeze() + wrap::<B, 1>(bias).unsqueeze(), dims)
}

pub(super) fn layer_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    earlier: Option<FloatTensor<B>>,
    epsilon: f64,
) -> [FloatTensor<B>; 3] {
    let dims = dims::<B>(&x);
    let (normal, inverse) = normalise(rows::<B>(x), epsilon);
    let grad = rows::<B>(grad);
    let weight_grad = (grad.clone() * normal.clone()).sum_dim(0).squeeze_dim::<1>(0);
    let bias_grad = grad.clone().sum_dim(0).squeeze_dim::<1>(0);
    let scaled = grad * wrap::<B, 1>(weight).unsqueeze();
    let along = (scaled.clone() * normal.clone()).mean_dim(1);
    let x_grad = (scaled.clone() - scaled.mean_dim(1) - normal * along) * inverse;
    let x_grad = unfold(x_grad, dims);
    let x_grad = with_earlier::<B>(x_grad, earlier);
    [x_grad, raw(weight_grad), raw(bias_grad)]
}

/// Rows over their root mean square, and its inverse.
fn over_root_mean_square<B: Backend>(
    x: Tensor<B, 2>,
    epsilon: f64,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let inverse = inverse_root(x.clone().square().mean_dim(1), epsilon);
    (x * inverse.clone(), inverse)
}

pub(super) fn rms_norm<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let dims = dims::<B>(&x);
    let (normal, _) = over_root_mean_square(rows::<B>(x), epsilon);
    unfold(normal * wrap::<B, 1>(weight).unsqueeze(), dims)
}

pub(super) fn rms_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    epsilon: f64,
) -> [FloatTensor<B>; 2] {
    let dims = dims::<B>(&x);
    let (normal, inverse) = over_root_mean_square(rows::<B>(x), epsilon);
    let grad = rows::<B>(grad);
    let weight_grad = (grad.clone() * normal.clone()).sum_dim(0).squeeze_dim::<1>(0);
    let scaled = grad * wrap::<B, 1>(weight).unsqueeze();
    let along = (scaled.clone() * normal.clone()).mean_dim(1);
    [unfold((scaled - normal * along) * inverse, dims), raw(weight_grad)]
}
