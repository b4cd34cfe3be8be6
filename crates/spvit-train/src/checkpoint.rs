//! Checkpoints: where a phase stands, in files that a crash cannot break.

use std::{
    fs,
    path::{Path, PathBuf},
};

use safetensors::{SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use spvit_layers::state::StateDict;

use crate::{
    Origin, Phase, RunFolder, TrainError,
    folder::{digest, write_atomically},
};

/// Checkpoints kept for each phase.
const KEPT: usize = 2;

/// Where a phase stands; with the tensors beside it, everything that a resumed run needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Steps done in the phase.
    pub step: usize,
    /// Current epoch, from 0.
    pub epoch: usize,
    /// Steps done in the current epoch.
    pub batch: usize,
    /// Sum of the losses of the current epoch's images.
    pub loss_sum: f64,
    /// Images of the current epoch that were classified rightly.
    pub correct: usize,
    /// Images of the current epoch so far.
    pub images: usize,
    /// Validation accuracy of the best epoch, if one has ended.
    pub best: Option<f64>,
    /// Length of `metrics.jsonl` in bytes.
    pub metrics_length: u64,
    /// Steps of the phase's optimisers.
    pub optimiser_steps: i32,
    /// What it is computed with. Versions that did not record it leave none.
    #[serde(default)]
    pub origin: Option<Origin>,
}

impl RunFolder {
    pub(crate) fn checkpoints(&self, phase: Phase) -> Vec<PathBuf> {
        let prefix = format!("{phase}-step");
        let entries = fs::read_dir(self.root().join("checkpoints")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with(&prefix) && name.ends_with(".safetensors")
            })
            .collect();
        paths.sort();
        paths
    }

    /// Writes a checkpoint, then removes all but the last two of its phase.
    ///
    /// # Errors
    /// [`TrainError::Io`] naming the file.
    pub fn write_checkpoint(
        &self,
        phase: Phase,
        position: &Position,
        state: &StateDict,
    ) -> Result<(), TrainError> {
        let name = format!("{phase}-step{:010}.safetensors", position.step);
        let path = self.root().join("checkpoints").join(name);
        write_atomically(&path, &encode(&path, position, state)?)?;
        let all = self.checkpoints(phase);
        for old in &all[..all.len().saturating_sub(KEPT)] {
            // A leftover does no harm; the next checkpoint tries again.
            let _ = fs::remove_file(old);
        }
        Ok(())
    }

    /// Removes a phase's checkpoints, once its result is written.
    pub fn remove_checkpoints(&self, phase: Phase) {
        for path in self.checkpoints(phase) {
            let _ = fs::remove_file(path);
        }
    }

    /// The last readable checkpoint of a phase, and a note on each broken one. `None` if the phase
    /// has none.
    ///
    /// # Errors
    /// [`TrainError::Checkpoints`] if all are broken.
    pub fn read_checkpoint(
        &self,
        phase: Phase,
    ) -> Result<Option<(Position, StateDict, Vec<String>)>, TrainError> {
        let mut notes = Vec::new();
        for path in self.checkpoints(phase).iter().rev() {
            match fs::read(path).map_err(|error| error.to_string()).and_then(|bytes| decode(&bytes))
            {
                Ok((position, state)) => return Ok(Some((position, state, notes))),
                Err(problem) => notes.push(format!("{} is broken ({problem})", path.display())),
            }
        }
        match notes.pop() {
            None => Ok(None),
            Some(problem) => {
                let path = self.root().to_path_buf();
                Err(TrainError::Checkpoints { path, phase, problem })
            }
        }
    }
}

fn encode(path: &Path, position: &Position, state: &StateDict) -> Result<Vec<u8>, TrainError> {
    let failed = |problem: String| TrainError::io(path, std::io::Error::other(problem));
    let position = serde_json::to_string(position).map_err(|error| failed(error.to_string()))?;
    let digest = digest(&position, state);
    let views: Result<Vec<_>, _> = state
        .iter()
        .map(|(name, data)| {
            TensorView::new(safetensors::Dtype::F32, data.shape.to_vec(), &data.bytes)
                .map(|view| (name.clone(), view))
        })
        .collect();
    let views = views.map_err(|error| failed(error.to_string()))?;
    let metadata = [("position".to_string(), position), ("sha256".to_string(), digest)];
    safetensors::serialize(views, Some(metadata.into())).map_err(|error| failed(error.to_string()))
}

fn decode(bytes: &[u8]) -> Result<(Position, StateDict), String> {
    let text = |error: safetensors::SafeTensorError| error.to_string();
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(text)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(text)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let field = |name: &str| metadata.get(name).ok_or(format!("no {name} in its header"));
    let state: StateDict = tensors
        .iter()
        .map(|(name, view)| {
            let values: Vec<f32> = view
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            (name.to_string(), burn::tensor::TensorData::new(values, view.shape().to_vec()))
        })
        .collect();
    let position = field("position")?;
    if digest(position, &state) != *field("sha256")? {
        return Err("its checksum does not match".into());
    }
    let position = serde_json::from_str(position).map_err(|error| error.to_string())?;
    Ok((position, state))
}
