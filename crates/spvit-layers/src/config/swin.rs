//! Swin (Liu et al., 2021): stages of shrinking maps, attention in shifted windows.

use super::error::{ConfigError, not_zero, positive, whole_patches};
use crate::{BlockShape, BlockStyle, Window};

/// Shape of a Swin transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct SwinConfig {
    /// Height and width of an image in pixels, multiples of `patch_size`.
    pub image_size: [usize; 2],
    /// Side of a square patch in pixels.
    pub patch_size: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// Dimensions of the first stage; every further one has twice as many.
    pub dim: usize,
    /// Blocks of every stage.
    pub depths: Vec<usize>,
    /// Attention heads of every stage.
    pub heads: Vec<usize>,
    /// Side of a window; a smaller map is one window.
    pub window: usize,
    /// Hidden dimensions of an FFN before pruning, as a multiple of its stage's dimensions.
    pub mlp_ratio: f64,
    /// What differs between blocks of one size.
    pub style: BlockStyle,
}

/// Named shapes: name, embedding dimension, depths, heads; images of 224×224 pixels, patches of 4,
/// windows of 7, 1000 classes.
#[allow(clippy::type_complexity)]
pub(super) const PRESETS: &[(&str, (usize, [usize; 4], [usize; 4]))] = &[
    ("swin_tiny", (96, [2, 2, 6, 2], [3, 6, 12, 24])),
    ("swin_small", (96, [2, 2, 18, 2], [3, 6, 12, 24])),
    ("swin_base", (128, [2, 2, 18, 2], [4, 8, 16, 32])),
];

impl SwinConfig {
    pub(super) fn preset(name: &str) -> Option<Self> {
        let (_, (dim, depths, heads)) = PRESETS.iter().find(|(known, _)| *known == name)?;
        Some(Self {
            image_size: [224, 224],
            patch_size: 4,
            channels: 3,
            classes: 1000,
            dim: *dim,
            depths: depths.to_vec(),
            heads: heads.to_vec(),
            window: 7,
            mlp_ratio: 4.0,
            style: BlockStyle { epsilon: 1e-5, ..BlockStyle::default() },
        })
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let least = |values: &[usize]| values.iter().copied().min().unwrap_or(0);
        not_zero([
            ("image_size", self.image_size[0].min(self.image_size[1])),
            ("patch_size", self.patch_size),
            ("channels", self.channels),
            ("classes", self.classes),
            ("dim", self.dim),
            ("depths", least(&self.depths)),
            ("heads", least(&self.heads)),
            ("window", self.window),
        ])?;
        whole_patches(self.image_size, self.patch_size)?;
        let BlockStyle { relative_position_bias, rope, .. } = &self.style;
        let foreign =
            [(*relative_position_bias, "relative_position_bias"), (rope.is_some(), "rope")];
        if let Some((_, field)) = foreign.into_iter().find(|(there, _)| *there) {
            return Err(ConfigError::Foreign { field, family: "swin" });
        }
        if self.depths.len() != self.heads.len() {
            let (depths, heads) = (self.depths.len(), self.heads.len());
            return Err(ConfigError::Stages { depths, heads });
        }
        for (stage, &heads) in self.heads.iter().enumerate() {
            let dim = self.stage_dim(stage);
            if !dim.is_multiple_of(heads) {
                return Err(ConfigError::Heads { dim, heads });
            }
            // A map of one row or column cannot be halved.
            let before = self.stage_map(stage.saturating_sub(1));
            if stage > 0 && before.contains(&1) {
                return Err(ConfigError::TooSmall { size: self.image_size, stage });
            }
        }
        positive("mlp_ratio", self.mlp_ratio)?;
        if self.hidden(0) == 0 {
            return Err(ConfigError::Zero("mlp_ratio times model.dim"));
        }
        positive("layer_norm_epsilon", self.style.epsilon)
    }

    /// Dimensions that the classifier sees.
    pub(super) fn features(&self) -> usize {
        self.stage_dim(self.depths.len().saturating_sub(1))
    }

    /// Dimensions of a stage.
    pub fn stage_dim(&self, stage: usize) -> usize {
        let factor = u32::try_from(stage).ok().and_then(|stage| 1usize.checked_shl(stage));
        self.dim.saturating_mul(factor.unwrap_or(usize::MAX))
    }

    /// Rows and columns of a stage's map; odd ones are padded before they are halved.
    pub fn stage_map(&self, stage: usize) -> [usize; 2] {
        let halve = |side: usize| (0..stage).fold(side, |side, _| side.div_ceil(2));
        self.image_size.map(|side| halve(side / self.patch_size))
    }

    fn hidden(&self, stage: usize) -> usize {
        (self.stage_dim(stage) as f64 * self.mlp_ratio) as usize
    }

    pub(super) fn depth(&self) -> usize {
        self.depths.iter().sum()
    }

    /// The window of a stage's even or odd blocks: a side that fits into one window has no shift.
    fn window(&self, stage: usize, shifted: bool) -> Window {
        let map = self.stage_map(stage);
        let shift = |side: usize| match shifted && side > self.window {
            true => self.window / 2,
            false => 0,
        };
        Window { size: map.map(|side| side.min(self.window)), shift: map.map(shift) }
    }

    /// Stage and place in it of every block.
    pub fn places(&self) -> Vec<(usize, usize)> {
        let stage = |(stage, &depth): (usize, &usize)| (0..depth).map(move |block| (stage, block));
        self.depths.iter().enumerate().flat_map(stage).collect()
    }

    pub(super) fn blocks(&self) -> Vec<BlockShape> {
        let block = |(stage, place): (usize, usize)| BlockShape {
            dim: self.stage_dim(stage),
            heads: self.heads[stage],
            hidden: self.hidden(stage),
            map: self.stage_map(stage),
            prefix_tokens: 0,
            window: Some(self.window(stage, place % 2 == 1)),
            style: self.style,
        };
        self.places().into_iter().map(block).collect()
    }

    /// The last block of every stage but the last.
    pub(super) fn merges(&self) -> Vec<usize> {
        let ends = self.depths.iter().scan(0, |end, depth| {
            *end += depth;
            Some(*end - 1)
        });
        ends.take(self.depths.len() - 1).collect()
    }
}
