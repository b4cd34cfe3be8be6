//! [`CrossEntropyOps`](super::CrossEntropyOps) in plain tensor operations.

use burn::tensor::{backend::Backend, ops::FloatTensor};

use crate::fused::{raw, wrap};

pub(super) fn cross_entropy<B: Backend>(
    logits: FloatTensor<B>,
    targets: FloatTensor<B>,
) -> [FloatTensor<B>; 2] {
    let (x, t) = (wrap::<B, 2>(logits), wrap::<B, 2>(targets));
    let shifted = x.clone() - x.max_dim(1);
    let e = shifted.clone().exp();
    let sum = e.clone().sum_dim(1);
    let logs = shifted - sum.clone().log();
    let value = -(logs * t.clone()).sum();
    let gradient = e / sum * t.clone().sum_dim(1) - t;
    [raw(value), raw(gradient)]
}
