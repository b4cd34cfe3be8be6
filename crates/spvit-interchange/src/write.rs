//! Models for other programs.

use std::{io::Write, path::Path};

use burn::tensor::{TensorData, backend::Backend};
use spvit_formats::onnx;
use spvit_layers::{
    Vit,
    state::{self, StateDict},
};
use spvit_search::Architecture;

use crate::{Input, InterchangeError, network::network, weights};

/// What a model is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// safetensors: timm's names where timm has the layer, `attn.bconv.0`, `.1`, `.3` for bottleneck
    /// convolutions, the architecture in the metadata. spvit reads it as it is.
    Safetensors,
    /// The same with the published code's `attn.qk` and `attn.v` in place of `attn.qkv`.
    Published,
    /// ONNX, opset 17, in float32 of any number of images.
    Onnx,
    /// The architecture alone, as JSON.
    Architecture,
}

/// Writes a model, whole or not at all; safetensors and ONNX say how images come to it, as far as `input`
/// does.
///
/// # Errors
/// [`InterchangeError`] naming the file.
pub fn write<B: Backend>(
    path: &Path,
    target: Target,
    model: &Vit<B>,
    architecture: &Architecture,
    input: &Input,
) -> Result<(), InterchangeError> {
    let json = || {
        let error = |error| InterchangeError::architecture(path, error);
        architecture.to_json().map_err(error)
    };
    match target {
        Target::Safetensors => weights::write_tensors(path, state::export(model), &json()?, input),
        Target::Published if architecture.blocks.iter().any(|block| !block.heads.is_empty()) => {
            let problem = "the published code has no attention with fewer heads than the dense \
                           model's; write .safetensors or .onnx";
            Err(InterchangeError::refused(path, problem))
        }
        Target::Published => {
            weights::write_tensors(path, split(state::export(model)), &json()?, input)
        }
        Target::Onnx => {
            let metadata = input.metadata();
            write_onnx(path, model, architecture, &onnx::Form { metadata, ..Default::default() })
        }
        Target::Architecture => {
            let json = json()?;
            Ok(spvit_formats::write_whole(path, |out| out.write_all(json.as_bytes()))?)
        }
    }
}

/// Writes a model as ONNX in this form, whole or not at all.
///
/// # Errors
/// [`InterchangeError`] naming the file.
pub fn write_onnx<B: Backend>(
    path: &Path,
    model: &Vit<B>,
    architecture: &Architecture,
    form: &onnx::Form,
) -> Result<(), InterchangeError> {
    let tensors = weights::to_host(state::export(model));
    Ok(onnx::write(path, &network(architecture), &tensors, form)?)
}

/// The rows of Q and K, and those of V, as maps of their own.
fn split(state: StateDict) -> StateDict {
    let mut out = StateDict::new();
    for (name, data) in state {
        let Some((layer, kind)) = name.split_once(".qkv.") else {
            out.insert(name, data);
            continue;
        };
        let mut shape = data.shape.to_vec();
        let rows = shape.first().map_or(0, |rows| rows / 3);
        let mut qk = data.into_vec::<f32>().unwrap_or_default();
        let v = qk.split_off(qk.len() / 3 * 2);
        for (part, values, rows) in [("qk", qk, 2 * rows), ("v", v, rows)] {
            shape[0] = rows;
            out.insert(format!("{layer}.{part}.{kind}"), TensorData::new(values, shape.clone()));
        }
    }
    out
}
