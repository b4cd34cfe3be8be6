//! The run folder and its files.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use spvit_layers::state::StateDict;

use crate::{Phase, RunConfig, TrainError, config::DenseConfig};

/// A run's files.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
}

/// A part of a run that can be done anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    Pretrain,
    /// The dense model's new head and what follows it.
    Transfer,
    /// The search and what follows it.
    Search,
    /// The architecture and what follows it.
    Prune,
    /// Fine-tuning.
    Finetune,
}

impl RunFolder {
    /// Opens a new run folder, creating it. One whose run ended before it computed anything is taken
    /// as new.
    ///
    /// # Errors
    /// [`TrainError::Occupied`] if it holds a run.
    pub fn create(root: &Path) -> Result<Self, TrainError> {
        let folder = Self { root: root.to_path_buf() };
        // Also where its config.toml is gone: another one must not go on from old results.
        let begun = |folder: &Self| {
            Phase::ALL.into_iter().any(|phase| folder.begun(phase)) || folder.pruned().exists()
        };
        if begun(&folder) || folder.parts().iter().any(begun) {
            return Err(TrainError::Occupied { path: root.to_path_buf() });
        }
        if let Ok(to) = root.read_link()
            && !root.exists()
        {
            let problem = format!("is a link to {}, which is not there", to.display());
            return Err(TrainError::io(root, std::io::Error::new(ErrorKind::NotFound, problem)));
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
        let begun = || Phase::ALL.into_iter().any(|phase| folder.begun(phase));
        let config = folder.config();
        let there = config.try_exists().map_err(|error| TrainError::io(&config, error))?;
        let hint = match there {
            true => {
                // Somebody may have removed it, as it is empty after a run.
                let _ = fs::create_dir(root.join("checkpoints"));
                return Ok(folder);
            }
            false if begun() => {
                "the folder holds the results of a run; put its configuration back, whose values are \
                 held against the results"
            }
            false => "the folder holds no run; start one with --out",
        };
        Err(TrainError::Missing { path: config, hint: hint.into() })
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

    /// The dense model that a search in this folder starts from.
    pub fn dense_of(&self, DenseConfig { weights, transfer }: &DenseConfig) -> PathBuf {
        match (transfer, weights.as_os_str().is_empty()) {
            (true, _) => self.transferred(),
            (false, true) => self.dense(),
            (false, false) => weights.clone(),
        }
    }

    /// The dense model with a new head that transfer gives.
    pub fn transferred(&self) -> PathBuf {
        self.root.join("transferred.safetensors")
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

    /// What the model's parts take, where a budget is one of time.
    pub fn latency(&self) -> PathBuf {
        self.root.join("latency.json")
    }

    /// One line for each epoch.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// Where the runs of several budgets are.
    pub fn budgets(&self) -> PathBuf {
        self.root.join("budgets")
    }

    /// The run of a budget of this name, which need not be there.
    pub fn budget(&self, name: &str) -> Self {
        Self { root: self.budgets().join(name) }
    }

    /// The runs of budgets that are there, in the order of their names.
    pub fn parts(&self) -> Vec<Self> {
        let entries = fs::read_dir(self.budgets()).into_iter().flatten().flatten();
        let mut parts: Vec<Self> = entries
            .map(|entry| Self { root: entry.path() })
            .filter(|part| part.config().exists())
            .collect();
        parts.sort_by(|a, b| a.root.cmp(&b.root));
        parts
    }

    /// This folder, made if it is not there.
    pub(crate) fn begun_or_new(self) -> Result<Self, TrainError> {
        match self.config().exists() {
            true => Self::open(&self.root),
            false => Self::create(&self.root),
        }
    }

    /// One line for the gates where they begin, and one for each epoch of the search.
    pub fn gates(&self) -> PathBuf {
        self.root.join("gates.jsonl")
    }

    /// What the models make of the test images, class by class.
    pub fn evaluation(&self) -> PathBuf {
        self.root.join("evaluation.json")
    }

    /// The page that shows the run.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// The best weights of a phase so far.
    pub fn best(&self, phase: Phase) -> PathBuf {
        self.root.join("checkpoints").join(format!("{phase}-best.safetensors"))
    }

    /// The file that a phase gives in the end.
    pub fn result(&self, phase: Phase) -> PathBuf {
        match phase {
            Phase::Pretrain => self.dense(),
            Phase::Transfer => self.transferred(),
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

    /// Removes the results and checkpoints of a part of the run and of all that was computed from
    /// them, the last first, so that it is done anew.
    ///
    /// # Errors
    /// [`TrainError::Io`] naming the file that cannot be removed.
    pub fn begin_anew(&self, part: Part) -> Result<(), TrainError> {
        self.parts().iter().try_for_each(|budget| budget.begin_anew(part))?;
        let phases: &[Phase] = match part {
            Part::Pretrain => &Phase::ALL,
            Part::Transfer => &[Phase::Transfer, Phase::Search, Phase::Finetune],
            Part::Search => &[Phase::Search, Phase::Finetune],
            Part::Prune | Part::Finetune => &[Phase::Finetune],
        };
        let mut files = vec![self.report(), self.summary(), self.evaluation()];
        if phases.contains(&Phase::Search) {
            files.push(self.gates());
        }
        for &phase in phases.iter().rev() {
            files.push(self.result(phase));
            files.extend(self.checkpoints(phase).into_iter().rev());
            files.push(self.best(phase));
            if phase == Phase::Finetune && part != Part::Finetune {
                files.extend([self.pruned(), self.architecture()]);
            }
        }
        if phases.contains(&Phase::Search) {
            files.push(self.latency());
        }
        for path in files {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(TrainError::io(&path, error));
                }
                _ => {}
            }
        }
        self.forget_metrics(phases)
    }

    /// Removes what killed programs left: temporary files, and checkpoints of phases whose result is
    /// there. To be called by whoever holds the lock.
    pub fn tidy(&self) {
        for folder in [self.root.clone(), self.root.join("checkpoints")] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let (begin, end) = spvit_formats::TEMPORARY;
                // Earlier versions' are `.tmp` and six characters.
                let temporary = (name.starts_with(begin) && name.ends_with(end))
                    || (name.starts_with(".tmp") && name.len() == 10);
                if temporary {
                    // A leftover does no harm.
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        for phase in Phase::ALL.into_iter().filter(|&phase| self.result(phase).exists()) {
            self.remove_checkpoints(phase);
            let _ = fs::remove_file(self.best(phase));
        }
    }

    /// Keeps other programs out of the folder as long as what it returns lives.
    ///
    /// # Errors
    /// [`TrainError::Busy`] if another program has it.
    pub fn lock(&self) -> Result<Lock, TrainError> {
        let path = self.root.join(".lock");
        let file = fs::File::create(&path).map_err(|error| TrainError::io(&path, error))?;
        let note = match file.try_lock() {
            Ok(()) => None,
            Err(fs::TryLockError::WouldBlock) => {
                return Err(TrainError::Busy { path: self.root.clone() });
            }
            // Network file systems without a lock service.
            Err(fs::TryLockError::Error(error)) => Some(format!(
                "{} cannot be locked ({error}): see that no other spvit works in it",
                self.root.display()
            )),
        };
        Ok(Lock { note, _file: file })
    }
}

/// Keeps other programs out of a run folder.
#[derive(Debug)]
pub struct Lock {
    /// Why it does not, if the file system cannot.
    pub note: Option<String>,
    _file: fs::File,
}

/// Writes the configuration as resolved into the run folder.
///
/// # Errors
/// [`TrainError`] naming the file.
pub fn write_config(folder: &RunFolder, config: &RunConfig) -> Result<(), TrainError> {
    write_config_from(folder, config, &BTreeMap::new())
}

/// [`write_config`] with a remark after every value that has a source. A file that holds the same
/// values stays as it is, with its remarks.
///
/// # Errors
/// [`TrainError`] naming the file.
pub fn write_config_from(
    folder: &RunFolder,
    config: &RunConfig,
    sources: &BTreeMap<String, String>,
) -> Result<(), TrainError> {
    let path = folder.config();
    if path.exists() && RunConfig::read(&path, &[]).is_ok_and(|there| there == *config) {
        return Ok(());
    }
    write_atomically(&path, config.to_toml_with(sources)?.as_bytes())
}

/// Writes a file whole or not at all ([`spvit_formats::write_whole`]). Its folder must be there: that of
/// a run which somebody moved away is not begun again.
///
/// # Errors
/// [`TrainError::Format`] naming the file.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    Ok(spvit_formats::write_whole(path, |out| out.write_all(bytes))?)
}

/// SHA-256 over a text and named tensors, in lower-case hexadecimal.
pub(crate) fn digest(text: &str, state: &StateDict) -> String {
    let mut hash = Sha256::new();
    hash.update(text);
    for (name, data) in state {
        hash.update(name);
        for size in data.shape.to_vec() {
            hash.update(size.to_le_bytes());
        }
        hash.update(&data.bytes[..]);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
