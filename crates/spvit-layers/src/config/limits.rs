//! Sizes that cannot be, told before anything is computed from them or memory is asked for.
//!
//! A shape within these limits overflows no count of its values, and a list of its blocks, or of
//! their hidden dimensions, is small.

use super::{ConfigError, Family, ModelConfig, SwinConfig, VitConfig};

/// Most trained values of a model: a hundred times those of ViT-Huge.
const PARAMETERS: u128 = 60_000_000_000;
/// Most multiply-adds for an image: a million times those of ViT-Huge.
const FLOPS: u128 = 1_000_000_000_000_000_000;
/// Most patches of an image, and most values: attention over more is out of reach.
const PATCHES: u128 = 1_000_000;
const VALUES: u128 = 1 << 32;
/// Most blocks, and most hidden dimensions of all of them.
const BLOCKS: u128 = 10_000;
const HIDDEN: u128 = 10_000_000;
/// Most stages: a map of this many halvings is none.
const STAGES: usize = 16;

/// Sums and products that stop at the largest number.
#[derive(Clone, Copy)]
struct Count(u128);

impl Count {
    fn of(value: usize) -> Self {
        Self(value as u128)
    }
}

impl std::ops::Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::Mul for Count {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self(self.0.saturating_mul(other.0))
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self(0), |sum, value| sum + value)
    }
}

/// Blocks of one size.
struct Stage {
    dim: Count,
    heads: Count,
    hidden: Count,
    blocks: Count,
    /// Tokens, and those that one of them looks at.
    tokens: Count,
    seen: Count,
}

/// Rows and columns of the map of patches; of nothing where there is no patch.
fn map(config: &ModelConfig) -> [usize; 2] {
    config.image_size().map(|side| side.checked_div(config.patch_size()).unwrap_or(0))
}

fn patches(config: &ModelConfig) -> Count {
    let [rows, columns] = map(config).map(Count::of);
    rows * columns
}

fn prefix(vit: &VitConfig) -> Count {
    // A class and a distillation token at most.
    Count::of(vit.registers) + Count(2)
}

fn of_vit(config: &ModelConfig, vit: &VitConfig) -> Stage {
    let tokens = patches(config) + prefix(vit);
    let [dim, heads, hidden, blocks] = [vit.dim, vit.heads, vit.hidden, vit.depth].map(Count::of);
    Stage { dim, heads, hidden, blocks, tokens, seen: tokens }
}

fn of_swin(config: &ModelConfig, swin: &SwinConfig) -> Vec<Stage> {
    let patches = patches(config);
    let window = Count::of(swin.window);
    let stage = |(stage, (&blocks, &heads)): (usize, (&usize, &usize))| {
        let dim = Count::of(swin.dim) * Count(1 << stage);
        let seen = (window * window).0.min(patches.0);
        Stage {
            dim,
            heads: Count::of(heads),
            // From a number beyond all integers, the largest.
            hidden: Count((dim.0 as f64 * swin.mlp_ratio) as u128),
            blocks: Count::of(blocks),
            // Windows are padded to less than twice each side.
            tokens: patches * Count(4),
            seen: Count(seen),
        }
    };
    swin.depths.iter().zip(&swin.heads).take(STAGES).enumerate().map(stage).collect()
}

fn stages(config: &ModelConfig) -> Vec<Stage> {
    match &config.family {
        Family::Vit(vit) => vec![of_vit(config, vit)],
        Family::Swin(swin) => of_swin(config, swin),
    }
}

/// Trained values of the dense model of a shape, roughly: what is small beside the rest is left out.
fn parameters(config: &ModelConfig) -> Count {
    let stages = stages(config);
    let block = |stage: &Stage| {
        let maps = stage.dim * Count(4) + stage.hidden * Count(2);
        (stage.dim * maps + stage.hidden) * stage.blocks
    };
    let blocks: Count = stages.iter().map(block).sum();
    // A merging to twice the dimensions is a matrix of 4 by 2.
    let mergings: Count = stages.iter().skip(1).map(|s| s.dim * s.dim * Count(2)).sum();
    let (dim, patch) = (Count::of(config.embed_dim()), Count::of(config.patch_size()));
    let pixels = Count::of(config.channels()) * patch * patch;
    let rows = match &config.family {
        Family::Vit(vit) => patches(config) + prefix(vit),
        Family::Swin(_) => Count(0),
    };
    let features = stages.last().map_or(dim, |stage| stage.dim);
    let head = Count::of(config.classes()) * features;
    let pool = match config.as_vit().and_then(|vit| vit.pool_hidden) {
        Some(hidden) => dim * Count::of(hidden) * Count(2),
        None => Count(0),
    };
    blocks + mergings + (pixels + rows) * dim + head + pool
}

/// Values that a search, or an operation other than attention, has beside those of the dense model:
/// kernels and where heads look.
fn kernels(config: &ModelConfig) -> Count {
    let largest = Count::of(config.space.largest_kernel());
    let block = |stage: &Stage| {
        let head = stage.dim.0.checked_div(stage.heads.0).unwrap_or(0);
        (stage.dim * Count(head) + stage.heads) * largest * largest * stage.blocks
    };
    let biased = config.style().relative_position_bias;
    let biases = |stage: &Stage| {
        let seen = if biased || config.as_vit().is_none() { stage.seen } else { Count(0) };
        seen * Count(4) * stage.heads * stage.blocks
    };
    stages(config).iter().map(|stage| block(stage) + biases(stage)).sum()
}

/// Multiply-adds of the dearest choices, roughly.
fn flops(config: &ModelConfig) -> Count {
    let largest = Count::of(config.space.largest_kernel());
    let block = |stage: &Stage| {
        let head = Count(stage.dim.0.checked_div(stage.heads.0).unwrap_or(0));
        let attention = stage.dim * (stage.dim * Count(4) + stage.seen * Count(2));
        let convolution = stage.dim * head * largest * largest;
        let ffn = stage.dim * stage.hidden * Count(3);
        stage.tokens * (attention + convolution + ffn) * stage.blocks
    };
    let blocks: Count = stages(config).iter().map(block).sum();
    // Whatever is outside of the blocks uses a weight once for each patch at most.
    blocks + parameters(config) * (patches(config) + Count(1))
}

/// The sizes that make a model what it is, in words.
fn sizes(config: &ModelConfig) -> String {
    let [height, width] = config.image_size();
    let (dim, patch) = (config.embed_dim(), config.patch_size());
    let blocks = match &config.family {
        Family::Vit(vit) => format!("depth {}, hidden {}", vit.depth, vit.hidden),
        Family::Swin(swin) => format!("depths {:?}, mlp_ratio {:e}", swin.depths, swin.mlp_ratio),
    };
    let classes = config.classes();
    format!(
        "dim {dim}, {blocks}, images of {height}×{width}, patches of {patch}, {classes} classes"
    )
}

/// Whether a model of this shape can be at all, on whatever machine.
pub(super) fn check(config: &ModelConfig) -> Result<(), ConfigError> {
    if let Family::Swin(swin) = &config.family
        && swin.depths.len() > STAGES
    {
        return Err(ConfigError::TooManyStages { found: swin.depths.len(), most: STAGES });
    }
    let stages = stages(config);
    let blocks: Count = stages.iter().map(|stage| stage.blocks).sum();
    let hidden: Count = stages.iter().map(|stage| stage.hidden * stage.blocks).sum();
    let [height, width] = config.image_size().map(Count::of);
    let tokens = match &config.family {
        Family::Vit(vit) => patches(config) + prefix(vit),
        Family::Swin(_) => patches(config),
    };
    for (what, found, most) in [
        ("blocks", blocks, BLOCKS),
        ("hidden dimensions in its blocks", hidden, HIDDEN),
        ("patches and other tokens in an image", tokens, PATCHES),
        ("values in an image", height * width * Count::of(config.channels()), VALUES),
        ("parameters", parameters(config), PARAMETERS),
        ("values in kernels and biases", kernels(config), PARAMETERS),
        ("multiply-adds for an image", flops(config), FLOPS),
    ] {
        if found.0 > most {
            let (found, most, sizes) = (found.0 as f64, most as f64, sizes(config));
            return Err(ConfigError::TooLarge { what, found, most, sizes });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn shapes_that_can_be_are_counted() {
        for name in presets() {
            assert_eq!(ModelConfig::preset(name).unwrap().validate(), Ok(()), "{name}");
        }
        for (name, expected) in [
            ("deit_tiny", 5.7e6),
            ("deit_base", 86.6e6),
            ("vit_micro", 0.3e6),
            ("swin_tiny", 28.3e6),
        ] {
            let count = parameters(&ModelConfig::preset(name).unwrap()).0 as f64;
            assert!((count / expected - 1.0).abs() < 0.1, "{name}: {count}");
        }
        // ViT-22B (Dehghani et al., 2023).
        let largest = VitConfig::deit([224, 14, 3, 30_000, 6144, 48, 48]);
        assert_eq!(ModelConfig::from(largest).validate(), Ok(()));
    }

    #[test]
    fn sizes_that_cannot_be_are_told() {
        let tiny = VitConfig::deit([224, 16, 3, 1000, 192, 12, 3]);
        let most = usize::MAX;
        let mut shapes: Vec<ModelConfig> = [
            VitConfig { dim: 1_000_000, heads: 1, ..tiny.clone() },
            VitConfig { dim: most, heads: 1, hidden: most, ..tiny.clone() },
            VitConfig { depth: most, ..tiny.clone() },
            VitConfig { depth: most, dim: 1, heads: 1, hidden: 1, ..tiny.clone() },
            VitConfig { hidden: 1 << 40, dim: 1, heads: 1, depth: 1, ..tiny.clone() },
            VitConfig { classes: most, ..tiny.clone() },
            VitConfig { channels: most, ..tiny.clone() },
            VitConfig { registers: most, ..tiny.clone() },
            VitConfig { pool_hidden: Some(most), ..tiny.clone() },
            VitConfig { image_size: [1 << 40; 2], ..tiny.clone() },
            VitConfig { image_size: [most; 2], patch_size: 1, ..tiny.clone() },
            VitConfig {
                image_size: [1024; 2],
                patch_size: 1,
                dim: 60_000,
                heads: 1,
                ..tiny.clone()
            },
        ]
        .map(ModelConfig::from)
        .to_vec();
        let mut wide = ModelConfig::from(tiny);
        wide.space.kernels = vec![1, 1_000_001];
        shapes.push(wide);
        let ModelConfig { family: Family::Swin(swin), .. } =
            ModelConfig::preset("swin_tiny").unwrap()
        else {
            unreachable!()
        };
        let swins = [
            SwinConfig { depths: vec![most; 4], ..swin.clone() },
            SwinConfig { depths: vec![1; 200], heads: vec![1; 200], ..swin.clone() },
            SwinConfig { dim: most, ..swin.clone() },
            SwinConfig { mlp_ratio: 1e300, ..swin.clone() },
            SwinConfig { image_size: [most; 2], patch_size: 1, ..swin },
        ];
        shapes.extend(swins.map(ModelConfig::from));
        for shape in shapes {
            assert!(shape.validate().is_err(), "{shape:?}");
        }
    }

    /// No shape makes the check itself overflow or panic, zeros included.
    #[test]
    fn whatever_the_sizes_are_they_are_judged() {
        let values = [0, 1, 2, 1 << 20, 1 << 40, usize::MAX];
        for a in values {
            for b in values {
                for c in values {
                    let mut shape: ModelConfig = VitConfig {
                        image_size: [a, b],
                        registers: c,
                        ..VitConfig::deit([1, c, b, a, b, c, a])
                    }
                    .into();
                    shape.space.kernels = vec![a | 1];
                    let _ = shape.validate();
                    let swin = SwinConfig {
                        image_size: [a, c],
                        patch_size: b,
                        channels: c,
                        classes: a,
                        dim: b,
                        depths: vec![c; 3],
                        heads: vec![a; 3],
                        window: b,
                        mlp_ratio: c as f64,
                        style: crate::BlockStyle::default(),
                    };
                    let _ = ModelConfig::from(swin).validate();
                }
            }
        }
    }
}
