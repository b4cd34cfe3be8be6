//! [`BottleneckOps`](super::BottleneckOps) by its parts.

use burn::tensor::{TensorMetadata, activation::relu, ops::FloatTensor};

use super::{Bottleneck, BottleneckOps};
use crate::fused::{Grid, raw, wrap};

pub(super) fn bottleneck<B: BottleneckOps>(
    x: FloatTensor<B>,
    weights: Bottleneck<B>,
    grid: Grid,
) -> FloatTensor<B> {
    let kernel = wrap::<B, 4>(weights.kernel);
    let [d, dim, k, _] = kernel.dims();
    let kernel = kernel.permute([1, 3, 2, 0]).reshape([dim, k * k * d]);
    let products = B::affine(x.clone(), raw(kernel), None);
    let sums = wrap::<B, 3>(B::shift_sum(products, grid));
    let row = |x: FloatTensor<B>| wrap::<B, 1>(x).unsqueeze::<3>();
    let y = relu(sums * row(weights.scale) + row(weights.shift));
    let y = B::affine(raw(y), weights.w, Some(weights.b));
    match x.shape() == y.shape() {
        true => y,
        false => B::with_prefix(x, y),
    }
}
