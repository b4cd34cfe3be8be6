//! Multi-head self-attention without its projections.

#[cfg(feature = "cube")]
mod cube;
mod graph;
#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{FusedOps, Precision, PrecisionOps, raw, wrap};

/// What [`AttentionOps::self_attention`] keeps for its backward pass, besides Q, K and V.
#[derive(Debug, Clone)]
pub enum AttentionState<B: Backend> {
    /// The probabilities `[b, heads, t, t]`.
    Probabilities(FloatTensor<B>),
    /// The bias, if there is one: the backward pass computes the probabilities once more, by a product, so that a
    /// step does not hold those of all blocks.
    Bias(Option<FloatTensor<B>>),
}

/// Self-attention with its own backward pass.
pub trait AttentionOps: PrecisionOps {
    /// `softmax(QKᵀ/√d + bias)·V` for every head: qkv `[b, t, 3·d·heads]` (Q, K, V, each with its
    /// heads in order) to `[b, t, d·heads]`, and what the backward pass takes back. The bias is
    /// `[groups, heads, t, t]`; item i adds that of group `i mod groups`. Q, K and V are rounded as the precision
    /// says ([`PrecisionOps::lowered`]), and so are the other factors of products; the output is float32.
    fn self_attention(
        qkv: FloatTensor<Self>,
        heads: usize,
        bias: Option<FloatTensor<Self>>,
        precision: Precision,
    ) -> (FloatTensor<Self>, AttentionState<Self>) {
        plain::self_attention::<Self>(qkv, heads, bias, precision)
    }

    /// What [`AttentionOps::self_attention`] gives in float32, without what its backward pass takes back.
    fn self_attention_output(
        qkv: FloatTensor<Self>,
        heads: usize,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        Self::self_attention(qkv, heads, bias, Precision::F32).0
    }

    /// Gradient of [`AttentionOps::self_attention`] for qkv and, where `groups` says how many there
    /// are, for the bias.
    fn self_attention_backward(
        qkv: FloatTensor<Self>,
        state: AttentionState<Self>,
        grad: FloatTensor<Self>,
        (heads, groups): (usize, Option<usize>),
        precision: Precision,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        plain::self_attention_backward::<Self>(qkv, state, grad, (heads, groups), precision)
    }

    /// V from Q, K and V, less its bias, of every token but the first `skipped`: qkv
    /// `[b, s + n, 3·d]`, bias `[d]` to `[b, n, d]`. Never in a graph.
    fn value_part(
        qkv: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        skipped: usize,
    ) -> FloatTensor<Self> {
        plain::value_part::<Self>(qkv, bias, skipped)
    }
}

/// Multi-head self-attention without its projections (Eq. 4): `softmax(QKᵀ/√d + bias)·V`.
///
/// The bias is a relative position bias, a mask (−100 where a token must not look), or their sum.
/// Item i of the batch adds the bias of group `i mod groups`: where the items are the windows of
/// images, in order, one group serves all, and as many groups as windows serve each its own. The
/// bias gets a gradient if it is in a graph.
///
/// # Shapes
/// - qkv: `[batch, tokens, 3·d·heads]`, bias: `[groups, heads, tokens, tokens]`, groups dividing
///   the batch; output: `[batch, tokens, d·heads]`.
pub fn self_attention<B: FusedOps>(
    qkv: Tensor<B, 3>,
    heads: usize,
    bias: Option<Tensor<B, 4>>,
) -> Tensor<B, 3> {
    if let Some(bias) = &bias {
        let ([b, t, _], [groups, bias_heads, rows, columns]) = (qkv.dims(), bias.dims());
        assert!(
            b.is_multiple_of(groups) && [bias_heads, rows, columns] == [heads, t, t],
            "a bias {:?} does not fit {b} items of {t} tokens and {heads} heads",
            bias.dims()
        );
    }
    wrap(B::self_attention_output(raw(qkv), heads, bias.map(raw)))
}

/// V' of Eq. 6 from Q, K and V: the values of the map's tokens, without their bias. Never in a
/// graph.
///
/// # Shapes
/// - qkv: `[batch, skipped + tokens, 3·dim]`, bias: `[dim]`, output: `[batch, tokens, dim]`.
pub fn value_part<B: FusedOps>(
    qkv: Tensor<B, 3>,
    bias: Option<Tensor<B, 1>>,
    skipped: usize,
) -> Tensor<B, 3> {
    wrap(B::value_part(raw(qkv), bias.map(raw), skipped))
}
