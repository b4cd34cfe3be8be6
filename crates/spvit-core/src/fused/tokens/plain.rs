//! [`TokenOps`](super::TokenOps) in plain tensor operations.

use burn::tensor::{Int, Tensor, backend::Backend, ops::FloatTensor};

use super::TokenMap;
use crate::fused::{plain::with_earlier, raw, wrap};

pub(super) fn patch_rows<B: Backend>(images: FloatTensor<B>, p: usize) -> FloatTensor<B> {
    let images = wrap::<B, 4>(images);
    let [b, c, height, width] = images.dims();
    let (h, w) = (height / p, width / p);
    let cut = images.reshape([b, c, h, p, w, p]).permute([0, 2, 4, 1, 3, 5]);
    raw(cut.reshape([b, h * w, c * p * p]))
}

pub(super) fn tokens<B: Backend>(
    patches: FloatTensor<B>,
    prefix: FloatTensor<B>,
    positions: FloatTensor<B>,
) -> FloatTensor<B> {
    let patches = wrap::<B, 3>(patches);
    let prefix = wrap::<B, 3>(prefix).repeat_dim(0, patches.dims()[0]);
    raw(Tensor::cat(vec![prefix, patches], 1) + wrap::<B, 3>(positions))
}

pub(super) fn tokens_backward<B: Backend>(
    grad: FloatTensor<B>,
    prefix: usize,
) -> [FloatTensor<B>; 3] {
    let grad = wrap::<B, 3>(grad);
    let tokens = grad.dims()[1];
    let positions = grad.clone().sum_dim(0);
    let before = positions.clone().narrow(1, 0, prefix);
    [grad.narrow(1, prefix, tokens - prefix), before, positions].map(raw)
}

pub(super) fn with_prefix<B: Backend>(x: FloatTensor<B>, others: FloatTensor<B>) -> FloatTensor<B> {
    let [x, others] = [x, others].map(wrap::<B, 3>);
    let prefix = x.dims()[1] - others.dims()[1];
    raw(Tensor::cat(vec![x.narrow(1, 0, prefix), others], 1))
}

pub(super) fn with_prefix_backward<B: Backend>(
    grad: FloatTensor<B>,
    earlier: Option<FloatTensor<B>>,
    prefix: usize,
) -> [FloatTensor<B>; 2] {
    let grad = wrap::<B, 3>(grad);
    let [b, t, d] = grad.dims();
    let before = grad.clone().narrow(1, 0, prefix);
    let own = Tensor::zeros([b, t, d], &grad.device()).slice_assign([0..b, 0..prefix], before);
    let own = with_earlier::<B>(raw(own), earlier);
    [own, raw(grad.narrow(1, prefix, t - prefix))]
}

pub(super) fn gather_tokens<B: Backend>(x: FloatTensor<B>, map: &TokenMap) -> FloatTensor<B> {
    let x = wrap::<B, 3>(x);
    let ([b, n, d], device) = (x.dims(), x.device());
    let rows: Vec<i32> =
        map.sources().iter().map(|source| source.map_or(n as i32, |row| row as i32)).collect();
    // Outputs without a source take a row of zeros behind the others.
    let x = match map.sources().contains(&None) {
        true => Tensor::cat(vec![x, Tensor::zeros([b, 1, d], &device)], 1),
        false => x,
    };
    raw(x.select(1, Tensor::<B, 1, Int>::from_ints(rows.as_slice(), &device)))
}
