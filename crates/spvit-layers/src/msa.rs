//! Multi-head self-attention.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::FusedOps;

use crate::{
    BlockShape, Init, Linear, Norm, QkvBias,
    attention::{Attention, AttentionWeights, free},
};

/// Multi-head self-attention (Eq. 4): `softmax(QKᵀ/√d)·V` for every head, then the projection; in
/// windows, with a bias for every relative position, where the block has windows.
#[derive(Module, Debug)]
pub struct Msa<B: Backend> {
    /// Q, K and V of all heads in one map, `[dim, 3·h·d]`, h·d being dim where no head is gone.
    pub qkv: Linear<B>,
    /// Output projection, `[h·d, dim]`.
    pub proj: Linear<B>,
    /// Bias of every relative position, `[rows, heads]`
    /// ([`BlockShape::bias_table_rows`]).
    pub relative_position_bias_table: Option<Param<Tensor<B, 2>>>,
    /// Normalises every head's Q.
    pub q_norm: Option<Norm<B>>,
    /// Normalises every head's K.
    pub k_norm: Option<Norm<B>>,
    /// Before the projection.
    pub norm: Option<Norm<B>>,
    #[module(skip)]
    pub(crate) layout: Attention,
}

impl<B: Backend> Msa<B> {
    /// A layer with fresh weights and all heads.
    pub fn new(shape: &BlockShape, init: &mut Init<B>) -> Self {
        Self::with_heads(shape, shape.heads, init)
    }

    /// A layer with fresh weights and so many of the heads, each as wide as ever.
    pub fn with_heads(shape: &BlockShape, heads: usize, init: &mut Init<B>) -> Self {
        let width = heads * shape.head_dim();
        let qkv = match shape.style.qkv_bias {
            QkvBias::All => Linear::new(shape.dim, 3 * width, init),
            QkvBias::None => Linear::without_bias(shape.dim, 3 * width, init),
        };
        let proj = Linear::new(width, shape.dim, init);
        let rows = shape.bias_table_rows();
        let table = (rows > 0).then(|| init.truncated_normal([rows, heads], 0.02));
        let (style, d) = (&shape.style, shape.head_dim());
        let norm = |there: bool, dim: usize, init: &mut Init<B>| {
            there.then(|| Norm::new(dim, style, init))
        };
        Self {
            qkv,
            proj,
            relative_position_bias_table: table,
            q_norm: norm(style.qk_norm, d, init),
            k_norm: norm(style.qk_norm, d, init),
            norm: norm(style.attn_norm, width, init),
            layout: Attention::new(shape, heads),
        }
    }

    /// Number of heads.
    pub fn heads(&self) -> usize {
        self.layout.heads
    }
}

impl<B: FusedOps> Msa<B> {
    pub(crate) fn weights(&self, in_graph: bool) -> AttentionWeights<B> {
        let map = |linear: &Linear<B>| {
            let bias = linear.bias.as_ref().map(|bias| free(bias, in_graph));
            (free(&linear.weight, in_graph), bias)
        };
        let norm = |norm: &Norm<B>| norm.weights(in_graph);
        let table = self.relative_position_bias_table.as_ref();
        AttentionWeights {
            qkv: map(&self.qkv),
            proj: map(&self.proj),
            table: table.map(|table| free(table, in_graph)),
            qk_norm: self
                .q_norm
                .as_ref()
                .zip(self.k_norm.as_ref())
                .map(|(q, k)| [norm(q), norm(k)]),
            norm: self.norm.as_ref().map(norm),
        }
    }

    /// Attends.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, output: the same.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let shape = x.dims();
        self.rows(x).reshape(shape)
    }

    /// [`Msa::forward`], the tokens of all images one after the other: `[batch·tokens, dim]`.
    pub(crate) fn rows(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        self.layout.forward(x, &self.weights(true)).0
    }

    /// What the projection maps: the heads' outputs side by side, in the images' order.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, output: `[batch, tokens, h·d]`.
    pub fn features(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.layout.join(self.layout.mixed(x, &self.weights(true)).0)
    }
}
