//! Models in the files of a run. Files of other programs: [`read`](crate::read).

use std::{collections::BTreeMap, path::Path};

use burn::tensor::TensorData;
use spvit_core::FusedOps;
use spvit_formats::HostTensor;
use spvit_layers::{
    Init, ModelConfig, SearchVit, Vit,
    state::{self, Named, StateDict},
};
use spvit_search::Architecture;

use crate::{INPUT, Input, InterchangeError, memory};

/// Key of the architecture in a file's metadata.
pub const ARCHITECTURE: &str = "spvit.architecture";

/// Host tensors of the files' crate.
pub fn to_host(state: StateDict) -> spvit_formats::StateDict {
    let convert = |data: TensorData| {
        let shape = data.shape.to_vec();
        // Exported tensors are f32, so that this moves them and cannot fail.
        HostTensor { shape, data: data.convert::<f32>().into_vec().unwrap_or_default() }
    };
    state.into_iter().map(|(name, data)| (name, convert(data))).collect()
}

/// Tensor data of host tensors.
pub fn from_host(state: spvit_formats::StateDict) -> StateDict {
    state
        .into_iter()
        .map(|(name, tensor)| (name, TensorData::new(tensor.data, tensor.shape)))
        .collect()
}

/// Writes a model with its architecture, whole or not at all.
///
/// # Errors
/// [`InterchangeError::Format`] naming the file.
pub fn write_model<B: FusedOps, M: Named<B>>(
    path: &Path,
    model: &M,
    architecture: &Architecture,
) -> Result<(), InterchangeError> {
    let json =
        architecture.to_json().map_err(|error| InterchangeError::architecture(path, error))?;
    write_tensors(path, state::export(model), &json, &Input::default())
}

/// Writes named tensors with an architecture's JSON beside them.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: StateDict,
    json: &str,
    input: &Input,
) -> Result<(), InterchangeError> {
    // Hugging Face's and timm's loaders ask for the format.
    let format = ("format".to_string(), "pt".to_string());
    let mut metadata = BTreeMap::from([format, (ARCHITECTURE.to_string(), json.to_string())]);
    if *input != Input::default() {
        metadata.insert(INPUT.to_string(), input.to_json());
    }
    Ok(spvit_formats::write_safetensors(path, &to_host(tensors), &metadata)?)
}

/// Reads a compact or dense model that [`write_model`] wrote.
///
/// # Errors
/// [`InterchangeError`] naming the file: it cannot be read, has no architecture, or does not fit it.
pub fn read_model<B: FusedOps>(
    path: &Path,
    device: &B::Device,
) -> Result<(Vit<B>, Architecture), InterchangeError> {
    let checkpoint = spvit_formats::read(path)?;
    let Some(json) = checkpoint.metadata.get(ARCHITECTURE) else {
        let problem = "the file has no architecture in its metadata; give a model that spvit wrote";
        return Err(InterchangeError::refused(path, problem));
    };
    let architecture = Architecture::from_json(json)
        .map_err(|error| InterchangeError::architecture(path, error))?;
    memory::check_architecture(&architecture)
        .map_err(|problem| InterchangeError::refused(path, problem))?;
    let model =
        Vit::new(&architecture.model, &architecture.block_configs(), &mut Init::new(0, device));
    let model = load(model, from_host(checkpoint.tensors), path)?;
    Ok((model, architecture))
}

/// Reads an architecture file.
///
/// # Errors
/// [`InterchangeError`] naming the file, and the block and field if one is wrong.
pub fn read_architecture(path: &Path) -> Result<Architecture, InterchangeError> {
    let text = std::fs::read_to_string(path).map_err(|error| InterchangeError::io(path, error))?;
    // Some editors put a mark of the byte order first, which JSON does not have.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Architecture::from_json(text).map_err(|error| InterchangeError::architecture(path, error))
}

/// A search model of this shape with these weights, which `path` names in errors.
///
/// # Errors
/// [`InterchangeError::State`] naming every tensor that does not fit.
pub fn import_search<B: FusedOps>(
    tensors: StateDict,
    config: &ModelConfig,
    path: &Path,
    device: &B::Device,
) -> Result<SearchVit<B>, InterchangeError> {
    memory::check(config).map_err(|problem| InterchangeError::refused(path, problem))?;
    load(SearchVit::new(config, &mut Init::new(0, device)), tensors, path)
}

fn load<B: FusedOps, M: Named<B>>(
    model: M,
    state: StateDict,
    path: &Path,
) -> Result<M, InterchangeError> {
    let hint = String::new();
    state::import_owned(model, state).map_err(|error| InterchangeError::State {
        path: path.to_path_buf(),
        error,
        hint,
    })
}
