//! [`GateOps`](super::GateOps) in plain tensor operations.

use burn::tensor::{Tensor, activation::sigmoid, backend::Backend, ops::FloatTensor};

use super::{EPSILON, largest_threshold};
use crate::fused::{raw, wrap};

/// As `p = σ(θ)`, its logarithms are θ itself.
pub(super) fn sampled<B: Backend>(
    theta: FloatTensor<B>,
    uniform: FloatTensor<B>,
) -> [FloatTensor<B>; 2] {
    let u = wrap::<B, 1>(uniform).clamp(EPSILON, 1.0 - EPSILON);
    let drawn = u.clone().log() - (-u + 1.0).log();
    let largest = largest_threshold();
    let l = drawn + wrap::<B, 1>(theta).clamp(-largest, largest);
    [raw(l.clone().greater_elem(0.0).float()), raw(sigmoid(l))]
}

pub(super) fn sampled_backward<B: Backend>(
    theta: FloatTensor<B>,
    soft: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let beyond = wrap::<B, 1>(theta).abs().greater_elem(largest_threshold());
    raw(wrap::<B, 1>(B::sigmoid_backward(soft, grad)).mask_fill(beyond, 0.0))
}

pub(super) fn expected<B: Backend>(theta: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    let p = sigmoid(wrap::<B, 1>(theta));
    let hard = p.clone().greater_elem(0.5).float();
    let q = sigmoid(p.clone() - 0.5);
    [raw(hard), raw(p), raw(q)]
}

pub(super) fn expected_backward<B: Backend>(
    p: FloatTensor<B>,
    q: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    B::sigmoid_backward(p, B::sigmoid_backward(q, grad))
}

/// `b_0·…·b_i` for every i, each `[layers, 1]`.
fn products<B: Backend>(own: &Tensor<B, 2>) -> Vec<Tensor<B, 2>> {
    let gates = (0..own.dims()[1]).map(|i| own.clone().narrow(1, i, 1));
    let product = |before: &mut Option<Tensor<B, 2>>, gate: Tensor<B, 2>| {
        let next = match before.take() {
            Some(before) => before * gate,
            None => gate,
        };
        *before = Some(next.clone());
        Some(next)
    };
    gates.scan(None, product).collect()
}

pub(super) fn single_path<B: Backend>(own: FloatTensor<B>) -> FloatTensor<B> {
    raw(Tensor::cat(products(&wrap::<B, 2>(own)), 1))
}

/// From the last gate on: `d_i = grad_i + b_{i+1}·d_{i+1}`, and b_i has the gradient `g_{i-1}·d_i`.
pub(super) fn single_path_backward<B: Backend>(
    own: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let (own, grad) = (wrap::<B, 2>(own), wrap::<B, 2>(grad));
    let products = products(&own);
    let mut grads = Vec::with_capacity(products.len());
    let mut along: Option<Tensor<B, 2>> = None;
    for i in (0..products.len()).rev() {
        let here = grad.clone().narrow(1, i, 1);
        let all = match along.take() {
            Some(later) => here + own.clone().narrow(1, i + 1, 1) * later,
            None => here,
        };
        grads.push(match i.checked_sub(1).and_then(|before| products.get(before)) {
            Some(before) => before.clone() * all.clone(),
            None => all.clone(),
        });
        along = Some(all);
    }
    grads.reverse();
    raw(Tensor::cat(grads, 1))
}
