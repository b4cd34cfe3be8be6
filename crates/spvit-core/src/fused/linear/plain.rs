//! [`LinearOps`](super::LinearOps) in plain tensor operations.

use burn::tensor::{backend::Backend, ops::FloatTensor};

use crate::fused::{
    PrecisionOps,
    plain::{dims, rows, unfold},
    raw, wrap,
};

pub(super) fn affine<B: PrecisionOps>(
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    b: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let dims = dims::<B>(&x);
    let product = wrap::<B, 2>(B::raised(raw(rows::<B>(x).matmul(wrap(w)))));
    let y = match b {
        Some(b) => product + wrap::<B, 1>(b).unsqueeze(),
        None => product,
    };
    unfold(y, dims)
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
