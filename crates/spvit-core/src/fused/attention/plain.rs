//! [`AttentionOps`](super::AttentionOps) in plain tensor operations. The state is the bias.

use burn::tensor::{Tensor, activation::softmax, ops::FloatTensor};

use super::AttentionState;
use crate::fused::{Precision, PrecisionOps, raw, wrap};

/// Q, K and V, each `[b, heads, t, d]`.
fn split_heads<B: PrecisionOps>(qkv: Tensor<B, 3>, heads: usize) -> [Tensor<B, 4>; 3] {
    let [b, t, width] = qkv.dims();
    let d = width / 3 / heads;
    let all = qkv.reshape([b, t, 3, heads, d]).permute([2, 0, 3, 1, 4]);
    [0, 1, 2].map(|i| all.clone().narrow(0, i, 1).squeeze_dim::<4>(0))
}

fn lowered<B: PrecisionOps, const D: usize>(x: Tensor<B, D>, to: Precision) -> Tensor<B, D> {
    wrap(B::lowered(raw(x), to))
}

fn raised<B: PrecisionOps, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    wrap(B::raised(raw(x)))
}

/// Of Q and K that are rounded as `precision` says, as are the probabilities.
fn probabilities<B: PrecisionOps>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    bias: Option<FloatTensor<B>>,
    precision: Precision,
) -> Tensor<B, 4> {
    let [b, heads, t, d] = q.dims();
    let mut scores = raised(q.matmul(k.transpose())) * (d as f64).powf(-0.5);
    if let Some(bias) = bias.map(wrap::<B, 4>) {
        let groups = bias.dims()[0];
        let by_group = scores.reshape([b / groups, groups, heads * t, t]);
        let sum = by_group + bias.reshape([1, groups, heads * t, t]);
        scores = sum.reshape([b, heads, t, t]);
    }
    lowered(softmax(scores, 3), precision)
}

/// Of Q, K and V that are rounded as `precision` says.
pub(super) fn self_attention<B: PrecisionOps>(
    qkv: FloatTensor<B>,
    heads: usize,
    bias: Option<FloatTensor<B>>,
    precision: Precision,
) -> (FloatTensor<B>, AttentionState<B>) {
    let [q, k, v] = split_heads::<B>(wrap(qkv), heads);
    let [b, _, t, d] = q.dims();
    let p = probabilities(q, k, bias.clone(), precision);
    let out = raised(p.matmul(v)).swap_dims(1, 2).reshape([b, t, heads * d]);
    (raw(out), AttentionState::Bias(bias))
}

pub(super) fn self_attention_backward<B: PrecisionOps>(
    qkv: FloatTensor<B>,
    state: AttentionState<B>,
    grad: FloatTensor<B>,
    (heads, groups): (usize, Option<usize>),
    precision: Precision,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let [q, k, v] = split_heads::<B>(wrap(qkv), heads);
    let [b, _, t, d] = q.dims();
    let scale = (d as f64).powf(-0.5);
    let p = match state {
        AttentionState::Probabilities(p) => wrap(p),
        AttentionState::Bias(bias) => probabilities(q.clone(), k.clone(), bias, precision),
    };
    let grad = wrap::<B, 3>(grad).reshape([b, t, heads, d]).swap_dims(1, 2);
    let grad = lowered(grad, precision);
    let v_grad = p.clone().transpose().matmul(grad.clone());
    let p_grad = raised(grad.matmul(v.transpose()));
    let p = raised(p);
    let s_grad = (p_grad.clone() - (p_grad * p.clone()).sum_dim(3)) * p;
    let bias_grad = groups.map(|groups| {
        let by_group = s_grad.clone().reshape([b / groups, groups, heads * t, t]);
        raw(by_group.sum_dim(0).reshape([groups, heads, t, t]))
    });
    let s_grad = lowered(s_grad * scale, precision);
    let q_grad = s_grad.clone().matmul(k);
    let k_grad = s_grad.transpose().matmul(q);
    let all = Tensor::stack::<5>(vec![q_grad, k_grad, v_grad], 0);
    let all = raised(all).permute([1, 3, 0, 2, 4]).reshape([b, t, 3 * heads * d]);
    (raw(all), bias_grad)
}

pub(super) fn value_part<B: PrecisionOps>(
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
