//! Models for other programs.

use std::{io::Write, path::Path};

use burn::tensor::{TensorData, backend::Backend};
use spvit_formats::{
    HostTensor,
    onnx::{self, BlockDescription, NetworkDescription},
};
use spvit_layers::{
    BATCH_NORM_EPSILON, Operation, Vit,
    state::{self, StateDict},
};
use spvit_search::Architecture;

use crate::{InterchangeError, asked, weights};

/// What a model is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// safetensors: timm's names where timm has the layer, `attn.bconv.0`, `.1`, `.3` for bottleneck
    /// convolutions, the architecture in the metadata. spvit reads it as it is.
    Safetensors,
    /// The same with the published code's `attn.qk` and `attn.v` in place of `attn.qkv`.
    Published,
    /// ONNX, opset 17.
    Onnx,
    /// The architecture alone, as JSON.
    Architecture,
}

/// Writes a model, whole or not at all.
///
/// # Errors
/// [`InterchangeError`] naming the file.
pub fn write<B: Backend>(
    path: &Path,
    target: Target,
    model: &Vit<B>,
    architecture: &Architecture,
) -> Result<(), InterchangeError> {
    let json = || {
        let error = |error| InterchangeError::architecture(path, error);
        architecture.to_json().map_err(error)
    };
    match target {
        Target::Safetensors => weights::write_tensors(path, state::export(model), &json()?),
        Target::Published => weights::write_tensors(path, split(state::export(model)), &json()?),
        Target::Onnx => {
            if let Some(problem) = asked::beyond_deit(&architecture.model) {
                return Err(InterchangeError::refused(path, problem));
            }
            let mut tensors = weights::to_host(state::export(model));
            add_biases(&mut tensors);
            Ok(onnx::write(path, &network(architecture), &tensors)?)
        }
        Target::Architecture => {
            let json = json()?;
            Ok(spvit_formats::write_whole(path, |out| out.write_all(json.as_bytes()))?)
        }
    }
}

/// Zeros for the maps that have no bias, which the graph adds.
fn add_biases(tensors: &mut spvit_formats::StateDict) {
    let maps = tensors.iter().filter_map(|(name, tensor)| {
        let map = name.strip_suffix(".weight")?;
        let rows = tensor.shape.first().copied()?;
        let wanted = map.ends_with(".attn.qkv") || map == "patch_embed.proj";
        wanted.then(|| {
            (format!("{map}.bias"), HostTensor { shape: vec![rows], data: vec![0.0; rows] })
        })
    });
    for (name, zeros) in maps.collect::<Vec<_>>() {
        tensors.entry(name).or_insert(zeros);
    }
}

/// A compact model's forward, as the ONNX writer takes it.
pub fn network(architecture: &Architecture) -> NetworkDescription {
    let config = &architecture.model;
    let block = |block: spvit_layers::BlockConfig| BlockDescription {
        operation: match block.operation {
            Operation::Shortcut => onnx::Operation::Shortcut,
            Operation::BConv(kernel) => onnx::Operation::BConv { kernel },
            Operation::Msa => onnx::Operation::Msa,
        },
        hidden: block.hidden,
    };
    let first = config.blocks().into_iter().next();
    NetworkDescription {
        image_size: config.image_size(),
        patch_size: config.patch_size(),
        in_chans: config.channels(),
        num_classes: config.classes(),
        embed_dim: config.embed_dim(),
        num_heads: first.map_or(1, |block| block.heads),
        layer_norm_eps: config.layer_norm_epsilon(),
        bn_eps: BATCH_NORM_EPSILON,
        blocks: architecture.block_configs().into_iter().map(block).collect(),
        shortcut_adds_norm1: first.is_some_and(|block| block.style.shortcut_adds_norm),
    }
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
