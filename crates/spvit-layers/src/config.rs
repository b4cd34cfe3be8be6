//! Shapes of vision transformers, the named presets, and the operations of a block.

use serde::{Deserialize, Serialize};
use spvit_core::Grid;

/// What a searched attention layer becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Operation {
    /// Nothing: the residual alone.
    Shortcut,
    /// A bottleneck convolution with a square kernel of this (odd) side.
    BConv(usize),
    /// Multi-head self-attention.
    Msa,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shortcut => f.pad("shortcut"),
            Self::BConv(k) => f.pad(&format!("bconv{k}x{k}")),
            Self::Msa => f.pad("msa"),
        }
    }
}

impl From<Operation> for String {
    fn from(operation: Operation) -> Self {
        operation.to_string()
    }
}

impl std::str::FromStr for Operation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let kernel = || {
            let (a, b) = name.strip_prefix("bconv")?.split_once('x')?;
            (a == b).then(|| a.parse::<usize>().ok()).flatten().filter(|k| k % 2 == 1)
        };
        match name {
            "shortcut" => Ok(Self::Shortcut),
            "msa" => Ok(Self::Msa),
            _ => kernel().map(Self::BConv).ok_or_else(|| {
                format!(
                    "unknown operation '{name}': expected shortcut, msa or bconvKxK with an odd \
                     K, such as bconv3x3"
                )
            }),
        }
    }
}

impl TryFrom<String> for Operation {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

/// One block of a compact model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockConfig {
    /// What stands in place of the attention layer.
    pub operation: Operation,
    /// Hidden dimensions of the FFN.
    pub hidden: usize,
}

/// Shape of a DeiT-like vision transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// Sides of the kernels that a searched attention layer may become, odd and ascending.
    #[serde(default = "default_kernels")]
    pub kernels: Vec<usize>,
    /// Temperature α of the head distribution (Eq. 5).
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// ε of the layer normalisations.
    #[serde(default = "default_epsilon")]
    pub layer_norm_epsilon: f64,
    /// Whether a shortcut adds norm1(x), as the published fine-tuning code does, instead of 0.
    #[serde(default)]
    pub shortcut_adds_norm: bool,
}

fn default_kernels() -> Vec<usize> {
    vec![1, 3]
}

fn default_alpha() -> f64 {
    0.01
}

fn default_epsilon() -> f64 {
    1e-6
}

/// Named shapes: name, image side, patch side, channels, classes, dim, depth, heads.
pub const PRESETS: &[(&str, [usize; 7])] = &[
    ("deit_tiny", [224, 16, 3, 1000, 192, 12, 3]),
    ("deit_small", [224, 16, 3, 1000, 384, 12, 6]),
    ("deit_base", [224, 16, 3, 1000, 768, 12, 12]),
    ("vit_micro", [28, 4, 1, 10, 64, 6, 4]),
    ("vit_mini", [32, 4, 3, 100, 128, 6, 4]),
];

/// A model's shape that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A field that must be positive is zero.
    #[error("model.{0} is 0; expected at least 1")]
    Zero(&'static str),
    /// The image is not made of whole patches.
    #[error(
        "model.image_size {size:?} is not a multiple of model.patch_size {patch}; choose sides \
         that are, or another patch size"
    )]
    Patches {
        /// Height and width.
        size: [usize; 2],
        /// Side of a patch.
        patch: usize,
    },
    /// The heads do not divide the embedding.
    #[error("model.dim {dim} is not a multiple of model.heads {heads}")]
    Heads {
        /// Embedding dimension.
        dim: usize,
        /// Number of heads.
        heads: usize,
    },
    /// The kernel sizes are not odd, ascending and small enough.
    #[error("model.kernels {0:?}: expected odd sizes in ascending order, such as [1, 3]")]
    Kernels(Vec<usize>),
    /// No preset of this name.
    #[error("unknown model preset '{name}'; expected one of {known}")]
    Preset {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A temperature or ε that is not a positive number.
    #[error("model.{0} must be a positive number")]
    Positive(&'static str),
}

impl VitConfig {
    /// The shape with this name in [`PRESETS`].
    ///
    /// # Errors
    /// [`ConfigError::Preset`] if there is none.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        let Some((_, [side, patch_size, channels, classes, dim, depth, heads])) =
            PRESETS.iter().find(|(known, _)| *known == name)
        else {
            let known: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
            return Err(ConfigError::Preset { name: name.into(), known: known.join(", ") });
        };
        Ok(Self {
            image_size: [*side; 2],
            patch_size: *patch_size,
            channels: *channels,
            classes: *classes,
            dim: *dim,
            depth: *depth,
            heads: *heads,
            hidden: 4 * dim,
            kernels: default_kernels(),
            alpha: default_alpha(),
            layer_norm_epsilon: default_epsilon(),
            shortcut_adds_norm: false,
        })
    }

    /// Checks that a model of this shape can be built.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = [
            ("image_size", self.image_size[0].min(self.image_size[1])),
            ("patch_size", self.patch_size),
            ("channels", self.channels),
            ("classes", self.classes),
            ("dim", self.dim),
            ("depth", self.depth),
            ("heads", self.heads),
            ("hidden", self.hidden),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero(name));
        }
        if self.image_size.iter().any(|side| side % self.patch_size != 0) {
            return Err(ConfigError::Patches { size: self.image_size, patch: self.patch_size });
        }
        if !self.dim.is_multiple_of(self.heads) {
            return Err(ConfigError::Heads { dim: self.dim, heads: self.heads });
        }
        let ascending = self.kernels.windows(2).all(|pair| pair[0] < pair[1]);
        if self.kernels.is_empty() || !ascending || self.kernels.iter().any(|k| k % 2 == 0) {
            return Err(ConfigError::Kernels(self.kernels.clone()));
        }
        for (name, value) in
            [("alpha", self.alpha), ("layer_norm_epsilon", self.layer_norm_epsilon)]
        {
            if !(value > 0.0 && value.is_finite()) {
                return Err(ConfigError::Positive(name));
            }
        }
        Ok(())
    }

    /// Rows and columns of the map of patches.
    pub fn map(&self) -> [usize; 2] {
        self.image_size.map(|side| side / self.patch_size)
    }

    /// Number of patches N; a sequence has one token more, the class token.
    pub fn patches(&self) -> usize {
        self.map().iter().product()
    }

    /// Dimensions of one head, d = D/h.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// The map with a kernel of side `kernel` over it.
    pub fn grid(&self, kernel: usize) -> Grid {
        let [height, width] = self.map();
        Grid { height, width, kernel }
    }

    /// Side of the largest kernel.
    pub fn largest_kernel(&self) -> usize {
        self.kernels.iter().copied().max().unwrap_or(1)
    }

    /// The gated operations of an attention layer in order of cost: every kernel, then MSA. The
    /// shortcut has no gate.
    pub fn operations(&self) -> Vec<Operation> {
        let kernels = self.kernels.iter().map(|&k| Operation::BConv(k));
        kernels.chain([Operation::Msa]).collect()
    }

    /// The blocks of the dense model: attention everywhere, full FFNs.
    pub fn dense_blocks(&self) -> Vec<BlockConfig> {
        let block = BlockConfig { operation: Operation::Msa, hidden: self.hidden };
        vec![block; self.depth]
    }
}
