//! [`CoefficientOps`](super::CoefficientOps) in plain tensor operations.

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use crate::fused::{plain::flat, raw};

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
    match earlier {
        Some(earlier) => B::float_add(raw(own), earlier),
        None => raw(own),
    }
}

/// One number, for which all are copied side by side: two kernels for each would be more.
pub(super) fn squared_norms<B: Backend>(vectors: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    let all = Tensor::cat(vectors.into_iter().map(flat::<B>).collect(), 0);
    raw(all.square().sum())
}
