//! What can go wrong in showing a run.

use std::path::PathBuf;

/// An error of this crate; its message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder holds no run.
    #[error(
        "{}: {problem}; name the folder of a run, which spvit run, search or pretrain have made",
        path.display()
    )]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What is lacking.
        problem: String,
    },
    /// A plot cannot be drawn.
    #[error("the plot \"{title}\" cannot be drawn: {problem}")]
    Plot {
        /// Its title.
        title: String,
        /// What the library says.
        problem: String,
    },
    /// A page cannot be put together.
    #[error("the page cannot be put together: {0}")]
    Page(#[from] askama::Error),
    /// A page cannot be written.
    #[error(transparent)]
    Write(#[from] spvit_formats::FormatError),
}
