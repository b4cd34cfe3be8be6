//! Pooling by attention.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation::softmax, backend::Backend};
use spvit_core::FusedOps;

use crate::{Ffn, Init, Linear, Norm, VitConfig};

/// One learned query attends to all tokens, and an FFN follows, as timm's `AttentionPoolLatent`
/// (SigLIP's head): `y + FFN(norm y)`, `y = proj(softmax(q·Kᵀ/√d)·V)`, for every head.
///
/// It has no search form: a search leaves it as it is.
#[derive(Module, Debug)]
pub struct AttentionPool<B: Backend> {
    /// What the query is made from, `[1, 1, dim]`.
    pub latent: Param<Tensor<B, 3>>,
    /// `[dim, dim]`.
    pub q: Linear<B>,
    /// K and V in one map, `[dim, 2·dim]`.
    pub kv: Linear<B>,
    /// Normalises every head's q.
    pub q_norm: Option<Norm<B>>,
    /// Normalises every head's K.
    pub k_norm: Option<Norm<B>>,
    /// Output projection, `[dim, dim]`.
    pub proj: Linear<B>,
    /// Before the FFN.
    pub norm: Norm<B>,
    /// The FFN.
    pub mlp: Ffn<B>,
    #[module(skip)]
    heads: usize,
}

impl<B: Backend> AttentionPool<B> {
    /// A pool with fresh weights, with the heads, hidden dimensions and style of a ViT.
    pub fn new(vit: &VitConfig, init: &mut Init<B>) -> Self {
        let (dim, heads, style) = (vit.dim, vit.pool_heads(), &vit.style);
        let head_norm = |init: &mut Init<B>| {
            let norm = || Norm::new(dim / heads, style, init);
            vit.pool_qk_norm.then(norm)
        };
        Self {
            latent: init.truncated_normal([1, 1, dim], (dim as f32).sqrt().recip()),
            q: Linear::new(dim, dim, init),
            kv: Linear::new(dim, 2 * dim, init),
            q_norm: head_norm(init),
            k_norm: head_norm(init),
            proj: Linear::new(dim, dim, init),
            norm: Norm::new(dim, style, init),
            mlp: Ffn::new(dim, vit.pool_hidden(), style.activation, init),
            heads,
        }
    }
}

impl<B: FusedOps> AttentionPool<B> {
    /// Pools tokens.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, output: `[batch, dim]`.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        let [batch, tokens, dim] = x.dims();
        let (heads, d) = (self.heads, dim / self.heads);
        let normal = |x: Tensor<B, 4>, norm: &Option<Norm<B>>| match norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let kv = self.kv.forward(x);
        let part = |i: usize| kv.clone().narrow(2, i * dim, dim).reshape([batch, tokens, heads, d]);
        let k = normal(part(0), &self.k_norm).permute([0, 2, 3, 1]);
        let q = self.q.forward(self.latent.val()).reshape([1, 1, heads, d]);
        let q = normal(q, &self.q_norm).permute([0, 2, 1, 3]) * (d as f64).sqrt().recip();
        let scores = q.expand([batch, heads, 1, d]).matmul(k);
        let mixed = softmax(scores, 3).matmul(part(1).permute([0, 2, 1, 3]));
        let y = self.proj.forward(mixed.reshape([batch, 1, dim]));
        let out = self.mlp.forward(self.norm.forward(y.clone()), None) + y;
        out.squeeze_dim::<2>(1)
    }
}
