//! A model's shape that is asked for, against that of a file.

use serde_json::{Map, Value};
use spvit_layers::{BlockConfig, Family, ModelConfig, Operation};

use crate::detect::{self, Shapes, Told};

/// What the shape tells that tensors do not, as far as these tensors could be of that shape.
pub(super) fn told(config: &ModelConfig, shapes: &Shapes) -> Told {
    let dim = shapes.get("patch_embed.proj.weight").and_then(|shape| shape.first());
    // Of another width, a model has other heads, and another head's width is of no use.
    let heads = |heads: Vec<usize>| match dim == Some(&config.embed_dim()) {
        true => heads,
        false => vec![1; heads.len()],
    };
    let style = config.blocks().first().map(|block| block.style).unwrap_or_default();
    let vit = config.as_vit();
    let pooled = shapes.keys().any(|name| name.starts_with("attn_pool."));
    let pool = match vit.map(|vit| (vit.pool, vit.pool_prefix)) {
        Some((spvit_layers::Pool::Token, _)) => Some(detect::Pool::Token),
        // Without one in the file, what else it has shows.
        Some((spvit_layers::Pool::Map, _)) if !pooled => None,
        Some((spvit_layers::Pool::Map, false)) => Some(detect::Pool::Attention),
        Some((spvit_layers::Pool::Map, true)) => Some(detect::Pool::AttentionWithPrefix),
        Some((spvit_layers::Pool::TokenAverage, _)) => Some(detect::Pool::TokenAndAverage),
        Some((spvit_layers::Pool::Average, true)) => Some(detect::Pool::AverageWithPrefix),
        Some((spvit_layers::Pool::Average, false)) | None => Some(detect::Pool::Average),
    };
    let bare = vit.is_some_and(|vit| !vit.final_norm && !vit.fc_norm);
    Told {
        heads: Some(heads(match &config.family {
            Family::Vit(vit) => vec![vit.heads],
            Family::Swin(swin) => swin.heads.clone(),
        })),
        image_size: Some(config.image_size()),
        windows: match &config.family {
            Family::Vit(_) => None,
            Family::Swin(swin) => Some(vec![swin.window]),
        },
        pool,
        pool_heads: vit.map(|vit| vit.pool_heads()),
        activation: Some(Ok(style.activation)),
        epsilon: Some(style.epsilon),
        post_norm: Some(false),
        rope: Some(style.rope.map(detect::Rope::from)),
        // Where the file has one, it is not left out because the shape does not want it.
        final_norm: (bare && !shapes.contains_key("norm.weight")).then_some(false),
        ..Told::default()
    }
}

/// A shape's table, without what may differ: resolution, classes, and what is not of the weights.
fn table(config: &ModelConfig) -> Map<String, Value> {
    let mut table = match serde_json::to_value(config) {
        Ok(Value::Object(table)) => table,
        _ => Map::new(),
    };
    for free in ["image_size", "classes", "kernels", "alpha", "shortcut_adds_norm"] {
        table.remove(free);
    }
    table
}

/// The values in which two shapes differ, as the second has them. A bias that only the first has is
/// none: zeros stand in for it.
fn differing(asked: &ModelConfig, found: &ModelConfig) -> Vec<(String, Value)> {
    let (mut asked, found) = (table(asked), table(found));
    let mut out = Vec::new();
    for (key, value) in &found {
        let other = asked.remove(key);
        let zeros = ["qkv_bias", "patch_bias"].contains(&key.as_str()) && other.is_none();
        if other.as_ref() != Some(value) && !zeros {
            out.push((key.clone(), value.clone()));
        }
    }
    // What is left has its default in the file.
    out.extend(asked.into_iter().map(|(key, _)| (key, Value::Null)));
    // Nobody told the heads of another width.
    if out.iter().any(|(key, _)| key == "dim") {
        out.retain(|(key, _)| key != "heads");
    }
    out
}

/// What to change in a configuration that the weights do not fit; `None` if nothing.
pub(super) fn difference(
    asked: &ModelConfig,
    found: &ModelConfig,
    blocks: &[BlockConfig],
) -> Option<String> {
    if blocks.iter().any(|block| block.operation != Operation::Msa) {
        return Some("; the file is for a compact model; expected a dense one".into());
    }
    let settings: Vec<String> = differing(asked, found).iter().map(setting).collect();
    (!settings.is_empty())
        .then(|| format!("; the file is for a model with {}", settings.join(", ")))
}

fn setting((key, value): &(String, Value)) -> String {
    match value {
        Value::Null => format!("model.{key} left out"),
        value => format!("model.{key} = {value}"),
    }
}

/// Whether two shapes differ in more than sizes, which the tensors themselves show best.
pub(super) fn of_another_form(asked: &ModelConfig, found: &ModelConfig) -> bool {
    let sizes = ["channels", "patch_size", "dim", "depth", "depths", "hidden", "mlp_ratio"];
    differing(asked, found).iter().any(|(key, _)| !sizes.contains(&key.as_str()))
}
