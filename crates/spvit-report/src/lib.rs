//! What a run shows: pictures, tables, and a page that needs no other file.
//!
//! [`Record`] reads whatever a run folder holds, whichever version wrote it and however far the run
//! has come. [`write()`] writes its `report.html`, [`page()`] and [`comparison`] give pages of one and of
//! several runs, [`picture::draw`] an architecture as SVG. Nothing here trains or evaluates.

mod again;
mod blocks;
mod classes;
mod colours;
mod compare;
mod error;
mod front;
mod gates;
pub mod numbers;
mod page;
pub mod picture;
mod plot;
mod record;
mod run;
mod settings;
mod training;

use std::{io::Write, path::Path};

pub use compare::comparison;
pub use error::ReportError;
pub use page::{LIMIT, Liveness};
pub use record::Record;
pub use run::page;

/// Writes the page of the run in this folder, and those of the runs in its `budgets`, which the
/// first one compares. Gives the page's path.
///
/// # Errors
/// [`ReportError`] if the folder holds no run, or the page cannot be written.
pub fn write(root: &Path) -> Result<std::path::PathBuf, ReportError> {
    let record = Record::read(root)?;
    for part in &record.parts {
        save(&part.report(), &page(part, Liveness::Still)?)?;
    }
    let path = record.report();
    save(&path, &page(&record, Liveness::Still)?)?;
    Ok(path)
}

/// Writes a page, whole or not at all.
///
/// # Errors
/// [`ReportError::Write`] naming the file.
pub fn save(path: &Path, page: &str) -> Result<(), ReportError> {
    Ok(spvit_formats::write_whole(path, |out| out.write_all(page.as_bytes()))?)
}

/// The README's example, so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
