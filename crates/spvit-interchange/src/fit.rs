//! Weights of one number of classes and one resolution, made to fit another.

use std::path::Path;

use burn::tensor::{TensorData, backend::Backend};
use spvit_layers::{Init, Linear, ModelConfig, state::StateDict};

use crate::{InterchangeError, infer, resize};

/// Resizes the position embedding where its number of tokens differs, as timm does.
///
/// `map` is the map of patches that it was trained on, if that is known; otherwise it must have
/// been a square. What is no position embedding of this width is left for the import to name.
pub(super) fn positions(
    path: &Path,
    tensors: &mut StateDict,
    config: &ModelConfig,
    map: Option<[usize; 2]>,
    notes: &mut Vec<String>,
) -> Result<(), InterchangeError> {
    let Some([1, tokens, dim]) = infer::shape(tensors, "pos_embed") else { return Ok(()) };
    let to = config.map();
    let count: usize = to.iter().product();
    let patches = tokens.saturating_sub(1);
    let map = map.filter(|map| map.iter().product::<usize>() == patches);
    if dim != config.embed_dim() || map.map_or(patches == count, |from| from == to) {
        return Ok(());
    }
    let Some(from) = map.or_else(|| infer::square(patches)) else {
        return Err(InterchangeError::refused(
            path,
            format!(
                "pos_embed has {tokens} tokens, which are no square of patches and a class token; \
                 it can only be used with as many patches as it has (model.image_size, \
                 model.patch_size)"
            ),
        ));
    };
    let Some(data) = tensors.remove("pos_embed") else { return Ok(()) };
    let mut values = data.into_vec::<f32>().unwrap_or_default();
    let resized = resize::resample(&values[dim..], from, to, dim);
    values.truncate(dim);
    values.extend(resized);
    let shape = [1, 1 + count, dim];
    tensors.insert("pos_embed".into(), TensorData::new(values, shape));
    notes.push(format!(
        "the position embedding is resized from {}×{} to {}×{} patches (bicubic)",
        from[0], from[1], to[0], to[1]
    ));
    Ok(())
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
    let found = match (infer::shape(tensors, "head.weight"), tensors.contains_key("head.weight")) {
        (Some([classes, dim]), _) if dim == config.features() && classes != config.classes() => {
            format!("the file has {classes} classes and the model {}", config.classes())
        }
        (None, false) => {
            format!("the file has none, and the model has {} classes", config.classes())
        }
        _ => return false,
    };
    notes.push(format!("the head is new and has to be trained: {found}"));
    let Linear { weight, bias } = Linear::new(config.features(), config.classes(), init);
    let weight = weight.val().swap_dims(0, 1).into_data().convert::<f32>();
    tensors.insert("head.weight".into(), weight);
    if let Some(bias) = bias {
        tensors.insert("head.bias".into(), bias.val().into_data().convert::<f32>());
    }
    true
}
