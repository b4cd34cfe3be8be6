//! `metrics.jsonl`: one line for each epoch.

use std::{fs, io::Write};

use crate::{EpochReport, Phase, RunFolder, TrainError, write_atomically};

impl RunFolder {
    /// Appends a line to the metrics; returns their new length.
    ///
    /// # Errors
    /// [`TrainError::Io`] naming the file.
    pub fn append_metrics(&self, report: &EpochReport) -> Result<u64, TrainError> {
        let path = self.metrics();
        let append = || -> std::io::Result<u64> {
            let line = serde_json::to_string(report)?;
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

    /// Forgets metrics beyond a length: those of steps that will be done again. Gives the bytes that
    /// are lacking, if the file has been shortened.
    ///
    /// # Errors
    /// [`TrainError::Io`] naming the file.
    pub fn truncate_metrics(&self, length: u64) -> Result<u64, TrainError> {
        let found = self.metrics_length();
        if found <= length {
            return Ok(length - found);
        }
        let path = self.metrics();
        let file = fs::OpenOptions::new().write(true).open(&path);
        file.and_then(|file| file.set_len(length)).map_err(|error| TrainError::io(&path, error))?;
        Ok(0)
    }

    /// Forgets what phases that begin anew have said, and a line that was cut off.
    ///
    /// # Errors
    /// [`TrainError`] naming the file.
    pub fn forget_metrics(&self, phases: &[Phase]) -> Result<(), TrainError> {
        let path = self.metrics();
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let forgotten = |line: &str| {
            let report = serde_json::from_str::<EpochReport>(line);
            !line.ends_with('\n') || report.is_ok_and(|report| phases.contains(&report.phase))
        };
        let kept: String = text.split_inclusive('\n').filter(|line| !forgotten(line)).collect();
        match kept == text {
            true => Ok(()),
            false => write_atomically(&path, kept.as_bytes()),
        }
    }
}
