//! [`DistributionOps`](super::DistributionOps) in plain tensor operations.

use burn::tensor::{backend::Backend, ops::FloatTensor};

use crate::fused::{plain::inverse_root, raw, wrap};

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
