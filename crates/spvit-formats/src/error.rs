//! The one error type of this crate, and the pathless form that readers raise.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file could not be read or written.
///
/// Every message names the file, what was expected, what was found, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The operating system refused: no such file, no permission, disk full.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file (or folder) concerned.
        path: PathBuf,
        /// What was being done, as a verb phrase: "open the file".
        action: &'static str,
        /// The system's own error.
        source: io::Error,
    },
    /// The file is damaged, or is not what its name says.
    #[error("{}: expected {expected}, found {found}. {advice}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should have been there.
        expected: String,
        /// What was there.
        found: String,
        /// What the person can do.
        advice: String,
    },
    /// The file is sound but holds something this crate does not read.
    #[error("{}: {what} is not supported. {advice}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The thing that is not supported.
        what: String,
        /// What the person can do.
        advice: String,
    },
    /// The tensors or the description given to a writer do not fit each other.
    #[error("{}: cannot write: expected {expected}, found {found}. {advice}", path.display())]
    Invalid {
        /// The file that was to be written; nothing was.
        path: PathBuf,
        /// What the writer needs.
        expected: String,
        /// What it was given.
        found: String,
        /// What the person can do.
        advice: String,
    },
}

/// What a reader raises: a [`FormatError`] that does not know its file yet.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(&'static str, io::Error),
    Malformed { expected: String, found: String, advice: String },
    Unsupported { what: String, advice: String },
    Invalid { expected: String, found: String, advice: String },
}

pub(crate) const DAMAGED: &str = "The file is damaged or incomplete: copy or download it again.";

impl Fault {
    /// A damaged file, with the advice to fetch it again.
    pub(crate) fn damaged(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::malformed(expected, found, DAMAGED)
    }

    pub(crate) fn malformed(
        expected: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::Malformed { expected: expected.into(), found: found.into(), advice: advice.into() }
    }

    pub(crate) fn unsupported(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), advice: advice.into() }
    }

    pub(crate) fn invalid(
        expected: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::Invalid { expected: expected.into(), found: found.into(), advice: advice.into() }
    }

    /// The error as the caller sees it.
    pub(crate) fn at(self, path: &Path) -> FormatError {
        let path = path.to_path_buf();
        match self {
            Self::Io(action, source) => FormatError::Io { path, action, source },
            Self::Malformed { expected, found, advice } => {
                FormatError::Malformed { path, expected, found, advice }
            }
            Self::Unsupported { what, advice } => FormatError::Unsupported { path, what, advice },
            Self::Invalid { expected, found, advice } => {
                FormatError::Invalid { path, expected, found, advice }
            }
        }
    }
}
