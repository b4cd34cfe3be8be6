//! Results in a run folder: safetensors files with what they were computed with and a checksum.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use burn::tensor::backend::Backend;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use spvit_core::FusedOps;
use spvit_interchange::{INPUT, Input, memory, weights};
use spvit_layers::{
    Init, Vit,
    state::{self, StateDict},
};
use spvit_search::Architecture;

use crate::{Origin, TrainError, folder::digest};

const ORIGIN: &str = "spvit.origin";
const CHECKSUM: &str = "spvit.sha256";
/// Longest header that is looked at: a thousand times that of a DeiT.
const LONGEST_HEADER: u64 = 64 << 20;

/// What a result says about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    /// What it was computed with. Versions that did not record it leave none.
    pub origin: Option<Origin>,
    /// Checksum of its tensors and of all that it says.
    pub checksum: Option<String>,
    /// Its architecture, as JSON.
    pub architecture: Option<String>,
}

/// A result as read.
pub(crate) struct ResultFile {
    pub tensors: StateDict,
    pub architecture: Option<Architecture>,
    pub checksum: Option<String>,
}

fn text(metadata: &BTreeMap<String, String>) -> String {
    let parts = metadata.iter().filter(|(key, _)| key.as_str() != CHECKSUM);
    parts.map(|(key, value)| format!("{key}={value}\n")).collect()
}

/// Writes tensors, whole or not at all, as other programs read them.
pub(crate) fn write(
    path: &Path,
    tensors: StateDict,
    model: Option<(&Architecture, &Input)>,
    origin: &Origin,
) -> Result<(), TrainError> {
    // Hugging Face's and timm's loaders ask for the format.
    let mut metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    if let Some((architecture, input)) = model {
        let json = architecture
            .to_json()
            .map_err(|error| TrainError::Architecture { path: path.to_path_buf(), error })?;
        metadata.insert(weights::ARCHITECTURE.to_string(), json);
        let json = serde_json::to_string(input).map_err(|e| TrainError::io(path, e.into()))?;
        metadata.insert(INPUT.to_string(), json);
    }
    let json = serde_json::to_string(origin).map_err(|e| TrainError::io(path, e.into()))?;
    metadata.insert(ORIGIN.to_string(), json);
    let checksum = digest(&text(&metadata), &tensors);
    metadata.insert(CHECKSUM.to_string(), checksum);
    Ok(spvit_formats::write_safetensors(path, &weights::to_host(tensors), &metadata)?)
}

/// Reads a result and holds it against its checksum, if it has one. `again` says how to get it again.
pub(crate) fn read(path: &Path, again: &str) -> Result<ResultFile, TrainError> {
    let broken = |problem: String| TrainError::Broken {
        path: path.to_path_buf(),
        problem,
        remedy: again.to_string(),
    };
    if !path.exists() {
        return Err(broken("it is not there".into()));
    }
    let file = spvit_formats::read(path).map_err(|error| match error {
        spvit_formats::FormatError::Io { .. } => error.into(),
        error => broken(error.to_string()),
    })?;
    let tensors = weights::from_host(file.tensors);
    let checksum = file.metadata.get(CHECKSUM).cloned();
    if checksum.as_ref().is_some_and(|stored| *stored != digest(&text(&file.metadata), &tensors)) {
        return Err(broken("its checksum does not match".into()));
    }
    let architecture = file.metadata.get(weights::ARCHITECTURE).map(|json| {
        Architecture::from_json(json)
            .map_err(|error| TrainError::Architecture { path: path.to_path_buf(), error })
    });
    Ok(ResultFile { tensors, architecture: architecture.transpose()?, checksum })
}

/// What a result says about itself, without its tensors. A file that is no safetensors file says
/// nothing; reading it will say why.
pub(crate) fn about(path: &Path) -> About {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__", default)]
        metadata: BTreeMap<String, String>,
    }
    let header = || -> Option<Header> {
        let mut file = File::open(path).ok()?;
        let mut length = [0; 8];
        file.read_exact(&mut length).ok()?;
        let length = u64::from_le_bytes(length);
        let mut header = Vec::new();
        file.take(length.min(LONGEST_HEADER)).read_to_end(&mut header).ok()?;
        serde_json::from_slice(&header).ok()
    };
    let Some(Header { metadata }) = header() else { return About::default() };
    About {
        origin: metadata.get(ORIGIN).and_then(|json| serde_json::from_str(json).ok()),
        checksum: metadata.get(CHECKSUM).cloned(),
        architecture: metadata.get(weights::ARCHITECTURE).cloned(),
    }
}

/// SHA-256 of a file's bytes in lower-case hexadecimal; `None` if it cannot be read, which whoever
/// needs it will say.
pub(crate) fn file_digest(path: &Path) -> Option<String> {
    // A pipe would wait for a writer.
    let mut file =
        path.metadata().ok().filter(|data| data.is_file()).and_then(|_| File::open(path).ok())?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A compact model of the run's shape.
pub(crate) fn read_model<B: FusedOps + Backend>(
    path: &Path,
    again: &str,
    shape: &spvit_layers::ModelConfig,
    device: &B::Device,
) -> Result<(Vit<B>, Architecture, Option<String>), TrainError> {
    let ResultFile { tensors, architecture, checksum } = read(path, again)?;
    let broken = |problem: String| TrainError::Broken {
        path: path.to_path_buf(),
        problem,
        remedy: again.to_string(),
    };
    let architecture = architecture.ok_or_else(|| {
        broken("it has no architecture in its metadata, so that it is no model of spvit".into())
    })?;
    if let Some(difference) = difference(shape, &architecture.model) {
        return Err(broken(format!("it is a model of another run: {difference}")));
    }
    if let Err(problem) = memory::check_architecture(&architecture) {
        return Err(broken(problem));
    }
    let fresh = Vit::new(shape, &architecture.block_configs(), &mut Init::new(0, device));
    let model = state::import_owned(fresh, tensors).map_err(|error| TrainError::State {
        path: path.to_path_buf(),
        error,
        hint: format!("; {again}"),
    })?;
    Ok((model, architecture, checksum))
}

/// The first value in which two shapes differ, as a sentence.
pub(crate) fn difference<T: serde::Serialize>(ours: &T, theirs: &T) -> Option<String> {
    let [ours, theirs] = [ours, theirs].map(|shape| serde_json::to_value(shape).ok());
    let (ours, theirs) = (ours?, theirs?);
    let keys = ours.as_object()?.iter();
    let mut differing = keys.filter(|(key, value)| theirs.get(key.as_str()) != Some(value));
    let (key, value) = differing.next()?;
    let found = theirs.get(key.as_str()).unwrap_or(&serde_json::Value::Null);
    Some(format!("its model.{key} is {found}, the run's is {value}"))
}
