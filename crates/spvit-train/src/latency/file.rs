//! Tables in files.

use std::path::Path;

use spvit_layers::ModelConfig;
use spvit_search::LatencyTable;

use crate::{TrainError, results};

/// Reads a table that `spvit measure` wrote.
///
/// # Errors
/// [`TrainError`] naming the file.
pub fn read_table(path: &Path) -> Result<LatencyTable, TrainError> {
    let text = std::fs::read_to_string(path).map_err(|error| TrainError::io(path, error))?;
    parse_table(path, &text)
}

/// The table in a file's text.
pub(crate) fn parse_table(path: &Path, text: &str) -> Result<LatencyTable, TrainError> {
    LatencyTable::from_json(text).map_err(|error| of_table(path, error.to_string()))
}

/// Whether a table was measured of models of this shape.
///
/// # Errors
/// [`TrainError::Config`] naming the file and what differs.
pub fn check_shape(
    path: &Path,
    table: &LatencyTable,
    model: &ModelConfig,
) -> Result<(), TrainError> {
    match results::difference(model, &table.model) {
        None => Ok(()),
        Some(difference) => Err(of_table(
            path,
            format!("it is of another model: {difference}; measure that with `spvit measure`"),
        )),
    }
}

fn of_table(path: &Path, problem: String) -> TrainError {
    TrainError::Config { source_name: path.display().to_string(), problem }
}
