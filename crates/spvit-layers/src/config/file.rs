//! A model's configuration as it stands in files: one flat table for every family.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Family, ModelConfig, Pool, SwinConfig, VitConfig};
use crate::{Activation, BlockStyle, FfnKind, NormKind, QkvBias, Rope, RopeKind, SearchSpace};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FamilyName {
    Vit,
    Swin,
}

/// One number, or one for each stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum PerStage {
    One(usize),
    Each(Vec<usize>),
}

macro_rules! model_file {
    ($($(#[$attribute:meta])* $field:ident: $type:ty,)*) => {
        /// Every value that a model's table may hold. What is left out is the default; defaults
        /// that DeiT has are not written.
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct ModelFile {
            $($(#[$attribute])* #[serde(skip_serializing_if = "Option::is_none")]
            $field: Option<$type>,)*
        }

        impl ModelFile {
            /// The values over another file's.
            fn over(self, base: Self) -> Self {
                Self { $($field: self.$field.or(base.$field),)* }
            }
        }
    };
}

model_file! {
    family: FamilyName,
    preset: String,
    image_size: [usize; 2],
    patch_size: usize,
    channels: usize,
    classes: usize,
    dim: usize,
    depth: usize,
    depths: Vec<usize>,
    heads: PerStage,
    hidden: usize,
    mlp_ratio: f64,
    window: usize,
    kernels: Vec<usize>,
    alpha: f64,
    separate: bool,
    layer_norm_epsilon: f64,
    shortcut_adds_norm: bool,
    pool: Pool,
    pool_prefix: bool,
    pool_heads: usize,
    pool_hidden: usize,
    pool_qk_norm: bool,
    class_token: bool,
    distilled: bool,
    registers: usize,
    position_embedding: bool,
    embed_prefix: bool,
    patch_bias: bool,
    pre_norm: bool,
    patch_norm: bool,
    final_norm: bool,
    fc_norm: bool,
    norm: NormKind,
    ffn: FfnKind,
    activation: Activation,
    qkv_bias: QkvBias,
    qk_norm: bool,
    relative_position_bias: bool,
    rope: RopeKind,
    rope_temperature: f64,
    rope_offset: f64,
    rope_reference: [usize; 2],
    rope_columns_first: bool,
    rope_half: bool,
    attn_norm: bool,
    mlp_norm: bool,
    layer_scale: bool,
}

impl ModelFile {
    fn says_how_rope_turns(&self) -> bool {
        self.rope_temperature.is_some()
            || self.rope_offset.is_some()
            || self.rope_reference.is_some()
            || self.rope_columns_first.is_some()
            || self.rope_half.is_some()
    }
}

fn need<T>(value: Option<T>, field: &'static str) -> Result<T, ConfigError> {
    value.ok_or(ConfigError::Missing(field))
}

fn refuse<T>(
    value: Option<&T>,
    field: &'static str,
    family: &'static str,
) -> Result<(), ConfigError> {
    match value {
        Some(_) => Err(ConfigError::Foreign { field, family }),
        None => Ok(()),
    }
}

impl TryFrom<ModelFile> for ModelConfig {
    type Error = ConfigError;

    fn try_from(mut file: ModelFile) -> Result<Self, ConfigError> {
        if let Some(name) = file.preset.take() {
            file = file.over(Self::preset(&name)?.into());
        }
        if file.rope.is_none() && file.says_how_rope_turns() {
            return Err(ConfigError::Missing("rope"));
        }
        let space = SearchSpace::default();
        Ok(Self {
            space: SearchSpace {
                kernels: file.kernels.take().unwrap_or(space.kernels),
                alpha: file.alpha.unwrap_or(space.alpha),
                separate: file.separate.unwrap_or(space.separate),
            },
            family: match file.family.unwrap_or(FamilyName::Vit) {
                FamilyName::Vit => Family::Vit(vit(file)?),
                FamilyName::Swin => Family::Swin(swin(file)?),
            },
        })
    }
}

fn style(file: &ModelFile) -> BlockStyle {
    let default = BlockStyle::default();
    BlockStyle {
        epsilon: file.layer_norm_epsilon.unwrap_or(default.epsilon),
        norm: file.norm.unwrap_or(default.norm),
        ffn: file.ffn.unwrap_or(default.ffn),
        activation: file.activation.unwrap_or(default.activation),
        qkv_bias: file.qkv_bias.unwrap_or(default.qkv_bias),
        qk_norm: file.qk_norm.unwrap_or(default.qk_norm),
        relative_position_bias: file
            .relative_position_bias
            .unwrap_or(default.relative_position_bias),
        rope: file.rope.map(|kind| {
            let default = Rope::new(kind);
            Rope {
                kind,
                temperature: file.rope_temperature.unwrap_or(default.temperature),
                offset: file.rope_offset.unwrap_or(default.offset),
                reference: file.rope_reference.or(default.reference),
                columns_first: file.rope_columns_first.unwrap_or(default.columns_first),
                half: file.rope_half.unwrap_or(default.half),
            }
        }),
        attn_norm: file.attn_norm.unwrap_or(default.attn_norm),
        mlp_norm: file.mlp_norm.unwrap_or(default.mlp_norm),
        layer_scale: file.layer_scale.unwrap_or(default.layer_scale),
        shortcut_adds_norm: file.shortcut_adds_norm.unwrap_or(default.shortcut_adds_norm),
    }
}

fn vit(file: ModelFile) -> Result<VitConfig, ConfigError> {
    refuse(file.depths.as_ref(), "depths", "vit")?;
    refuse(file.window.as_ref(), "window", "vit")?;
    refuse(file.mlp_ratio.as_ref(), "mlp_ratio", "vit")?;
    let style = style(&file);
    let heads = match need(file.heads, "heads")? {
        PerStage::One(heads) => heads,
        PerStage::Each(_) => {
            return Err(ConfigError::Shape { field: "heads", expected: "one number" });
        }
    };
    Ok(VitConfig {
        image_size: need(file.image_size, "image_size")?,
        patch_size: need(file.patch_size, "patch_size")?,
        channels: need(file.channels, "channels")?,
        classes: need(file.classes, "classes")?,
        dim: need(file.dim, "dim")?,
        depth: need(file.depth, "depth")?,
        heads,
        hidden: need(file.hidden, "hidden")?,
        pool: file.pool.unwrap_or_default(),
        pool_prefix: file.pool_prefix.unwrap_or(false),
        pool_heads: file.pool_heads,
        pool_hidden: file.pool_hidden,
        pool_qk_norm: file.pool_qk_norm.unwrap_or(false),
        class_token: file.class_token.unwrap_or(true),
        distilled: file.distilled.unwrap_or(false),
        registers: file.registers.unwrap_or(0),
        position_embedding: file.position_embedding.unwrap_or(true),
        embed_prefix: file.embed_prefix.unwrap_or(true),
        patch_bias: file.patch_bias.unwrap_or(true),
        pre_norm: file.pre_norm.unwrap_or(false),
        patch_norm: file.patch_norm.unwrap_or(false),
        // One of both is usual, and a file names what is not.
        final_norm: file.final_norm.unwrap_or(!file.fc_norm.unwrap_or(false)),
        fc_norm: file.fc_norm.unwrap_or(false),
        style,
    })
}

fn swin(file: ModelFile) -> Result<SwinConfig, ConfigError> {
    refuse(file.depth.as_ref(), "depth", "swin")?;
    refuse(file.hidden.as_ref(), "hidden", "swin")?;
    refuse(file.pool.as_ref(), "pool", "swin")?;
    refuse(file.pool_prefix.as_ref(), "pool_prefix", "swin")?;
    refuse(file.pool_heads.as_ref(), "pool_heads", "swin")?;
    refuse(file.pool_hidden.as_ref(), "pool_hidden", "swin")?;
    refuse(file.pool_qk_norm.as_ref(), "pool_qk_norm", "swin")?;
    refuse(file.class_token.as_ref(), "class_token", "swin")?;
    refuse(file.distilled.as_ref(), "distilled", "swin")?;
    refuse(file.registers.as_ref(), "registers", "swin")?;
    refuse(file.position_embedding.as_ref(), "position_embedding", "swin")?;
    refuse(file.embed_prefix.as_ref(), "embed_prefix", "swin")?;
    refuse(file.patch_bias.as_ref(), "patch_bias", "swin")?;
    refuse(file.pre_norm.as_ref(), "pre_norm", "swin")?;
    refuse(file.patch_norm.as_ref(), "patch_norm", "swin")?;
    refuse(file.final_norm.as_ref(), "final_norm", "swin")?;
    refuse(file.fc_norm.as_ref(), "fc_norm", "swin")?;
    refuse(file.relative_position_bias.as_ref(), "relative_position_bias", "swin")?;
    refuse(file.rope.as_ref(), "rope", "swin")?;
    let epsilon = file.layer_norm_epsilon.unwrap_or(1e-5);
    let style = BlockStyle { epsilon, ..style(&file) };
    let heads = match need(file.heads, "heads")? {
        PerStage::Each(heads) => heads,
        PerStage::One(_) => {
            let expected = "a list with one number for each stage";
            return Err(ConfigError::Shape { field: "heads", expected });
        }
    };
    Ok(SwinConfig {
        image_size: need(file.image_size, "image_size")?,
        patch_size: need(file.patch_size, "patch_size")?,
        channels: need(file.channels, "channels")?,
        classes: need(file.classes, "classes")?,
        dim: need(file.dim, "dim")?,
        depths: need(file.depths, "depths")?,
        heads,
        window: need(file.window, "window")?,
        mlp_ratio: file.mlp_ratio.unwrap_or(4.0),
        style,
    })
}

/// The value, unless it is the default.
fn unless<T: PartialEq>(value: T, default: T) -> Option<T> {
    (value != default).then_some(value)
}

impl From<ModelConfig> for ModelFile {
    fn from(config: ModelConfig) -> Self {
        let ModelConfig { family, space } = config;
        let default = BlockStyle::default();
        let rope = |rope: Rope| {
            let default = Rope::new(rope.kind);
            Self {
                rope: Some(rope.kind),
                rope_temperature: unless(rope.temperature, default.temperature),
                rope_offset: unless(rope.offset, default.offset),
                rope_reference: rope.reference,
                rope_columns_first: unless(rope.columns_first, default.columns_first),
                rope_half: unless(rope.half, default.half),
                ..Self::default()
            }
        };
        let common = |style: BlockStyle| Self {
            kernels: Some(space.kernels.clone()),
            alpha: Some(space.alpha),
            separate: unless(space.separate, false),
            shortcut_adds_norm: Some(style.shortcut_adds_norm),
            norm: unless(style.norm, default.norm),
            ffn: unless(style.ffn, default.ffn),
            activation: unless(style.activation, default.activation),
            qkv_bias: unless(style.qkv_bias, default.qkv_bias),
            qk_norm: unless(style.qk_norm, default.qk_norm),
            relative_position_bias: unless(
                style.relative_position_bias,
                default.relative_position_bias,
            ),
            attn_norm: unless(style.attn_norm, default.attn_norm),
            mlp_norm: unless(style.mlp_norm, default.mlp_norm),
            layer_scale: unless(style.layer_scale, default.layer_scale),
            ..style.rope.map(rope).unwrap_or_default()
        };
        match family {
            Family::Vit(vit) => Self {
                image_size: Some(vit.image_size),
                patch_size: Some(vit.patch_size),
                channels: Some(vit.channels),
                classes: Some(vit.classes),
                dim: Some(vit.dim),
                depth: Some(vit.depth),
                heads: Some(PerStage::One(vit.heads)),
                hidden: Some(vit.hidden),
                layer_norm_epsilon: Some(vit.style.epsilon),
                pool: unless(vit.pool, Pool::Token),
                pool_prefix: unless(vit.pool_prefix, false),
                pool_heads: vit.pool_heads,
                pool_hidden: vit.pool_hidden,
                pool_qk_norm: unless(vit.pool_qk_norm, false),
                class_token: unless(vit.class_token, true),
                distilled: unless(vit.distilled, false),
                registers: unless(vit.registers, 0),
                position_embedding: unless(vit.position_embedding, true),
                embed_prefix: unless(vit.embed_prefix, true),
                patch_bias: unless(vit.patch_bias, true),
                pre_norm: unless(vit.pre_norm, false),
                patch_norm: unless(vit.patch_norm, false),
                final_norm: unless(vit.final_norm, !vit.fc_norm),
                fc_norm: unless(vit.fc_norm, false),
                ..common(vit.style)
            },
            Family::Swin(swin) => Self {
                family: Some(FamilyName::Swin),
                image_size: Some(swin.image_size),
                patch_size: Some(swin.patch_size),
                channels: Some(swin.channels),
                classes: Some(swin.classes),
                dim: Some(swin.dim),
                depths: Some(swin.depths),
                heads: Some(PerStage::Each(swin.heads)),
                window: Some(swin.window),
                mlp_ratio: Some(swin.mlp_ratio),
                layer_norm_epsilon: Some(swin.style.epsilon),
                ..common(swin.style)
            },
        }
    }
}
