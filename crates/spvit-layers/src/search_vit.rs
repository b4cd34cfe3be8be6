//! The vision transformer in search form: one single-path network that holds every candidate.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::{
    Init, LayerNorm, Linear, Mode, Operation, OperationGates, PatchEmbed, Uffn, Umsa, VitConfig,
    vit::classify,
};

/// Gates of one block in one step.
#[derive(Debug, Clone)]
pub struct BlockGates<B: Backend> {
    /// Gates of the attention layer.
    pub operation: OperationGates<B>,
    /// Gates of the FFN's hidden dimensions, `[hidden]`; `None` if all are open.
    pub ffn: Option<Tensor<B, 1>>,
}

impl<B: Backend> BlockGates<B> {
    /// A given operation and a whole FFN.
    pub fn fixed(operation: Operation) -> Self {
        Self { operation: OperationGates::Fixed(operation), ffn: None }
    }
}

/// `x + UMSA(norm1 x)`, then `x + UFFN(norm2 x)`.
#[derive(Module, Debug)]
pub struct SearchBlock<B: Backend> {
    /// Before the attention layer.
    pub norm1: LayerNorm<B>,
    /// The searched attention layer.
    pub attn: Umsa<B>,
    /// Before the FFN.
    pub norm2: LayerNorm<B>,
    /// The searched FFN.
    pub mlp: Uffn<B>,
}

/// A vision transformer of searched layers.
#[derive(Module, Debug)]
pub struct SearchVit<B: Backend> {
    /// Patches to tokens.
    pub patch_embed: PatchEmbed<B>,
    /// Class token `[1, 1, dim]`.
    pub cls_token: Param<Tensor<B, 3>>,
    /// Position embedding `[1, 1 + patches, dim]`.
    pub pos_embed: Param<Tensor<B, 3>>,
    /// The blocks.
    pub blocks: Vec<SearchBlock<B>>,
    /// Before the head.
    pub norm: LayerNorm<B>,
    /// Classifier on the class token.
    pub head: Linear<B>,
    /// Kernel sizes of every block's attention layer, ascending.
    pub kernels: Vec<usize>,
}

impl<B: Backend> SearchBlock<B> {
    fn new(config: &VitConfig, hidden: usize, init: &mut Init<B>) -> Self {
        let epsilon = config.layer_norm_epsilon;
        Self {
            norm1: LayerNorm::new(config.dim, epsilon, init),
            attn: Umsa::new(config, init),
            norm2: LayerNorm::new(config.dim, epsilon, init),
            mlp: Uffn::new(config.dim, hidden, init),
        }
    }
}

impl<B: Backend> SearchVit<B> {
    /// A model with fresh weights and full FFNs.
    pub fn new(config: &VitConfig, init: &mut Init<B>) -> Self {
        Self::with_hidden(config, &vec![config.hidden; config.depth], init)
    }

    /// A model with fresh weights whose FFNs have these widths, one for each block.
    pub fn with_hidden(config: &VitConfig, hidden: &[usize], init: &mut Init<B>) -> Self {
        let dim = config.dim;
        Self {
            patch_embed: PatchEmbed::new(config, init),
            cls_token: init.truncated_normal([1, 1, dim], 0.02),
            pos_embed: init.truncated_normal([1, config.patches() + 1, dim], 0.02),
            blocks: hidden.iter().map(|&hidden| SearchBlock::new(config, hidden, init)).collect(),
            norm: LayerNorm::new(dim, config.layer_norm_epsilon, init),
            head: Linear::new(dim, config.classes, init),
            kernels: config.kernels.clone(),
        }
    }
}

impl<B: FusedOps> SearchBlock<B> {
    /// # Shapes
    /// - x: `[batch, 1 + patches, dim]`, output: the same.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        gates: &BlockGates<B>,
        index: usize,
        mode: &Mode<B>,
    ) -> Tensor<B, 3> {
        let mixed = self.attn.forward(self.norm1.forward(x.clone()), &gates.operation, mode);
        let x = fused::sum(x, mode.scale_branch(mixed, 2 * index));
        let y = self.mlp.forward(self.norm2.forward(x.clone()), gates.ffn.clone());
        fused::sum(x, mode.scale_branch(y, 2 * index + 1))
    }
}

impl<B: FusedOps> SearchVit<B> {
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, gates: one for each block, output: logits
    ///   `[batch, classes]`.
    pub fn forward(
        &self,
        images: Tensor<B, 4>,
        gates: &[BlockGates<B>],
        mode: &Mode<B>,
    ) -> Tensor<B, 2> {
        let patches = self.patch_embed.forward(images);
        let mut x = fused::tokens(patches, self.cls_token.val(), self.pos_embed.val());
        for (index, (block, gates)) in self.blocks.iter().zip(gates).enumerate() {
            x = block.forward(x, gates, index, mode);
        }
        classify(x, &self.norm, &self.head)
    }
}
