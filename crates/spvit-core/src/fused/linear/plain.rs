//! [`LinearOps`](super::LinearOps) in plain tensor operations.

use burn::tensor::{backend::Backend, ops::FloatTensor};

use crate::fused::{
    plain::{dims, rows, unfold},
    raw, wrap,
};

pub(super) fn affine<B: Backend>(
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    b: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let dims = dims::<B>(&x);
    plus::<B>(unfold(rows::<B>(x).matmul(wrap(w)), dims), b)
}

/// A bias `[n]` added to every row, if there is one.
pub(super) fn plus<B: Backend>(y: FloatTensor<B>, b: Option<FloatTensor<B>>) -> FloatTensor<B> {
    let Some(b) = b else { return y };
    let dims = dims::<B>(&y);
    unfold(rows::<B>(y) + wrap::<B, 1>(b).unsqueeze(), dims)
}

pub(super) fn affine_x_backward<B: Backend>(
    w: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let dims = dims::<B>(&grad);
    unfold(rows::<B>(grad).matmul(wrap::<B, 2>(w).transpose()), dims)
}

pub(super) fn affine_w_backward<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    raw(rows::<B>(x).transpose().matmul(rows::<B>(grad)))
}

pub(super) fn affine_b_backward<B: Backend>(grad: FloatTensor<B>) -> FloatTensor<B> {
    raw(rows::<B>(grad).sum_dim(0).squeeze_dim::<1>(0))
}
