//! The run folder: its files, and checkpoints that a crash cannot break.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use safetensors::{SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spvit_layers::state::StateDict;

use crate::{Phase, RunConfig, TrainError};

/// Checkpoints kept for each phase.
const KEPT: usize = 2;

/// A run's files.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
}

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
}

impl RunFolder {
    /// Opens a new run folder, creating it. One whose run ended before it computed anything is taken
    /// as new.
    ///
    /// # Errors
    /// [`TrainError::Occupied`] if it holds a run.
    pub fn create(root: &Path) -> Result<Self, TrainError> {
        let folder = Self { root: root.to_path_buf() };
        let begun = Phase::ALL.into_iter().any(|phase| folder.begun(phase));
        if folder.config().exists() && begun {
            return Err(TrainError::Occupied { path: root.to_path_buf() });
        }
        let checkpoints = root.join("checkpoints");
        fs::create_dir_all(&checkpoints).map_err(|error| TrainError::io(&checkpoints, error))?;
        Ok(folder)
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    /// [`TrainError::Missing`] if it holds none.
    pub fn open(root: &Path) -> Result<Self, TrainError> {
        let folder = Self { root: root.to_path_buf() };
        match folder.config().exists() {
            true => Ok(folder),
            false => Err(TrainError::Missing {
                path: folder.config(),
                hint: "the folder holds no run; start one with --out".into(),
            }),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration as resolved.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The dense model that pretraining gives.
    pub fn dense(&self) -> PathBuf {
        self.root.join("dense.safetensors")
    }

    /// The searched weights, in search form.
    pub fn searched(&self) -> PathBuf {
        self.root.join("searched.safetensors")
    }

    /// The architecture.
    pub fn architecture(&self) -> PathBuf {
        self.root.join("architecture.json")
    }

    /// The pruned model before fine-tuning.
    pub fn pruned(&self) -> PathBuf {
        self.root.join("pruned.safetensors")
    }

    /// The compact, fine-tuned model.
    pub fn compact(&self) -> PathBuf {
        self.root.join("compact.safetensors")
    }

    /// The figures of the final table.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// One line for each epoch.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// The best weights of a phase so far.
    pub fn best(&self, phase: Phase) -> PathBuf {
        self.root.join("checkpoints").join(format!("{phase}-best.safetensors"))
    }

    /// Appends a line to the metrics; returns their new length.
    ///
    /// # Errors
    /// [`TrainError::Io`] naming the file.
    pub fn append_metrics(&self, line: &str) -> Result<u64, TrainError> {
        let path = self.metrics();
        let append = || -> std::io::Result<u64> {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(format!("{line}\n").as_bytes())?;
            Ok(file.metadata()?.len())
        };
        append().map_err(|error| TrainError::io(&path, error))
    }

    /// Length of the metrics in bytes.
    pub fn metrics_length(&self) -> u64 {
        fs::metadata(self.metrics()).map(|data| data.len()).unwrap_or(0)
    }

    /// Forgets metrics beyond a length: those of steps that will be done again.
    ///
    /// # Errors
    /// [`TrainError::Io`] naming the file.
    pub fn truncate_metrics(&self, length: u64) -> Result<(), TrainError> {
        if self.metrics_length() <= length {
            return Ok(());
        }
        let path = self.metrics();
        let file = fs::OpenOptions::new().write(true).open(&path);
        file.and_then(|file| file.set_len(length)).map_err(|error| TrainError::io(&path, error))
    }

    /// The file that a phase gives in the end.
    pub fn result(&self, phase: Phase) -> PathBuf {
        match phase {
            Phase::Pretrain => self.dense(),
            Phase::Search => self.searched(),
            Phase::Finetune => self.compact(),
        }
    }

    /// Whether a phase has a checkpoint and no result yet.
    pub fn in_progress(&self, phase: Phase) -> bool {
        !self.result(phase).exists() && !self.checkpoints(phase).is_empty()
    }

    /// Whether a phase has a checkpoint or a result.
    pub fn begun(&self, phase: Phase) -> bool {
        self.result(phase).exists() || !self.checkpoints(phase).is_empty()
    }

    /// Keeps other programs out of the folder as long as the file that it returns is open.
    ///
    /// # Errors
    /// [`TrainError::Busy`] if another program has it.
    pub fn lock(&self) -> Result<fs::File, TrainError> {
        let path = self.root.join(".lock");
        let file = fs::File::create(&path).map_err(|error| TrainError::io(&path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(TrainError::Busy { path: self.root.clone() }),
            Err(fs::TryLockError::Error(error)) => Err(TrainError::io(&path, error)),
        }
    }

    fn checkpoints(&self, phase: Phase) -> Vec<PathBuf> {
        let prefix = format!("{phase}-step");
        let entries = fs::read_dir(self.root.join("checkpoints")).into_iter().flatten().flatten();
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
        let path = self.root.join("checkpoints").join(name);
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
            Some(problem) => Err(TrainError::Checkpoints { path: self.root.clone(), problem }),
        }
    }
}

/// Writes the configuration as resolved into the run folder.
///
/// # Errors
/// [`TrainError`] naming the file.
pub fn write_config(folder: &RunFolder, config: &RunConfig) -> Result<(), TrainError> {
    write_atomically(&folder.config(), config.to_toml()?.as_bytes())
}

/// Writes a file whole or not at all ([`spvit_formats::write_whole`]), and its folder if that is not
/// there.
///
/// # Errors
/// [`TrainError::Format`] naming the file, [`TrainError::Io`] naming the folder.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| TrainError::io(parent, error))?;
    }
    Ok(spvit_formats::write_whole(path, |out| out.write_all(bytes))?)
}

fn digest(position: &str, state: &StateDict) -> String {
    let mut hash = Sha256::new();
    hash.update(position);
    for (name, data) in state {
        hash.update(name);
        for size in data.shape.to_vec() {
            hash.update(size.to_le_bytes());
        }
        hash.update(&data.bytes[..]);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
