//! What can go wrong in training.

use std::path::{Path, PathBuf};

/// An error of this crate; its message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A configuration is wrong.
    #[error("{source_name}: {problem}")]
    Config {
        /// File or option.
        source_name: String,
        /// What was expected and found.
        problem: String,
    },
    /// The images cannot be used.
    #[error(transparent)]
    Data(#[from] spvit_data::DataError),
    /// A weights file cannot be read or written.
    #[error(transparent)]
    Format(#[from] spvit_formats::FormatError),
    /// Weights do not fit the model.
    #[error("{}: {error}{hint}", path.display())]
    State {
        /// The weights file.
        path: PathBuf,
        /// What does not fit.
        error: spvit_layers::state::StateError,
        /// What to do, after a semicolon; or nothing.
        hint: String,
    },
    /// A file cannot become a model or an architecture.
    #[error(transparent)]
    Interchange(#[from] spvit_interchange::InterchangeError),
    /// An architecture cannot be read.
    #[error("{}: {error}", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: spvit_search::ArchitectureError,
    },
    /// No architecture meets the budget.
    #[error(transparent)]
    Derive(#[from] spvit_search::DeriveError),
    /// A file that an earlier phase writes is not there.
    #[error("{} is not there; {hint}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: String,
    },
    /// The run was stopped where there is no checkpoint yet.
    #[error("stopped while {0}; nothing was begun that could be lost")]
    Stopped(&'static str),
    /// The run folder is in use.
    #[error("{} already holds a run; continue it with --resume {}, or choose another --out", path.display(), path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Another program works in the run folder.
    #[error("{} is in use by another spvit; wait for it, or choose another --out", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A value on which something in the run folder depends cannot change any more.
    #[error("{key} = {new}: this run was begun with {old}; {reason}")]
    Fixed {
        /// The value's key.
        key: String,
        /// The run's value.
        old: String,
        /// The value asked for.
        new: String,
        /// How to begin anew.
        reason: String,
    },
    /// A file of the run was computed with something else than the run has now.
    #[error("{}: {problem}", path.display())]
    Mixed {
        /// The file.
        path: PathBuf,
        /// What differs, and what to do.
        problem: String,
    },
    /// A result that cannot be used.
    #[error("{}: {problem}; {remedy}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
        /// How to get it again.
        remedy: String,
    },
    /// No checkpoint of a phase can be read.
    #[error(
        "{}: no readable checkpoint ({problem}); begin the phase anew with --redo {phase}",
        path.display()
    )]
    Checkpoints {
        /// The folder.
        path: PathBuf,
        /// The phase.
        phase: crate::Phase,
        /// Why the last one cannot be read.
        problem: String,
    },
    /// Several devices do not work together.
    #[error("several devices: {problem}")]
    Devices {
        /// Why not.
        problem: String,
    },
    /// Several processes do not work together.
    #[error("several processes: {problem}")]
    Processes {
        /// Why not.
        problem: String,
    },
    /// The loss is no longer a number.
    #[error(
        "the loss of {phase} became {loss} at step {step}; lower {phase}.learning_rate or set \
         {phase}.clip_norm: --resume with --redo {phase} and --set begins the phase anew"
    )]
    Diverged {
        /// The phase.
        phase: crate::Phase,
        /// The loss.
        loss: f32,
        /// The step.
        step: usize,
    },
}

impl TrainError {
    /// An input or output error on a file.
    pub fn io(path: &Path, error: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), error }
    }
}
