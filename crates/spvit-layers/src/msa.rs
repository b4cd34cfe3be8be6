//! Multi-head self-attention.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::{Init, Linear, VitConfig};

/// Multi-head self-attention (Eq. 4): `softmax(QKᵀ/√d)·V` for every head, then the projection.
#[derive(Module, Debug)]
pub struct Msa<B: Backend> {
    /// Q, K and V in one map, `[dim, 3·dim]`.
    pub qkv: Linear<B>,
    /// Output projection, `[dim, dim]`.
    pub proj: Linear<B>,
    /// Number of heads.
    pub heads: usize,
}

impl<B: Backend> Msa<B> {
    /// A layer with fresh weights.
    pub fn new(config: &VitConfig, init: &mut Init<B>) -> Self {
        Self {
            qkv: Linear::new(config.dim, 3 * config.dim, init),
            proj: Linear::new(config.dim, config.dim, init),
            heads: config.heads,
        }
    }
}

impl<B: FusedOps> Msa<B> {
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, output: the same.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.proj.forward(fused::self_attention(self.qkv.forward(x), self.heads, None))
    }
}
