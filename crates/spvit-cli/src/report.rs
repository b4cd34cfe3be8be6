//! `spvit report`: pages of finished and unfinished runs.

use std::path::{Path, PathBuf};

use spvit_report::{Liveness, Record, comparison, page, save, write};

use crate::{args::ReportArguments, failure::Failure, output::say};

/// Writes a run's page, or one that compares several.
pub fn report(arguments: &ReportArguments) -> Result<(), Failure> {
    let out = arguments.out.as_deref().map(checked).transpose()?;
    let written = match (&arguments.runs[..], out) {
        ([run], None) => write(run)?,
        ([run], Some(out)) => {
            save(out, &page(&Record::read(run)?, Liveness::Still)?)?;
            out.to_path_buf()
        }
        (runs, out) => {
            let out = out.map_or_else(|| PathBuf::from("comparison.html"), Path::to_path_buf);
            let records: Result<Vec<Record>, _> =
                runs.iter().map(|run| Record::read(run)).collect();
            save(&out, &comparison(&records?)?)?;
            out
        }
    };
    say(format!("wrote {}", written.display()))
}

/// A page's name: what stands elsewhere is not to be lost by a slip of the hand.
fn checked(out: &Path) -> Result<&Path, Failure> {
    let extension = out.extension().and_then(|extension| extension.to_str());
    match extension {
        Some("html" | "htm") => Ok(out),
        _ => Err(Failure::usage(format!(
            "--out {}: expected a file that ends in .html",
            out.display()
        ))),
    }
}
