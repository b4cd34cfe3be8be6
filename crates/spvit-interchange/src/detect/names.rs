//! The names of other programs, and those of timm.

use std::collections::{BTreeMap, BTreeSet};

/// Whose names a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// timm, DeiT, Microsoft's Swin, the published code, spvit.
    Timm,
    /// ViT, DeiT, DINOv2, BEiT and Swin of Hugging Face's transformers.
    HuggingFace,
    /// CLIP and SigLIP of Hugging Face's transformers.
    HuggingFaceTower,
}

impl Origin {
    /// ε of the layer norms that models of this origin usually have.
    pub fn epsilon(self) -> f64 {
        match self {
            Self::Timm => 1e-6,
            Self::HuggingFace => 1e-12,
            Self::HuggingFaceTower => 1e-5,
        }
    }

    /// The end of the name that every model of this origin has.
    fn anchor(self) -> &'static str {
        match self {
            Self::Timm => "patch_embed.proj.weight",
            Self::HuggingFace => "embeddings.patch_embeddings.projection.weight",
            Self::HuggingFaceTower => "embeddings.patch_embedding.weight",
        }
    }

    fn rules(self) -> [&'static [Rule]; 2] {
        match self {
            Self::Timm => [&TIMM_OUTSIDE, &TIMM_INSIDE],
            Self::HuggingFace => [&HUGGING_FACE_OUTSIDE, &HUGGING_FACE_INSIDE],
            Self::HuggingFaceTower => [&TOWER_OUTSIDE, &TOWER_INSIDE],
        }
    }
}

/// How a name begins there and here; nothing here where the tensor has no part in the logits.
type Rule = (&'static str, Option<&'static str>);

const TIMM_OUTSIDE: [Rule; 5] = [
    ("register_tokens", Some("reg_token")),
    ("mask_token", None),
    ("dist_head.", Some("head_dist.")),
    ("shared_rel_pos.", Some("rel_pos_bias.rel_pos.")),
    ("patch_embed.grid", None),
];

const TIMM_INSIDE: [Rule; 12] = [
    // DINOv2's own.
    ("mlp.w12.", Some("mlp.fc1.")),
    ("mlp.w3.", Some("mlp.fc2.")),
    ("gamma_1", Some("ls1.gamma")),
    ("gamma_2", Some("ls2.gamma")),
    ("attn.q_proj.", Some("attn.q.")),
    ("attn.k_proj.", Some("attn.k.")),
    ("attn.v_proj.", Some("attn.v.")),
    ("attn.q_bias", Some("attn.q.bias")),
    ("attn.v_bias", Some("attn.v.bias")),
    ("attn.k_bias", Some("attn.k.bias")),
    ("attn.relative_position_index", None),
    ("attn_mask", None),
];

const HUGGING_FACE_OUTSIDE: [Rule; 15] = [
    ("embeddings.cls_token", Some("cls_token")),
    ("embeddings.distillation_token", Some("dist_token")),
    ("embeddings.register_tokens", Some("reg_token")),
    ("embeddings.position_embeddings", Some("pos_embed")),
    ("embeddings.mask_token", None),
    ("embeddings.patch_embeddings.projection.", Some("patch_embed.proj.")),
    ("embeddings.norm.", Some("patch_embed.norm.")),
    ("encoder.relative_position_bias.", Some("rel_pos_bias.")),
    ("layernorm.", Some("norm.")),
    ("pooler.layernorm.", Some("fc_norm.")),
    // Of a bare model: after the last norm, outside the classifier's path.
    ("pooler.", None),
    ("classifier.", Some("head.")),
    ("cls_classifier.", Some("head.")),
    ("distillation_classifier.", Some("head_dist.")),
    ("fc_norm.", Some("fc_norm.")),
];

/// Of files (`attention.attention.query`) and of the modules of transformers 5
/// (`attention.q_proj`).
const HUGGING_FACE_INSIDE: [Rule; 31] = [
    ("layernorm_before.", Some("norm1.")),
    ("layernorm_after.", Some("norm2.")),
    ("norm1.", Some("norm1.")),
    ("norm2.", Some("norm2.")),
    ("attention.attention.query.", Some("attn.q.")),
    ("attention.attention.key.", Some("attn.k.")),
    ("attention.attention.value.", Some("attn.v.")),
    ("attention.self.query.", Some("attn.q.")),
    ("attention.self.key.", Some("attn.k.")),
    ("attention.self.value.", Some("attn.v.")),
    ("attention.q_proj.", Some("attn.q.")),
    ("attention.k_proj.", Some("attn.k.")),
    ("attention.v_proj.", Some("attn.v.")),
    ("attention.output.dense.", Some("attn.proj.")),
    ("attention.o_proj.", Some("attn.proj.")),
    ("attention.attention.relative_position_bias.relative_position_index", None),
    ("attention.attention.relative_position_bias.", Some("attn.")),
    ("relative_position_bias.relative_position_index", None),
    ("relative_position_bias.", Some("attn.")),
    ("attention.self.relative_position_index", None),
    ("attention.relative_position_index", None),
    ("attention.self.", Some("attn.")),
    ("attention.relative_position_bias_table", Some("attn.relative_position_bias_table")),
    ("intermediate.dense.", Some("mlp.fc1.")),
    ("output.dense.", Some("mlp.fc2.")),
    ("mlp.weights_in.", Some("mlp.fc1.")),
    ("mlp.weights_out.", Some("mlp.fc2.")),
    ("layer_scale1.lambda1", Some("ls1.gamma")),
    ("layer_scale2.lambda1", Some("ls2.gamma")),
    ("lambda_1", Some("ls1.gamma")),
    ("lambda_2", Some("ls2.gamma")),
];

const TOWER_OUTSIDE: [Rule; 13] = [
    ("embeddings.class_embedding", Some("cls_token")),
    ("embeddings.position_embedding.weight", Some("pos_embed")),
    ("embeddings.position_ids", None),
    ("embeddings.patch_embedding.", Some("patch_embed.proj.")),
    ("pre_layrnorm.", Some("norm_pre.")),
    ("post_layernorm.", Some("norm.")),
    ("head.probe", Some("attn_pool.latent")),
    // q, K and V in one.
    ("head.attention.in_proj_", Some("attn_pool.qkv.")),
    ("head.attention.out_proj.", Some("attn_pool.proj.")),
    ("head.layernorm.", Some("attn_pool.norm.")),
    ("head.", Some("attn_pool.")),
    ("classifier.", Some("head.")),
    ("vision_model.head.", Some("attn_pool.")),
];

const TOWER_INSIDE: [Rule; 6] = [
    ("layer_norm1.", Some("norm1.")),
    ("layer_norm2.", Some("norm2.")),
    ("self_attn.q_proj.", Some("attn.q.")),
    ("self_attn.k_proj.", Some("attn.k.")),
    ("self_attn.v_proj.", Some("attn.v.")),
    ("self_attn.out_proj.", Some("attn.proj.")),
];

/// How blocks begin there, and stages.
const BLOCKS: [&str; 5] =
    ["encoder.layer.", "encoder.layers.", "model.layer.", "layers.", "layer."];

/// What stands outside of a wrapped model and still belongs to it.
const HEADS: [&str; 5] =
    ["classifier.", "cls_classifier.", "distillation_classifier.", "head.", "encoder.layer."];

/// A file's names, and timm's names of the same tensors.
#[derive(Debug, Clone)]
pub(crate) struct Canonical {
    /// Whose names they are.
    pub origin: Origin,
    /// What stands before every name; often nothing.
    pub prefix: String,
    /// From their names to ours.
    pub names: BTreeMap<String, String>,
    /// What has no part in the logits: mask tokens, poolers, indices that follow from the shape.
    pub unused: Vec<String>,
    /// The first parts of names outside of the image model: `text`, `logit_scale`.
    pub others: BTreeSet<String>,
}

impl Canonical {
    /// Sees through wrappers and other programs' names.
    ///
    /// # Errors
    /// More than one image model in the file.
    pub fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<Self, String> {
        let (origin, prefix) = anchor(names.clone())?;
        let mut out = Self {
            origin,
            prefix: prefix.clone(),
            names: BTreeMap::new(),
            unused: Vec::new(),
            others: BTreeSet::new(),
        };
        // timm 0.9 and later merge at the start of a stage, Microsoft's Swin at the end.
        let merged_at_end = names.clone().any(|name| name.contains("layers.0.downsample."));
        let staged = names.clone().any(|name| name.contains("layers.0.blocks.0."));
        for name in names {
            let inside = name.strip_prefix(prefix.as_str());
            let bare = match inside {
                Some(bare) => bare,
                None if HEADS.iter().any(|head| name.starts_with(head)) => name,
                None => {
                    out.others.insert(name.split('.').next().unwrap_or(name).to_string());
                    continue;
                }
            };
            match origin.ours(bare, merged_at_end) {
                Some(ours) => {
                    // Swin's classifier has a name of its own in timm.
                    let ours = match ours.strip_prefix("head.") {
                        Some(kind) if staged && !kind.starts_with("fc.") => {
                            format!("head.fc.{kind}")
                        }
                        _ => ours,
                    };
                    out.names.insert(name.to_string(), ours);
                }
                None => out.unused.push(name.to_string()),
            }
        }
        // A distillation token without a head of its own is a register like others.
        let has = |out: &Self, ours: &str| out.names.values().any(|name| name == ours);
        if !has(&out, "head_dist.weight") && !has(&out, "reg_token") {
            for ours in out.names.values_mut().filter(|ours| *ours == "dist_token") {
                *ours = "reg_token".into();
            }
        }
        Ok(out)
    }

    /// What was done, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.origin != Origin::Timm {
            notes.push("the names are those of Hugging Face's transformers".into());
        }
        if !self.prefix.is_empty() && self.origin == Origin::Timm {
            notes.push(format!("the prefix '{}' is removed from the names", self.prefix));
        }
        if !self.others.is_empty() {
            let others: Vec<_> = self.others.iter().map(String::as_str).collect();
            notes.push(format!(
                "left out, as it is no part of the image model: {}",
                others.join(", ")
            ));
        }
        if self.unused.iter().any(|name| name.contains("pooler.")) {
            notes.push("the pooler is left out: the last norm's output goes to the head".into());
        }
        notes
    }
}

/// Whose names these are, and what stands before each of the image model's.
fn anchor<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<(Origin, String), String> {
    for origin in [Origin::HuggingFace, Origin::HuggingFaceTower, Origin::Timm] {
        let before: BTreeSet<&str> = names
            .clone()
            .filter_map(|name| name.strip_suffix(origin.anchor()))
            .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
            .collect();
        let mut before = before.into_iter();
        match (before.next(), before.next()) {
            (None, _) => {}
            (Some(prefix), None) => return Ok((origin, prefix.to_string())),
            (Some(first), Some(second)) => {
                return Err(format!(
                    "it holds more than one image model (under '{first}' and '{second}'); save one \
                     of them alone"
                ));
            }
        }
    }
    Ok((Origin::Timm, String::new()))
}

impl Origin {
    /// timm's name; `None` for what has no part in the logits. A name of no rule stays.
    fn ours(self, name: &str, merged_at_end: bool) -> Option<String> {
        let [outside, inside] = self.rules();
        if name.ends_with("relative_position_index") || name.ends_with("attn_mask") {
            return None;
        }
        // `layers.S.downsample` belongs to the next stage where merging ends a stage.
        if let Some((stage, rest)) = staged(name, "downsample.") {
            let stage = stage + usize::from(merged_at_end);
            return Some(format!("layers.{stage}.downsample.{rest}"));
        }
        if let Some((stage, rest)) = staged(name, "blocks.") {
            let (block, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let rest = swapped(inside, rest)?;
            return Some(format!("layers.{stage}.blocks.{block}.{rest}"));
        }
        let blocks: &[&str] = if self == Self::Timm { &["blocks."] } else { &BLOCKS };
        let inner = blocks.iter().find_map(|start| {
            let (index, rest) = name.strip_prefix(start)?.split_once('.')?;
            index.bytes().all(|b| b.is_ascii_digit()).then_some((index, rest))
        });
        match inner {
            Some((index, rest)) => Some(format!("blocks.{index}.{}", swapped(inside, rest)?)),
            None => swapped(outside, name),
        }
    }
}

/// The stage of `[encoder.]layers.STAGE.PART` and what follows the part.
fn staged<'a>(name: &'a str, part: &str) -> Option<(usize, &'a str)> {
    let name = name.strip_prefix("encoder.").unwrap_or(name);
    let (stage, rest) = name.strip_prefix("layers.")?.split_once('.')?;
    Some((stage.parse().ok()?, rest.strip_prefix(part)?))
}

/// A name whose beginning is exchanged by the first rule that fits; `None` if that drops it.
fn swapped(rules: &[Rule], name: &str) -> Option<String> {
    let fitting = rules.iter().find_map(|(from, to)| Some((name.strip_prefix(from)?, to)));
    match fitting {
        Some((rest, to)) => to.map(|to| format!("{to}{rest}")),
        None => Some(name.to_string()),
    }
}
