//! [`BatchNormOps`](super::BatchNormOps) in plain tensor operations.

use burn::tensor::{Tensor, activation::relu, backend::Backend, ops::FloatTensor};

use super::{NormParameters, unbiased};
use crate::fused::{
    plain::{dims, inverse_root, rows, unfold},
    raw, wrap,
};

pub(super) fn batch_norm_relu<B: Backend>(
    x: FloatTensor<B>,
    parameters: NormParameters<B>,
    epsilon: f64,
) -> [FloatTensor<B>; 4] {
    let dims = dims::<B>(&x);
    let [offset, weight, bias] = row_vectors(parameters);
    let x = rows::<B>(x) + offset;
    let mean = x.clone().mean_dim(0);
    let centred = x - mean.clone();
    let variance = centred.clone().square().mean_dim(0);
    let [count, d] = centred.dims();
    let y = relu(centred * inverse_root(variance.clone(), epsilon) * weight + bias);
    let of_all = variance.clone() * unbiased(count);
    let [mean, variance, of_all] = [mean, variance, of_all].map(|row| raw(row.reshape([d])));
    [unfold(y, dims), mean, variance, of_all]
}

pub(super) fn batch_norm_relu_backward<B: Backend>(
    x: FloatTensor<B>,
    parameters: NormParameters<B>,
    [y, mean, variance]: [FloatTensor<B>; 3],
    grad: FloatTensor<B>,
    epsilon: f64,
) -> [FloatTensor<B>; 4] {
    let dims = dims::<B>(&x);
    let [offset, weight, _] = row_vectors(parameters);
    let [mean, variance] = [mean, variance].map(|s| wrap::<B, 1>(s).unsqueeze::<2>());
    let inverse = inverse_root(variance, epsilon);
    let normal = (rows::<B>(x) + offset - mean) * inverse.clone();
    let grad = rows::<B>(grad).mask_fill(rows::<B>(y).lower_equal_elem(0.0), 0.0);
    let [count, d] = grad.dims();
    let bias_grad = grad.clone().sum_dim(0);
    let weight_grad = (grad.clone() * normal.clone()).sum_dim(0);
    let common = (bias_grad.clone() + normal * weight_grad.clone()) / count as f64;
    let x_grad = (grad - common) * inverse * weight;
    let offset_grad = x_grad.clone().sum_dim(0);
    let [offset_grad, weight_grad, bias_grad] =
        [offset_grad, weight_grad, bias_grad].map(|sum| raw(sum.reshape([d])));
    [unfold(x_grad, dims), offset_grad, weight_grad, bias_grad]
}

/// Offset, weight and bias as rows.
fn row_vectors<B: Backend>(parameters: NormParameters<B>) -> [Tensor<B, 2>; 3] {
    let NormParameters { offset, weight, bias } = parameters;
    [offset, weight, bias].map(|vector| wrap::<B, 1>(vector).unsqueeze())
}
