//! What can go wrong between a file and a model.

use std::path::{Path, PathBuf};

/// An error of this crate; its message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum InterchangeError {
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
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
    #[error("{}: {problem}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What was expected and found, and what to do.
        problem: String,
    },
    /// An architecture cannot be read.
    #[error("{}: {error}", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: spvit_search::ArchitectureError,
    },
}

impl InterchangeError {
    pub(crate) fn io(path: &Path, error: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), error }
    }

    /// The error of a file whose content cannot become a model.
    pub(crate) fn refused(path: &Path, problem: impl Into<String>) -> Self {
        Self::Refused { path: path.to_path_buf(), problem: problem.into() }
    }

    pub(crate) fn architecture(path: &Path, error: spvit_search::ArchitectureError) -> Self {
        Self::Architecture { path: path.to_path_buf(), error }
    }
}
