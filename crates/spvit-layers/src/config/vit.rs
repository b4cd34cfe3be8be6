//! ViT and DeiT: one resolution from the first block to the last.

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, not_zero, positive, whole_patches};
use crate::{BlockShape, BlockStyle};

/// What the classifier looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// The first prefix token.
    #[default]
    Token,
    /// The mean of the map's tokens.
    Average,
    /// Attention of a learned query to the map's tokens ([`AttentionPool`](crate::AttentionPool)).
    Map,
    /// The first prefix token and the mean of the map's tokens, one after the other (DINOv2's).
    #[serde(rename = "token+average")]
    TokenAverage,
}

/// Shape of a vision transformer. The defaults are DeiT's.
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// Height and width of an image in pixels, multiples of `patch_size`.
    pub image_size: [usize; 2],
    /// Side of a square patch in pixels.
    pub patch_size: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// Embedding dimension D, a multiple of `heads`.
    pub dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Hidden dimensions of each FFN before pruning.
    pub hidden: usize,
    /// What the classifier looks at.
    pub pool: Pool,
    /// Whether an average or attention pool looks at the prefix tokens, too.
    pub pool_prefix: bool,
    /// Heads of an attention pool; `None`: as many as the blocks have.
    pub pool_heads: Option<usize>,
    /// Hidden dimensions of an attention pool's FFN; `None`: as many as the blocks have.
    pub pool_hidden: Option<usize>,
    /// Whether an attention pool normalises q and K of every head.
    pub pool_qk_norm: bool,
    /// Whether a class token comes first.
    pub class_token: bool,
    /// Whether a distillation token with a classifier of its own follows (DeiT's).
    pub distilled: bool,
    /// Register tokens after those.
    pub registers: usize,
    /// Whether the position embedding is there at all.
    pub position_embedding: bool,
    /// Whether it has rows for the prefix tokens.
    pub embed_prefix: bool,
    /// Whether the projection of patches has a bias.
    pub patch_bias: bool,
    /// Whether the tokens are normalised before the first block (CLIP's).
    pub pre_norm: bool,
    /// Whether patches are normalised before anything is added to them.
    pub patch_norm: bool,
    /// Whether the last block's tokens are normalised.
    pub final_norm: bool,
    /// Whether what is pooled is normalised (`fc_norm`).
    pub fc_norm: bool,
    /// What differs between blocks of one size.
    pub style: BlockStyle,
}

/// Named shapes: name, image side, patch side, channels, classes, dim, depth, heads.
pub(super) const PRESETS: &[(&str, [usize; 7])] = &[
    ("deit_tiny", [224, 16, 3, 1000, 192, 12, 3]),
    ("deit_small", [224, 16, 3, 1000, 384, 12, 6]),
    ("deit_base", [224, 16, 3, 1000, 768, 12, 12]),
    ("vit_micro", [28, 4, 1, 10, 64, 6, 4]),
    ("vit_mini", [32, 4, 3, 100, 128, 6, 4]),
];

impl VitConfig {
    /// A DeiT of this image and patch side, channels, classes, dimension, depth and heads.
    pub fn deit([side, patch_size, channels, classes, dim, depth, heads]: [usize; 7]) -> Self {
        Self {
            image_size: [side; 2],
            patch_size,
            channels,
            classes,
            dim,
            depth,
            heads,
            hidden: 4 * dim,
            pool: Pool::Token,
            pool_prefix: false,
            pool_heads: None,
            pool_hidden: None,
            pool_qk_norm: false,
            class_token: true,
            distilled: false,
            registers: 0,
            position_embedding: true,
            embed_prefix: true,
            patch_bias: true,
            pre_norm: false,
            patch_norm: false,
            final_norm: true,
            fc_norm: false,
            style: BlockStyle::default(),
        }
    }

    pub(super) fn preset(name: &str) -> Option<Self> {
        let (_, shape) = PRESETS.iter().find(|(known, _)| *known == name)?;
        Some(Self::deit(*shape))
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        not_zero([
            ("image_size", self.image_size[0].min(self.image_size[1])),
            ("patch_size", self.patch_size),
            ("channels", self.channels),
            ("classes", self.classes),
            ("dim", self.dim),
            ("depth", self.depth),
            ("heads", self.heads),
            ("hidden", self.hidden),
            ("pool_heads", self.pool_heads()),
            ("pool_hidden", self.pool_hidden()),
        ])?;
        whole_patches(self.image_size, self.patch_size)?;
        for heads in [self.heads, self.pool_heads()] {
            if !self.dim.is_multiple_of(heads) {
                return Err(ConfigError::Heads { dim: self.dim, heads });
            }
        }
        if self.pools_token() && !self.class_token {
            return Err(ConfigError::Pool);
        }
        if self.pool == Pool::TokenAverage && (self.distilled || self.fc_norm) {
            return Err(ConfigError::TokenAverage);
        }
        let prefix = self.prefix_tokens();
        if self.style.relative_position_bias && (prefix != 1 || !self.class_token) {
            return Err(ConfigError::RelativePositions { prefix });
        }
        if let Some(rope) = &self.style.rope {
            let head_dim = self.dim / self.heads;
            if !head_dim.is_multiple_of(4) {
                return Err(ConfigError::Rope(head_dim));
            }
            positive("rope_temperature", rope.temperature)?;
            let sides = rope.reference.unwrap_or([1, 1]);
            not_zero([("rope_reference", sides[0].min(sides[1]))])?;
        }
        positive("layer_norm_epsilon", self.style.epsilon)
    }

    /// Heads of an attention pool.
    pub fn pool_heads(&self) -> usize {
        self.pool_heads.unwrap_or(self.heads)
    }

    /// Hidden dimensions of an attention pool's FFN.
    pub fn pool_hidden(&self) -> usize {
        self.pool_hidden.unwrap_or(self.hidden)
    }

    /// Whether the classifier sees the class token.
    fn pools_token(&self) -> bool {
        matches!(self.pool, Pool::Token | Pool::TokenAverage)
    }

    /// Whether the classifier sees prefix tokens alone, so that only attention tells it of the image.
    pub fn sees_by_attention(&self) -> bool {
        self.pool == Pool::Token
    }

    /// Dimensions that the classifier sees.
    pub fn features(&self) -> usize {
        if self.pool == Pool::TokenAverage { 2 * self.dim } else { self.dim }
    }

    /// Rows and columns of the map of patches.
    pub fn map(&self) -> [usize; 2] {
        self.image_size.map(|side| side / self.patch_size)
    }

    /// Number of patches N.
    pub fn patches(&self) -> usize {
        self.map().iter().product()
    }

    /// Tokens before the patches.
    pub fn prefix_tokens(&self) -> usize {
        usize::from(self.class_token) + usize::from(self.distilled) + self.registers
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The shape that every block has.
    pub fn block(&self) -> BlockShape {
        BlockShape {
            dim: self.dim,
            heads: self.heads,
            hidden: self.hidden,
            map: self.map(),
            prefix_tokens: self.prefix_tokens(),
            window: None,
            style: self.style,
        }
    }

    pub(super) fn blocks(&self) -> Vec<BlockShape> {
        vec![self.block(); self.depth]
    }
}
