//! [`AttentionOps`](super::AttentionOps) in plain tensor operations. The state is the probabilities
//! `[b, heads, t, t]`.

use burn::tensor::{Tensor, activation::softmax, backend::Backend, ops::FloatTensor};

use super::AttentionState;
use crate::fused::{raw, wrap};

/// Q, K and V, each `[b, heads, t, d]`.
fn split_heads<B: Backend>(qkv: Tensor<B, 3>, heads: usize) -> [Tensor<B, 4>; 3] {
    let [b, t, width] = qkv.dims();
    let d = width / 3 / heads;
    let all = qkv.reshape([b, t, 3, heads, d]).permute([2, 0, 3, 1, 4]);
    [0, 1, 2].map(|i| all.clone().narrow(0, i, 1).squeeze_dim::<4>(0))
}

pub(super) fn self_attention<B: Backend>(
    qkv: FloatTensor<B>,
    heads: usize,
    bias: Option<FloatTensor<B>>,
) -> (FloatTensor<B>, AttentionState<B>) {
    let [q, k, v] = split_heads::<B>(wrap(qkv), heads);
    let [b, _, t, d] = q.dims();
    let scale = (d as f64).powf(-0.5);
    let mut scores = q.matmul(k.transpose()) * scale;
    if let Some(bias) = bias.map(wrap::<B, 4>) {
        let groups = bias.dims()[0];
        let by_group = scores.reshape([b / groups, groups, heads * t, t]);
        let sum = by_group + bias.reshape([1, groups, heads * t, t]);
        scores = sum.reshape([b, heads, t, t]);
    }
    let p = softmax(scores, 3);
    let out = p.clone().matmul(v).swap_dims(1, 2).reshape([b, t, heads * d]);
    (raw(out), AttentionState::new(raw(p)))
}

pub(super) fn self_attention_backward<B: Backend>(
    qkv: FloatTensor<B>,
    state: AttentionState<B>,
    grad: FloatTensor<B>,
    heads: usize,
    groups: Option<usize>,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let [q, k, v] = split_heads::<B>(wrap(qkv), heads);
    let [b, _, t, d] = q.dims();
    let scale = (d as f64).powf(-0.5);
    let p: Tensor<B, 4> = wrap(state.saved);
    let grad = wrap::<B, 3>(grad).reshape([b, t, heads, d]).swap_dims(1, 2);
    let v_grad = p.clone().transpose().matmul(grad.clone());
    let p_grad = grad.matmul(v.transpose());
    let s_grad = (p_grad.clone() - (p_grad * p.clone()).sum_dim(3)) * p;
    let bias_grad = groups.map(|groups| {
        let by_group = s_grad.clone().reshape([b / groups, groups, heads * t, t]);
        raw(by_group.sum_dim(0).reshape([groups, heads, t, t]))
    });
    let s_grad = s_grad * scale;
    let q_grad = s_grad.clone().matmul(k);
    let k_grad = s_grad.transpose().matmul(q);
    let all = Tensor::stack::<5>(vec![q_grad, k_grad, v_grad], 0);
    (raw(all.permute([1, 3, 0, 2, 4]).reshape([b, t, 3 * heads * d])), bias_grad)
}

pub(super) fn value_part<B: Backend>(
    qkv: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    skipped: usize,
) -> FloatTensor<B> {
    let qkv = wrap::<B, 3>(qkv);
    let [_, tokens, width] = qkv.dims();
    let d = width / 3;
    let values = qkv.narrow(2, 2 * d, d).narrow(1, skipped, tokens - skipped);
    raw(match bias {
        Some(bias) => values - wrap::<B, 1>(bias).unsqueeze(),
        None => values,
    })
}
