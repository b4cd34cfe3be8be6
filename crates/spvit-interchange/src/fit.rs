//! Weights of one number of classes and one resolution, made to fit another.

use burn::tensor::{TensorData, backend::Backend};
use spvit_layers::{Init, Linear, ModelConfig, QkvBias, state::StateDict};

use crate::{
    detect::{Described, square},
    infer,
    names::Renamed,
    resize,
};

/// Gives the prefix tokens that have no row in the position embedding one of zeros, where others
/// have one.
pub(super) fn rows(tensors: &mut StateDict, described: &Described) {
    let tokens = usize::from(described.class_token) + usize::from(described.distilled);
    let (tokens, own) = (tokens + described.registers, described.prefix_rows);
    let Some([1, rows, dim]) = infer::shape(tensors, "pos_embed") else { return };
    if own == 0 || own >= tokens {
        return;
    }
    let Some(data) = tensors.remove("pos_embed") else { return };
    let mut values = data.into_vec::<f32>().unwrap_or_default();
    let map = values.split_off(own * dim);
    values.resize(tokens * dim, 0.0);
    values.extend(map);
    tensors.insert("pos_embed".into(), TensorData::new(values, [1, rows + tokens - own, dim]));
}

/// Rows of a position embedding that belong to prefix tokens.
fn prefix_rows(config: &ModelConfig) -> usize {
    config.as_vit().map_or(0, |vit| if vit.embed_prefix { vit.prefix_tokens() } else { 0 })
}

/// Resizes the position embedding where its number of tokens differs, as timm does.
///
/// `map` is the map of patches that it was trained on, if that is known; otherwise it must have
/// been a square. What is no position embedding of this width is left for the import to name.
///
/// # Errors
/// What is wrong with a map that is not known.
pub(super) fn positions(
    tensors: &mut StateDict,
    config: &ModelConfig,
    map: Option<[usize; 2]>,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let Some([1, tokens, dim]) = infer::shape(tensors, "pos_embed") else { return Ok(()) };
    let (to, prefix) = (config.map(), prefix_rows(config));
    let count: usize = to.iter().product();
    let patches = tokens.saturating_sub(prefix);
    let map = map.filter(|map| map.iter().product::<usize>() == patches);
    if dim != config.embed_dim() || map.map_or(patches == count, |from| from == to) {
        return Ok(());
    }
    let Some(from) = map.or_else(|| square(patches)) else {
        return Err(format!(
            "pos_embed has {tokens} tokens, which are no square of patches and {prefix} prefix \
             tokens; it can only be used with as many patches as it has (model.image_size, \
             model.patch_size)"
        ));
    };
    let Some(data) = tensors.remove("pos_embed") else { return Ok(()) };
    let mut values = data.into_vec::<f32>().unwrap_or_default();
    let resized = resize::resample(&values[prefix * dim..], from, to, dim);
    values.truncate(prefix * dim);
    values.extend(resized);
    let shape = [1, prefix + count, dim];
    tensors.insert("pos_embed".into(), TensorData::new(values, shape));
    notes.push(format!(
        "the position embedding is resized from {}×{} to {}×{} patches (bicubic)",
        from[0], from[1], to[0], to[1]
    ));
    Ok(())
}

/// The names of a model's classifiers.
fn heads(config: &ModelConfig) -> &'static [&'static str] {
    match config.as_vit() {
        None => &["head.fc"],
        Some(vit) if vit.distilled => &["head", "head_dist"],
        Some(_) => &["head"],
    }
}

/// Gives the model a new head where the file has none or one for other classes; tells whether.
///
/// A head of another width is left for the import to name.
pub(super) fn head<B: Backend>(
    tensors: &mut StateDict,
    config: &ModelConfig,
    init: &mut Init<B>,
    notes: &mut Vec<String>,
) -> bool {
    let name = format!("{}.weight", heads(config)[0]);
    let found = match (infer::shape(tensors, &name), tensors.contains_key(&name)) {
        (Some([classes, dim]), _) if dim == config.features() && classes != config.classes() => {
            format!("the file has {classes} classes and the model {}", config.classes())
        }
        (None, false) => {
            format!("the file has none, and the model has {} classes", config.classes())
        }
        _ => return false,
    };
    notes.push(format!("the head is new and has to be trained: {found}"));
    for head in heads(config) {
        let Linear { weight, bias } = Linear::new(config.features(), config.classes(), init);
        let weight = weight.val().swap_dims(0, 1).into_data().convert::<f32>();
        tensors.insert(format!("{head}.weight"), weight);
        if let Some(bias) = bias {
            tensors.insert(format!("{head}.bias"), bias.val().into_data().convert::<f32>());
        }
    }
    true
}

/// Gives zeros to the maps that have a bias in the model and none in the file.
pub(super) fn biases(renamed: &mut Renamed, config: &ModelConfig, notes: &mut Vec<String>) {
    let attention = config.blocks().first().is_some_and(|b| b.style.qkv_bias == QkvBias::All);
    let patches = config.as_vit().is_none_or(|vit| vit.patch_bias);
    let missing = |name: &String| {
        let map = name.strip_suffix(".weight")?;
        let ends = |ends: &[&str]| ends.iter().any(|end| map.ends_with(end));
        let wanted = ends(&[".attn.proj", ".mlp.fc1", ".mlp.fc1_g", ".mlp.fc1_x", ".mlp.fc2"])
            || (attention && ends(&[".attn.qkv", ".attn.qk", ".attn.v"]))
            || (patches && map == "patch_embed.proj")
            || heads(config).contains(&map);
        let bias = format!("{map}.bias");
        let taken = renamed.tensors.contains_key(&bias) || renamed.is_broken(&bias);
        // Where the other layers have one, a missing one is a mistake.
        let alone = !renamed.tensors.keys().any(|other| {
            let end = bias.rsplit_once("blocks.").map(|(_, rest)| rest.split_once('.'));
            end.flatten().is_some_and(|(_, end)| other.ends_with(end))
        });
        let shape = renamed.tensors[name].shape.to_vec();
        // An empty tensor may claim any number of rows.
        let rows = shape.first().copied().filter(|_| !shape.contains(&0)).unwrap_or(0);
        (wanted && !taken && alone).then_some((bias, rows))
    };
    let missing: Vec<(String, usize)> = renamed.tensors.keys().filter_map(missing).collect();
    if !missing.is_empty() {
        notes.push(format!("{} maps have no bias; they get zeros", missing.len()));
    }
    for (bias, rows) in missing {
        renamed.tensors.insert(bias, TensorData::new(vec![0.0f32; rows], [rows]));
    }
}
