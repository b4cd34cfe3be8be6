//! A vision transformer of any family, in any form: one skeleton around the blocks.
//!
//! After DeiT (Touvron et al., 2021) and Swin (Liu et al., 2021).

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::{
    AttentionPool, Block, BlockConfig, BlockGates, Family, Init, Linear, Mode, ModelConfig, Norm,
    PatchEmbed, PatchMerging, Pool, SearchBlock, attention::rows,
};

/// A model of plain attention, bottleneck convolutions and cut FFNs: the compact form. Dense is the
/// compact form that keeps everything.
pub type Vit<B> = VisionTransformer<B, Block<B>>;

/// A model of searched layers: one single-path network that holds every candidate.
pub type SearchVit<B> = VisionTransformer<B, SearchBlock<B>>;

/// Logits of a model's classifiers, `[batch, classes]` each.
#[derive(Debug, Clone)]
pub struct HeadLogits<B: Backend> {
    /// Of the class token, or of what is pooled.
    pub class: Tensor<B, 2>,
    /// Of the distillation token, if the model has a classifier on one.
    pub distillation: Option<Tensor<B, 2>>,
}

impl<B: Backend> HeadLogits<B> {
    /// The model's logits: their mean.
    pub fn mean(self) -> Tensor<B, 2> {
        match self.distillation {
            Some(distillation) => (self.class + distillation) * 0.5,
            None => self.class,
        }
    }
}

/// Patches to tokens, blocks of the kind `K`, pooling and a classifier.
#[derive(Module, Debug)]
pub struct VisionTransformer<B: Backend, K> {
    /// Patches to tokens.
    pub patch_embed: PatchEmbed<B>,
    /// Class token `[1, 1, dim]`.
    pub cls_token: Option<Param<Tensor<B, 3>>>,
    /// Distillation token `[1, 1, dim]`.
    pub dist_token: Option<Param<Tensor<B, 3>>>,
    /// Register tokens `[1, registers, dim]`.
    pub reg_token: Option<Param<Tensor<B, 3>>>,
    /// Position embedding `[1, tokens, dim]`, of the prefix tokens too or of the patches alone.
    pub pos_embed: Option<Param<Tensor<B, 3>>>,
    /// Before the first block.
    pub norm_pre: Option<Norm<B>>,
    /// The blocks, of all stages.
    pub blocks: Vec<K>,
    /// Between the stages.
    pub merges: Vec<PatchMerging<B>>,
    /// After the last block.
    pub norm: Option<Norm<B>>,
    /// Pools the map's tokens.
    pub attn_pool: Option<AttentionPool<B>>,
    /// After pooling.
    pub fc_norm: Option<Norm<B>>,
    /// The classifier.
    pub head: Linear<B>,
    /// Classifier on the distillation token; the logits are the mean of both.
    pub head_dist: Option<Linear<B>>,
    #[module(skip)]
    layout: Layout,
}

/// What of a model is not a module.
#[derive(Debug, Clone)]
struct Layout {
    /// Blocks after which a merging follows.
    merges: Vec<usize>,
    pool: Pool,
    /// Prefix tokens that an average or attention pool leaves out.
    unpooled: usize,
    names: Names,
}

/// How a family names its blocks in files.
#[derive(Debug, Clone)]
pub(crate) enum Names {
    /// `blocks.i`.
    Flat,
    /// `layers.stage.blocks.i` for the places of all blocks, timm's `layers.stage.downsample` and
    /// `head.fc`.
    Staged(Vec<(usize, usize)>),
}

impl<B: Backend, K> VisionTransformer<B, K> {
    /// A model with fresh weights around these blocks.
    fn around(
        config: &ModelConfig,
        blocks: impl FnOnce(&mut Init<B>) -> Vec<K>,
        init: &mut Init<B>,
    ) -> Self {
        let (dim, style) = (config.embed_dim(), config.style());
        let sizes = [config.channels(), config.patch_size(), dim];
        let token = |there: bool, tokens: usize, init: &mut Init<B>| {
            there.then(|| init.truncated_normal([1, tokens, dim], 0.02))
        };
        let norm = |there: bool, dim: usize, init: &mut Init<B>| {
            there.then(|| Norm::new(dim, style, init))
        };
        let (features, classes) = (config.features(), config.classes());
        match &config.family {
            Family::Vit(vit) => {
                let mut patch_embed = PatchEmbed::new(sizes, vit.patch_bias, init);
                patch_embed.norm = norm(vit.patch_norm, dim, init);
                let rows = vit.patches() + if vit.embed_prefix { vit.prefix_tokens() } else { 0 };
                Self {
                    patch_embed,
                    cls_token: token(vit.class_token, 1, init),
                    dist_token: token(vit.distilled, 1, init),
                    reg_token: token(vit.registers > 0, vit.registers, init),
                    pos_embed: token(vit.position_embedding, rows, init),
                    norm_pre: norm(vit.pre_norm, dim, init),
                    blocks: blocks(init),
                    merges: Vec::new(),
                    norm: norm(vit.final_norm, dim, init),
                    attn_pool: (vit.pool == Pool::Map).then(|| AttentionPool::new(vit, init)),
                    fc_norm: norm(vit.fc_norm, dim, init),
                    head: Linear::new(features, classes, init),
                    head_dist: vit.distilled.then(|| Linear::new(features, classes, init)),
                    layout: Layout {
                        merges: Vec::new(),
                        pool: vit.pool,
                        unpooled: if vit.pool_prefix { 0 } else { vit.prefix_tokens() },
                        names: Names::Flat,
                    },
                }
            }
            Family::Swin(swin) => {
                let (shapes, merges) = (config.blocks(), config.merges());
                let mut patch_embed = PatchEmbed::new(sizes, true, init);
                patch_embed.norm = norm(true, dim, init);
                Self {
                    patch_embed,
                    cls_token: None,
                    dist_token: None,
                    reg_token: None,
                    pos_embed: None,
                    norm_pre: None,
                    blocks: blocks(init),
                    merges: merges.iter().map(|&i| PatchMerging::new(&shapes[i], init)).collect(),
                    norm: norm(true, features, init),
                    attn_pool: None,
                    fc_norm: None,
                    head: Linear::new(features, classes, init),
                    head_dist: None,
                    layout: Layout {
                        merges,
                        pool: Pool::Average,
                        unpooled: 0,
                        names: Names::Staged(swin.places()),
                    },
                }
            }
        }
    }

    /// Takes everything but the blocks from a model of the same shape.
    pub fn take_surroundings<L>(&mut self, other: &VisionTransformer<B, L>) {
        self.patch_embed = other.patch_embed.clone();
        self.cls_token = other.cls_token.clone();
        self.dist_token = other.dist_token.clone();
        self.reg_token = other.reg_token.clone();
        self.pos_embed = other.pos_embed.clone();
        self.norm_pre = other.norm_pre.clone();
        self.merges = other.merges.clone();
        self.norm = other.norm.clone();
        self.attn_pool = other.attn_pool.clone();
        self.fc_norm = other.fc_norm.clone();
        self.head = other.head.clone();
        self.head_dist = other.head_dist.clone();
    }

    /// Where the model's tensors are.
    pub fn device(&self) -> B::Device {
        self.head.weight.device()
    }

    pub(crate) fn names(&self) -> &Names {
        &self.layout.names
    }

    /// Blocks after which a [`PatchMerging`] follows, one for each of
    /// [`VisionTransformer::merges`].
    pub fn merges_after(&self) -> &[usize] {
        &self.layout.merges
    }
}

impl<B: Backend> Vit<B> {
    /// A model with fresh weights.
    pub fn new(config: &ModelConfig, blocks: &[BlockConfig], init: &mut Init<B>) -> Self {
        let shapes = config.blocks();
        let build = |init: &mut Init<B>| {
            shapes.iter().zip(blocks).map(|(shape, block)| Block::new(shape, block, init)).collect()
        };
        Self::around(config, build, init)
    }
}

impl<B: Backend> SearchVit<B> {
    /// A model with fresh weights and full FFNs.
    pub fn new(config: &ModelConfig, init: &mut Init<B>) -> Self {
        let hidden: Vec<usize> = config.blocks().iter().map(|shape| shape.hidden).collect();
        Self::with_hidden(config, &hidden, init)
    }

    /// A model with fresh weights whose FFNs have these widths, one for each block.
    pub fn with_hidden(config: &ModelConfig, hidden: &[usize], init: &mut Init<B>) -> Self {
        let shapes = config.blocks();
        let build = |init: &mut Init<B>| {
            let blocks = shapes.iter().zip(hidden);
            blocks
                .map(|(shape, &hidden)| SearchBlock::new(shape, &config.space, hidden, init))
                .collect()
        };
        Self::around(config, build, init)
    }
}

impl<B: FusedOps, K> VisionTransformer<B, K> {
    /// The tokens before the first block, `[batch, prefix + patches, dim]`.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]`.
    pub fn embed(&self, images: Tensor<B, 4>) -> Tensor<B, 3> {
        let patches = self.patch_embed.forward(images);
        let [_, count, dim] = patches.dims();
        let tokens = [&self.cls_token, &self.dist_token, &self.reg_token];
        let tokens: Vec<_> = tokens.into_iter().flatten().map(Param::val).collect();
        let prefix = (!tokens.is_empty()).then(|| match tokens.len() {
            1 => tokens[0].clone(),
            _ => Tensor::cat(tokens, 1),
        });
        let positions = self.pos_embed.as_ref().map(Param::val);
        let x = match (prefix, positions) {
            (None, None) => patches,
            (None, Some(positions)) => patches + positions,
            (Some(prefix), positions) => {
                let own = prefix.dims()[1];
                let zeros = |rows| Tensor::zeros([1, rows, dim], &prefix.device());
                let positions = match positions {
                    Some(all) if all.dims()[1] == own + count => all,
                    Some(map) => Tensor::cat(vec![zeros(own), map], 1),
                    None => zeros(own + count),
                };
                fused::tokens(patches, prefix, positions)
            }
        };
        match &self.norm_pre {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// Logits of the last block's tokens `[batch, tokens, dim]`.
    pub fn classify(&self, x: Tensor<B, 3>) -> HeadLogits<B> {
        let normal = |x: Tensor<B, 2>, norm: &Option<Norm<B>>| match norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let token = |index: usize| {
            let token = x.clone().narrow(1, index, 1).squeeze_dim::<2>(1);
            normal(normal(token, &self.norm), &self.fc_norm)
        };
        match self.layout.pool {
            Pool::Token => {
                let class = self.head.forward(token(0));
                let distillation = self.head_dist.as_ref().map(|head| head.forward(token(1)));
                HeadLogits { class, distillation }
            }
            Pool::Average | Pool::Map | Pool::TokenAverage => {
                let x = match &self.norm {
                    Some(norm) => norm.forward(x),
                    None => x,
                };
                let (tokens, unpooled) = (x.dims()[1], self.layout.unpooled);
                let map = x.clone().narrow(1, unpooled, tokens - unpooled);
                let pooled = match &self.attn_pool {
                    Some(pool) => pool.forward(map),
                    None => map.mean_dim(1).squeeze_dim::<2>(1),
                };
                let pooled = match self.layout.pool {
                    Pool::TokenAverage => {
                        Tensor::cat(vec![x.narrow(1, 0, 1).squeeze_dim::<2>(1), pooled], 1)
                    }
                    _ => pooled,
                };
                let class = self.head.forward(normal(pooled, &self.fc_norm));
                HeadLogits { class, distillation: None }
            }
        }
    }

    /// Embeds, applies every block and merging in turn, and classifies. A block is given tokens one after
    /// the other, `[batch·tokens, dim]`, and how many of each there are.
    fn pass(
        &self,
        images: Tensor<B, 4>,
        mut block: impl FnMut(usize, &K, Tensor<B, 2>, [usize; 3]) -> Tensor<B, 2>,
    ) -> HeadLogits<B> {
        let x = self.embed(images);
        let (mut shape, mut x) = (x.dims(), rows(x));
        for (index, own) in self.blocks.iter().enumerate() {
            x = block(index, own, x, shape);
            if self.layout.merges.contains(&index) {
                let merged = self.merge(index, x.reshape(shape));
                (shape, x) = (merged.dims(), rows(merged));
            }
        }
        self.classify(x.reshape(shape))
    }

    /// The merging that follows a block, if one does, applied to the block's output
    /// `[batch, tokens, dim]`.
    pub fn merge(&self, index: usize, x: Tensor<B, 3>) -> Tensor<B, 3> {
        match self.layout.merges.iter().position(|&after| after == index) {
            Some(merge) => self.merges[merge].forward(x),
            None => x,
        }
    }
}

impl<B: FusedOps> Vit<B> {
    /// Classifies images.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, output: logits `[batch, classes]`.
    pub fn forward(&self, images: Tensor<B, 4>, mode: &Mode<B>) -> Tensor<B, 2> {
        self.forward_heads(images, mode).mean()
    }

    /// [`Vit::forward`], but with the logits of every classifier for themselves.
    pub fn forward_heads(&self, images: Tensor<B, 4>, mode: &Mode<B>) -> HeadLogits<B> {
        let pass = |mode: &Mode<B>| {
            self.pass(images, |index, own, x, shape| own.forward_rows(x, shape, index, mode))
        };
        match mode {
            Mode::Evaluate => B::in_pool(|| pass(&Mode::Evaluate)),
            // Its context belongs to the thread that computes the whole step.
            Mode::Train(_) => pass(mode),
        }
    }
}

impl<B: FusedOps> SearchVit<B> {
    /// Classifies images with these gates.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, gates: one for each block, output: logits
    ///   `[batch, classes]`.
    pub fn forward(
        &self,
        images: Tensor<B, 4>,
        gates: &[BlockGates<B>],
        mode: &Mode<B>,
    ) -> Tensor<B, 2> {
        let pass = self.pass(images, |index, block, x, shape| {
            block.forward_rows(x, shape, &gates[index], (index, mode))
        });
        pass.mean()
    }
}
