//! The vision transformer in compact form. Dense is the compact form that keeps everything.
//!
//! After DeiT (Touvron et al., 2021), <https://github.com/facebookresearch/deit>.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::{
    BlockConfig, BottleneckConv, Ffn, Init, LayerNorm, Linear, Mode, Msa, Operation, PatchEmbed,
    VitConfig,
};

/// What stands in place of an attention layer.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Mixer<B: Backend> {
    /// Nothing is added (or norm1(x), by [`VitConfig::shortcut_adds_norm`]).
    Shortcut(Shortcut),
    /// A bottleneck convolution.
    Bconv(BottleneckConv<B>),
    /// Multi-head self-attention.
    Msa(Msa<B>),
}

/// The operation without weights.
#[derive(Module, Clone, Debug)]
pub struct Shortcut {
    /// Whether the block adds its normalised input.
    pub adds_norm: bool,
}

/// `x + mixer(norm1 x)`, then `x + FFN(norm2 x)`.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    /// Before the mixer.
    pub norm1: LayerNorm<B>,
    /// In place of attention.
    pub attn: Mixer<B>,
    /// Before the FFN.
    pub norm2: LayerNorm<B>,
    /// The FFN.
    pub mlp: Ffn<B>,
}

/// A vision transformer of attention, bottleneck convolutions and cut FFNs.
#[derive(Module, Debug)]
pub struct Vit<B: Backend> {
    /// Patches to tokens.
    pub patch_embed: PatchEmbed<B>,
    /// Class token `[1, 1, dim]`.
    pub cls_token: Param<Tensor<B, 3>>,
    /// Position embedding `[1, 1 + patches, dim]`.
    pub pos_embed: Param<Tensor<B, 3>>,
    /// The blocks.
    pub blocks: Vec<Block<B>>,
    /// Before the head.
    pub norm: LayerNorm<B>,
    /// Classifier on the class token.
    pub head: Linear<B>,
}

impl<B: Backend> Block<B> {
    fn new(config: &VitConfig, block: &BlockConfig, init: &mut Init<B>) -> Self {
        let norm = |init: &mut Init<B>| LayerNorm::new(config.dim, config.layer_norm_epsilon, init);
        let norm1 = norm(init);
        let attn = match block.operation {
            Operation::Shortcut => {
                Mixer::Shortcut(Shortcut { adds_norm: config.shortcut_adds_norm })
            }
            Operation::BConv(k) => Mixer::Bconv(BottleneckConv::new(config, k, init)),
            Operation::Msa => Mixer::Msa(Msa::new(config, init)),
        };
        let norm2 = norm(init);
        Self { norm1, attn, norm2, mlp: Ffn::new(config.dim, block.hidden, init) }
    }
}

impl<B: Backend> Vit<B> {
    /// A model with fresh weights.
    pub fn new(config: &VitConfig, blocks: &[BlockConfig], init: &mut Init<B>) -> Self {
        let dim = config.dim;
        Self {
            patch_embed: PatchEmbed::new(config, init),
            cls_token: init.truncated_normal([1, 1, dim], 0.02),
            pos_embed: init.truncated_normal([1, config.patches() + 1, dim], 0.02),
            blocks: blocks.iter().map(|block| Block::new(config, block, init)).collect(),
            norm: LayerNorm::new(dim, config.layer_norm_epsilon, init),
            head: Linear::new(dim, config.classes, init),
        }
    }
}

impl<B: FusedOps> Block<B> {
    fn forward(&self, x: Tensor<B, 3>, index: usize, mode: &Mode<B>) -> Tensor<B, 3> {
        let mixed = match &self.attn {
            Mixer::Shortcut(Shortcut { adds_norm: false }) => None,
            Mixer::Shortcut(Shortcut { adds_norm: true }) => Some(self.norm1.forward(x.clone())),
            Mixer::Bconv(bconv) => Some(bconv.forward(self.norm1.forward(x.clone()), mode)),
            Mixer::Msa(msa) => Some(msa.forward(self.norm1.forward(x.clone()))),
        };
        let x = match mixed {
            Some(mixed) => fused::sum(x, mode.scale_branch(mixed, 2 * index)),
            None => x,
        };
        let y = self.mlp.forward(self.norm2.forward(x.clone()));
        fused::sum(x, mode.scale_branch(y, 2 * index + 1))
    }
}

impl<B: FusedOps> Vit<B> {
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, output: logits `[batch, classes]`.
    pub fn forward(&self, images: Tensor<B, 4>, mode: &Mode<B>) -> Tensor<B, 2> {
        let patches = self.patch_embed.forward(images);
        let mut x = fused::tokens(patches, self.cls_token.val(), self.pos_embed.val());
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, index, mode);
        }
        classify(x, &self.norm, &self.head)
    }
}

/// Logits from the class token `[batch, tokens, dim]`.
pub(crate) fn classify<B: FusedOps>(
    x: Tensor<B, 3>,
    norm: &LayerNorm<B>,
    head: &Linear<B>,
) -> Tensor<B, 2> {
    let class = x.narrow(1, 0, 1).squeeze_dim::<2>(1);
    head.forward(norm.forward(class))
}
