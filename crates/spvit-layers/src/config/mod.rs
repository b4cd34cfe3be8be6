//! Shapes of whole models: a family, and the search space over its blocks.

mod error;
mod file;
mod limits;
mod swin;
mod vit;

pub use error::ConfigError;
pub use swin::SwinConfig;
pub use vit::{Pool, VitConfig};

use serde::{Deserialize, Serialize};

use crate::{BlockConfig, BlockShape, BlockStyle, Operation, SearchSpace};
use error::positive;
use file::ModelFile;

/// A model's family and shape, and what a search may make of its blocks.
///
/// In files it is one flat table; `family` is absent for a ViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ModelFile", into = "ModelFile")]
pub struct ModelConfig {
    /// The family and its shape.
    pub family: Family,
    /// The operations that a search chooses from.
    pub space: SearchSpace,
}

/// The families of vision transformers. Everything that differs between them is in their files.
#[derive(Debug, Clone, PartialEq)]
pub enum Family {
    /// One resolution from the first block to the last.
    Vit(VitConfig),
    /// Stages of shrinking maps, attention in shifted windows.
    Swin(SwinConfig),
}

impl From<VitConfig> for ModelConfig {
    fn from(vit: VitConfig) -> Self {
        Self { family: Family::Vit(vit), space: SearchSpace::default() }
    }
}

impl From<SwinConfig> for ModelConfig {
    fn from(swin: SwinConfig) -> Self {
        Self { family: Family::Swin(swin), space: SearchSpace::default() }
    }
}

/// Names of [`ModelConfig::preset`].
pub fn presets() -> impl Iterator<Item = &'static str> {
    vit::PRESETS.iter().map(|(name, _)| *name).chain(swin::PRESETS.iter().map(|(name, _)| *name))
}

/// The same expression for every family.
macro_rules! each {
    ($config:expr, $family:ident => $value:expr) => {
        match &$config.family {
            Family::Vit($family) => $value,
            Family::Swin($family) => $value,
        }
    };
}

impl ModelConfig {
    /// The shape with this name, one of [`presets`].
    ///
    /// # Errors
    /// [`ConfigError::Preset`] if there is none.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        let vit = VitConfig::preset(name).map(Self::from);
        vit.or_else(|| SwinConfig::preset(name).map(Self::from)).ok_or_else(|| {
            let known: Vec<_> = presets().collect();
            ConfigError::Preset { name: name.into(), known: known.join(", ") }
        })
    }

    /// Checks that a model of this shape can be built: that its values fit each other, and that its
    /// sizes are not beyond what can be on any machine. Every shape out of a file comes through here
    /// before anything is computed from it.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        limits::check(self)?;
        each!(self, family => family.validate())?;
        let kernels = &self.space.kernels;
        let ascending = kernels.windows(2).all(|pair| pair[0] < pair[1]);
        if kernels.is_empty() || !ascending || kernels.iter().any(|k| k % 2 == 0) {
            return Err(ConfigError::Kernels(kernels.clone()));
        }
        let (kernel, map) = (self.space.largest_kernel(), self.map());
        if kernel > 2 * map[0].max(map[1]) + 1 {
            return Err(ConfigError::KernelTooLarge { kernel, map });
        }
        positive("alpha", self.space.alpha)
    }

    /// The blocks, in order of computation.
    pub fn blocks(&self) -> Vec<BlockShape> {
        each!(self, family => family.blocks())
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        each!(self, family => family.depth())
    }

    /// Height and width of an image in pixels.
    pub fn image_size(&self) -> [usize; 2] {
        each!(self, family => family.image_size)
    }

    /// Side of a square patch in pixels.
    pub fn patch_size(&self) -> usize {
        each!(self, family => family.patch_size)
    }

    /// Channels of an image.
    pub fn channels(&self) -> usize {
        each!(self, family => family.channels)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        each!(self, family => family.classes)
    }

    /// Sets the number of classes.
    pub fn set_classes(&mut self, classes: usize) {
        match &mut self.family {
            Family::Vit(vit) => vit.classes = classes,
            Family::Swin(swin) => swin.classes = classes,
        }
    }

    /// Sets height and width of an image.
    pub fn set_image_size(&mut self, size: [usize; 2]) {
        match &mut self.family {
            Family::Vit(vit) => vit.image_size = size,
            Family::Swin(swin) => swin.image_size = size,
        }
    }

    /// Dimensions of the patch embedding.
    pub fn embed_dim(&self) -> usize {
        each!(self, family => family.dim)
    }

    /// Dimensions that the classifier sees.
    pub fn features(&self) -> usize {
        each!(self, family => family.features())
    }

    /// Whether the classifier sees prefix tokens alone, so that only attention tells it of the image.
    pub fn sees_by_attention(&self) -> bool {
        self.as_vit().is_some_and(VitConfig::sees_by_attention)
    }

    /// What differs between blocks of one size.
    pub fn style(&self) -> &BlockStyle {
        each!(self, family => &family.style)
    }

    /// ε of the normalisations.
    pub fn layer_norm_epsilon(&self) -> f64 {
        self.style().epsilon
    }

    /// Rows and columns of the map of patches.
    pub fn map(&self) -> [usize; 2] {
        self.image_size().map(|side| side / self.patch_size())
    }

    /// Blocks after which the map is halved and its dimensions doubled.
    pub fn merges(&self) -> Vec<usize> {
        match &self.family {
            Family::Vit(_) => Vec::new(),
            Family::Swin(swin) => swin.merges(),
        }
    }

    /// The gated operations of an attention layer in order of kernel size, then MSA.
    pub fn operations(&self) -> Vec<Operation> {
        self.space.operations()
    }

    /// The blocks of the dense model: attention everywhere, full FFNs.
    pub fn dense_blocks(&self) -> Vec<BlockConfig> {
        self.blocks().iter().map(BlockShape::dense).collect()
    }

    /// The ViT's shape, if it is one.
    pub fn as_vit(&self) -> Option<&VitConfig> {
        match &self.family {
            Family::Vit(vit) => Some(vit),
            Family::Swin(_) => None,
        }
    }
}
