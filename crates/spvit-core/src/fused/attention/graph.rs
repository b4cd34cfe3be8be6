//! [`AttentionOps`] in a graph.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::{TensorMetadata, backend::AutodiffBackend, ops::FloatTensor};

use super::{AttentionOps, AttentionState};
use crate::fused::Precision;
use crate::fused::graph::{absent, backward_step, record};

backward_step! {
    Attention of AttentionOps, 2 parents,
    keeping (FloatTensor<B>, AttentionState<B>, usize, usize, Precision) =>
    |grad, (qkv, state, heads, groups, precision), [_, for_bias]| {
        let of = (heads, for_bias.then_some(groups));
        let (qkv, bias) = B::self_attention_backward(qkv, state, grad, of, precision);
        [Some(qkv), bias]
    }
}

impl<B: AttentionOps, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn self_attention(
        qkv: FloatTensor<Self>,
        heads: usize,
        bias: Option<FloatTensor<Self>>,
        precision: Precision,
    ) -> (FloatTensor<Self>, AttentionState<Self>) {
        let inner = bias.as_ref().map(|bias| bias.primitive.clone());
        let groups = inner.as_ref().map_or(1, |bias| bias.shape()[0]);
        let own = B::lowered(qkv.primitive.clone(), precision);
        let (output, state) = B::self_attention(own.clone(), heads, inner, precision);
        let bias = bias.unwrap_or_else(|| absent::<B, C>(&B::float_device(&qkv.primitive)));
        let outside = match state.clone() {
            AttentionState::Probabilities(p) => AttentionState::Probabilities(Self::from_inner(p)),
            AttentionState::Bias(bias) => AttentionState::Bias(bias.map(Self::from_inner)),
        };
        let kept = (own, state, heads, groups, precision);
        (record!(Attention, C, [qkv, bias], kept, output), outside)
    }

    fn self_attention_output(
        qkv: FloatTensor<Self>,
        heads: usize,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        Self::self_attention(qkv, heads, bias, Precision::current()).0
    }

    fn value_part(
        qkv: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        skipped: usize,
    ) -> FloatTensor<Self> {
        let bias = bias.map(|bias| bias.primitive);
        Self::from_inner(B::value_part(qkv.primitive, bias, skipped))
    }
}
