//! The configuration beside a file: `config.json` of Hugging Face's transformers or of timm's hub.

use std::path::Path;

use serde_json::Value;

use super::{
    timm,
    told::{Pool, Told, activation},
};
use crate::{InterchangeError, input::Input};

/// What the `config.json` in the file's folder tells, and `preprocessor_config.json` beside it; `None`
/// where there is none of either program's.
///
/// # Errors
/// The configuration cannot be read, or is of a model that spvit does not read.
pub(crate) fn beside(file: &Path) -> Result<Option<Told>, InterchangeError> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let Some((path, json)) = load(&folder.join("config.json"))? else { return Ok(None) };
    let refused = |problem| InterchangeError::refused(&path, problem);
    let Some(mut told) = parse(&json).map_err(refused)? else { return Ok(None) };
    if let Some((_, json)) = load(&folder.join("preprocessor_config.json"))? {
        told.input = told.input.over(Input::of_hugging_face(&json));
    }
    Ok(Some(told))
}

fn load(path: &Path) -> Result<Option<(std::path::PathBuf, Value)>, InterchangeError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(InterchangeError::io(path, error)),
    };
    // Some editors put a mark of the byte order first, which JSON does not have.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let json = serde_json::from_slice(text)
        .map_err(|error| InterchangeError::refused(path, format!("is no JSON ({error})")))?;
    Ok(Some((path.to_path_buf(), json)))
}

/// What a configuration tells; `None` where it is neither program's.
///
/// # Errors
/// It is of a model, or has an argument, that spvit does not know.
pub(super) fn parse(json: &Value) -> Result<Option<Told>, String> {
    let architecture = json["architecture"].as_str();
    match (architecture.or(json["pretrained_cfg"]["architecture"].as_str()), json.get("model_type"))
    {
        (Some(architecture), _) => of_timm(architecture, json).map(Some),
        (None, Some(Value::String(kind))) => of_hugging_face(kind, json).map(Some),
        _ => Ok(None),
    }
}

/// One number for both sides, or one for each.
fn sides(value: &Value) -> Option<[usize; 2]> {
    if let Some(side) = number(value) {
        return Some([side; 2]);
    }
    match *numbers(value)?.as_slice() {
        [side] => Some([side; 2]),
        [height, width] => Some([height, width]),
        _ => None,
    }
}

fn number(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

/// A number, or several.
fn numbers(value: &Value) -> Option<Vec<usize>> {
    match value {
        Value::Array(values) => values.iter().map(number).collect(),
        value => number(value).map(|number| vec![number]),
    }
}

/// Arguments of timm's models that change no logit, or that the tensors show.
const SEEN: [&str; 22] = [
    "num_classes",
    "in_chans",
    "depth",
    "depths",
    "embed_dim",
    "patch_size",
    "mlp_ratio",
    "qkv_bias",
    "init_values",
    "class_token",
    "reg_tokens",
    "num_reg_tokens",
    "fc_norm",
    "use_fc_norm",
    "drop_rate",
    "drop_path_rate",
    "attn_drop_rate",
    "proj_drop_rate",
    "num_kv_heads",
    "rel_pos_dim",
    "dynamic_img_size",
    "strict_img_size",
];

/// `{"architecture": "vit_base_patch16_224", "model_args": {..}, "pretrained_cfg": {..}}`, the
/// latter flat in old files.
fn of_timm(architecture: &str, json: &Value) -> Result<Told, String> {
    let Some(mut told) = timm::named(architecture) else {
        return Err(format!(
            "its architecture is '{architecture}', which is none of timm's vision transformers that \
             spvit knows"
        ));
    };
    let pretrained = match &json["pretrained_cfg"] {
        Value::Null => json,
        value => value,
    };
    let input = numbers(&pretrained["input_size"]);
    if let Some(&[_, height, width]) = input.as_deref() {
        told.image_size = told.image_size.or(Some([height, width]));
    }
    let names = json["label_names"].as_array();
    let names = names.into_iter().flatten().map(|name| name.as_str().unwrap_or_default().into());
    told.input = Input::of_timm(pretrained, names.collect());
    let mut pool = json["global_pool"].as_str().map(str::to_string);
    let empty = serde_json::Map::new();
    for (key, value) in json["model_args"].as_object().unwrap_or(&empty) {
        match key.as_str() {
            "num_heads" => told.heads = numbers(value),
            "attn_pool_num_heads" => told.pool_heads = number(value),
            "img_size" => told.image_size = sides(value),
            "window_size" => told.windows = numbers(value),
            "global_pool" => pool = value.as_str().map(str::to_string),
            "act_layer" => {
                let name = value.as_str().unwrap_or_default();
                told.activation = Some(activation(name).map_err(|_| name.to_string()));
            }
            "final_norm" => told.final_norm = value.as_bool(),
            "pretrained_window_sizes" => {}
            key if SEEN.contains(&key) => {}
            key => {
                return Err(format!("model_args has '{key}', which spvit does not know"));
            }
        }
        if key == "embed_dim" {
            told.dim = number(value);
        }
    }
    // What pools over prefix tokens says so in its own arguments, not in this one.
    let same = |pool: &str| match told.pool {
        Some(Pool::AverageWithPrefix) => pool == "avg",
        Some(Pool::AttentionWithPrefix) => pool == "map",
        _ => false,
    };
    if let Some(pool) = pool.filter(|pool| !same(pool)) {
        told.pool = Some(pool.parse().map_err(|_| format!("global_pool is '{pool}'"))?);
    }
    Ok(told)
}

/// Model type, ε, activation, heads and side of an image where they are left out.
type Defaults = (&'static str, f64, &'static str, usize, usize);

const HUGGING_FACE: [Defaults; 11] = [
    ("vit", 1e-12, "gelu", 12, 224),
    ("vit_msn", 1e-6, "gelu", 12, 224),
    ("deit", 1e-12, "gelu", 12, 224),
    ("dinov2", 1e-6, "gelu", 12, 224),
    ("dinov2_with_registers", 1e-6, "gelu", 12, 224),
    ("beit", 1e-12, "gelu", 12, 224),
    ("swin", 1e-5, "gelu", 0, 224),
    ("clip", 1e-5, "quick_gelu", 12, 224),
    ("clip_vision_model", 1e-5, "quick_gelu", 12, 224),
    ("siglip", 1e-6, "gelu_pytorch_tanh", 12, 224),
    ("siglip_vision_model", 1e-6, "gelu_pytorch_tanh", 12, 224),
];

fn of_hugging_face(kind: &str, json: &Value) -> Result<Told, String> {
    let defaults = HUGGING_FACE.iter().find(|(known, ..)| *known == kind);
    let Some(&(_, epsilon, usual, heads, side)) = defaults else {
        let known: Vec<_> = HUGGING_FACE.iter().map(|(known, ..)| *known).collect();
        return Err(format!(
            "its model_type is '{kind}', which spvit does not read; it reads {}",
            known.join(", ")
        ));
    };
    let tower = json.get("vision_config").unwrap_or(json);
    let class = json["architectures"][0].as_str().unwrap_or_default();
    let classifier = class.ends_with("ForImageClassification");
    // CLIP's classifier takes the tokens of the last block as they are.
    let normed = !(classifier && ["clip", "clip_vision_model"].contains(&kind));
    let pool = match kind {
        "swin" => Pool::Average,
        "beit" if json["use_mean_pooling"].as_bool() == Some(false) => Pool::Token,
        "beit" => Pool::Average,
        "dinov2" | "dinov2_with_registers" => Pool::TokenAndAverage,
        "clip" | "clip_vision_model" if classifier => Pool::Average,
        "siglip" | "siglip_vision_model" if classifier => Pool::Average,
        "siglip" | "siglip_vision_model" => Pool::Attention,
        _ => Pool::Token,
    };
    let name = tower["hidden_act"].as_str().unwrap_or(usual);
    let staged = kind == "swin";
    let told = Told {
        dim: number(&tower[if staged { "embed_dim" } else { "hidden_size" }]),
        heads: match staged {
            true => numbers(&tower["num_heads"]),
            false => Some(vec![number(&tower["num_attention_heads"]).unwrap_or(heads)]),
        },
        image_size: Some(sides(&tower["image_size"]).unwrap_or([side; 2])),
        windows: numbers(&tower["window_size"]),
        pool: Some(pool),
        pool_heads: None,
        activation: Some(activation(name).map_err(|_| name.to_string())),
        epsilon: Some(tower["layer_norm_eps"].as_f64().unwrap_or(epsilon)),
        post_norm: Some(false),
        final_norm: Some(normed),
        rope: Some(None),
        prefix_tokens: None,
        input: Input { class_names: class_names(json), ..Input::default() },
    };
    Ok(told)
}

/// The names of `id2label`, unless they are its own (`LABEL_0`).
fn class_names(json: &Value) -> Vec<String> {
    let Some(labels) = json["id2label"].as_object() else { return Vec::new() };
    let name = |id: usize| labels.get(&id.to_string())?.as_str().map(str::to_string);
    let names: Option<Vec<String>> = (0..labels.len()).map(name).collect();
    let names = names.unwrap_or_default();
    match names.iter().all(|name| name.starts_with("LABEL_")) {
        true => Vec::new(),
        false => names,
    }
}
