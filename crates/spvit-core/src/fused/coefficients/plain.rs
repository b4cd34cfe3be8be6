//! [`CoefficientOps`](super::CoefficientOps) in plain tensor operations.

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use crate::fused::{
    plain::{flat, with_earlier},
    raw, wrap,
};

pub(super) fn inner_products<B: Backend>(
    grad: FloatTensor<B>,
    values: Vec<FloatTensor<B>>,
    [first, count]: [usize; 2],
    earlier: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let grad = flat::<B>(grad);
    let rest = count - first - values.len();
    let zeros = |count: usize| (count > 0).then(|| Tensor::zeros([count], &grad.device()));
    let products = values.into_iter().map(|value| (grad.clone() * flat::<B>(value)).sum());
    let own = Tensor::cat(zeros(first).into_iter().chain(products).chain(zeros(rest)).collect(), 0);
    with_earlier::<B>(raw(own), earlier)
}

pub(super) fn gated_rows<B: Backend>(
    w: FloatTensor<B>,
    gates: FloatTensor<B>,
    first: usize,
) -> FloatTensor<B> {
    let w = wrap::<B, 2>(w);
    let own = column::<B>(gates, [first, w.dims()[0]]);
    raw(w * own)
}

pub(super) fn gated_rows_backward<B: Backend>(
    w: FloatTensor<B>,
    gates: FloatTensor<B>,
    grad: FloatTensor<B>,
    earlier: Option<FloatTensor<B>>,
    first: usize,
) -> [FloatTensor<B>; 2] {
    let (w, grad) = (wrap::<B, 2>(w), wrap::<B, 2>(grad));
    let ([rows, _], [count]) = (w.dims(), wrap::<B, 1>(gates.clone()).dims());
    let sums = (grad.clone() * w).sum_dim(1).reshape([rows]);
    let w_grad = grad * column::<B>(gates, [first, rows]);
    let own = Tensor::zeros([count], &sums.device()).slice_assign(first..first + rows, sums);
    let own = with_earlier::<B>(raw(own), earlier);
    [raw(w_grad), own]
}

/// Gates from a place on, so many of them.
fn column<B: Backend>(gates: FloatTensor<B>, [first, rows]: [usize; 2]) -> Tensor<B, 2> {
    wrap::<B, 1>(gates).narrow(0, first, rows).unsqueeze_dim(1)
}

/// One number, for which all are copied side by side: two kernels for each would be more.
pub(super) fn squared_norms<B: Backend>(vectors: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    let all = Tensor::cat(vectors.into_iter().map(flat::<B>).collect(), 0);
    raw(all.square().sum())
}
