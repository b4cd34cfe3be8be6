//! The lines that cells leave.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Cell;
use crate::shell::Failure;

/// One cell's figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub row: String,
    pub budget: f64,
    pub seed: u64,
    /// What the cell was computed with, the row's settings and the dense model; another recipe is
    /// another cell.
    pub recipe: String,
    /// Why no model meets the budget; all that follows is then absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impossible: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
}

/// Of a compact model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// Of the dense model's FLOPs, 0 to 1.
    pub share: f64,
    pub parameters: u64,
    /// Training images seen before the cut, and after it.
    pub images: [u64; 2],
    /// Test accuracy before fine-tuning, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<f64>,
    /// Best validation accuracy.
    pub validation: f64,
    /// Test accuracy.
    pub test: f64,
    /// Of a forward pass of 64 images, in the dense model's in the same run; absent where another
    /// program ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<f64>,
    /// Operations by block, and kept hidden dimensions, where there are such.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub blocks: String,
    pub seconds: f64,
}

/// All lines of a file.
pub struct Records {
    path: PathBuf,
    pub all: Vec<Record>,
}

impl Records {
    /// Reads a file of lines, which need not be there.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Failure::new(format!("{}: {error}", path.display()))),
        };
        let line = |(number, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| {
                let place = format!("{} line {}", path.display(), number + 1);
                Failure::new(format!("{place}: {error}; delete the line to compute it again"))
            })
        };
        let all: Result<Vec<Record>, Failure> = text.lines().enumerate().map(line).collect();
        Ok(Self { path: path.to_path_buf(), all: all? })
    }

    /// The record of a cell, if it has one.
    pub fn of(&self, cell: &Cell) -> Option<&Record> {
        let recipe = cell.recipe();
        self.all.iter().find(|record| {
            record.row == cell.row.name
                && record.budget == cell.budget
                && record.seed == cell.seed
                && record.recipe == recipe
        })
    }

    /// Those of the recipes that rows have now.
    pub fn current(&self, recipe: impl Fn(&str) -> Option<String>) -> Self {
        let now = |record: &&Record| recipe(&record.row).is_some_and(|own| own == record.recipe);
        Self { path: self.path.clone(), all: self.all.iter().filter(now).cloned().collect() }
    }

    /// Keeps a record in the place of an earlier recipe's, and writes the file anew.
    pub fn add(&mut self, record: Record) -> Result<(), Failure> {
        let same = |old: &Record| {
            (old.row == record.row) && (old.budget, old.seed) == (record.budget, record.seed)
        };
        self.all.retain(|old| !same(old));
        self.all.push(record);
        let fail =
            |error: std::io::Error| Failure::new(format!("{}: {error}", self.path.display()));
        let new = self.path.with_extension("new");
        let mut file = fs::File::create(&new).map_err(fail)?;
        for record in &self.all {
            let line = serde_json::to_string(record).map_err(|error| fail(error.into()))?;
            writeln!(file, "{line}").map_err(fail)?;
        }
        fs::rename(&new, &self.path).map_err(fail)
    }
}
