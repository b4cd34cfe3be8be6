//! [`DistributionOps`](super::DistributionOps) in plain tensor operations.

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use crate::fused::{
    plain::{inverse_root, with_earlier},
    raw, wrap,
};

pub(super) fn head_distribution<B: Backend>(z: FloatTensor<B>, alpha: f64) -> FloatTensor<B> {
    let z = wrap::<B, 2>(z) / alpha;
    let e = (z.clone() - z.max_dim(0)).exp();
    // A quotient would be inexact on Burn's ndarray backend, as a reciprocal of 32 or more values.
    let root = inverse_root(e.clone().sum_dim(0), 0.0);
    raw(e * root.clone() * root)
}

pub(super) fn head_distribution_backward<B: Backend>(
    p: FloatTensor<B>,
    grad: FloatTensor<B>,
    alpha: f64,
) -> FloatTensor<B> {
    let (p, grad) = (wrap::<B, 2>(p), wrap::<B, 2>(grad));
    let mean = (p.clone() * grad.clone()).sum_dim(0);
    raw(p * (grad - mean) / alpha)
}

pub(super) fn head_sum<B: Backend>(w: FloatTensor<B>, p: FloatTensor<B>) -> FloatTensor<B> {
    let (w, shares) = by_head::<B>(w, p);
    raw((w * shares).sum_dim(1).squeeze_dim::<2>(1))
}

pub(super) fn head_sum_backward<B: Backend>(
    w: FloatTensor<B>,
    p: FloatTensor<B>,
    grad: FloatTensor<B>,
    earlier: Option<FloatTensor<B>>,
) -> [FloatTensor<B>; 2] {
    let positions = wrap::<B, 2>(p.clone()).dims()[1];
    let (w, shares) = by_head::<B>(w, p);
    let [n, heads, d] = w.dims();
    let grad = wrap::<B, 2>(grad).reshape([n, 1, d]);
    let w_grad = (grad.clone() * shares).reshape([n, heads * d]);
    let along = (w * grad).sum_dim(2).sum_dim(0).reshape([heads, 1]);
    let p_grad = raw(along.repeat_dim(1, positions));
    [raw(w_grad), with_earlier::<B>(p_grad, earlier)]
}

/// `[n, heads, d]` of w, and every head's share `[1, heads, 1]`.
fn by_head<B: Backend>(w: FloatTensor<B>, p: FloatTensor<B>) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let (w, p) = (wrap::<B, 2>(w), wrap::<B, 2>(p));
    let ([n, width], [heads, _]) = (w.dims(), p.dims());
    (w.reshape([n, heads, width / heads]), p.sum_dim(1).reshape([1, heads, 1]))
}
