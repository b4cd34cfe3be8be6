//! [`LinearOps`](super::LinearOps) in plain tensor operations.

use burn::tensor::{TensorMetadata, backend::Backend, ops::FloatTensor};

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
    // In the output's own shape, so that what follows can be part of the same kernel.
    let mut wide = vec![1; y.shape().num_dims()];
    if let Some(last) = wide.last_mut() {
        *last = b.shape().num_elements();
    }
    B::float_add(y, B::float_reshape(b, wide.into()))
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
