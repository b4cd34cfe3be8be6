//! `gates.jsonl`: how probable every gate is, before the search's first step and after each of its epochs.

use std::{fs, io::Write};

use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use spvit_layers::Operation;
use spvit_search::Gates;

use crate::{RunFolder, TrainError, write_atomically};

/// The shares of an FFN's gates at which [`FfnGates::quantiles`] are taken.
pub const QUANTILES: [f64; 7] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0];

/// The gates at one time of a search; a line of `gates.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// Epochs of the search that were done: 0 where thresholds begin.
    pub epoch: usize,
    /// Cost at the expected gates, in the budget's unit.
    pub cost: f64,
    /// The blocks.
    pub blocks: Vec<BlockGateReport>,
}

/// The gates of one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockGateReport {
    /// What each operation gate opens, the cheapest first.
    pub path: Vec<Operation>,
    /// Probabilities of the operation gates, from 0 to 1.
    pub operations: Vec<f32>,
    /// Probabilities of the heads' gates; empty where heads have none.
    pub heads: Vec<f32>,
    /// The FFN's gates.
    pub ffn: FfnGates,
}

/// The gates of an FFN's hidden dimensions, which are too many to be listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FfnGates {
    /// Number of gates; 0 where the search leaves the FFN as it is.
    pub gates: usize,
    /// Gates that are likelier open than closed.
    pub open: usize,
    /// Probabilities below which the shares [`QUANTILES`] lie; empty without gates.
    pub quantiles: Vec<f32>,
}

impl GateReport {
    /// The gates as they are after this many epochs, at this cost.
    pub fn new<B: Backend>(gates: &Gates<B>, epoch: usize, cost: f64) -> Self {
        let pairs = gates.layout().iter().zip(gates.probabilities());
        let blocks = pairs.map(|(layout, own)| BlockGateReport {
            path: layout.operations.to_vec(),
            ffn: FfnGates::new(own.ffn),
            operations: own.operations,
            heads: own.heads,
        });
        Self { epoch, cost, blocks: blocks.collect() }
    }
}

impl FfnGates {
    fn new(mut probabilities: Vec<f32>) -> Self {
        probabilities.sort_by(f32::total_cmp);
        let gates = probabilities.len();
        let open = probabilities.iter().filter(|&&p| p > 0.5).count();
        let at = |share: f64| (share * gates.saturating_sub(1) as f64).round() as usize;
        let quantile = |share: f64| probabilities.get(at(share)).copied();
        Self { gates, open, quantiles: QUANTILES.into_iter().filter_map(quantile).collect() }
    }
}

impl RunFolder {
    /// Appends a line to the gates.
    ///
    /// # Errors
    /// [`TrainError::Io`] naming the file.
    pub fn append_gates(&self, report: &GateReport) -> Result<(), TrainError> {
        let path = self.gates();
        let append = || -> std::io::Result<()> {
            let line = serde_json::to_string(report)?;
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(format!("{line}\n").as_bytes())
        };
        append().map_err(|error| TrainError::io(&path, error))
    }

    /// Forgets the gates after later epochs than this one, which will be done again, and a line that
    /// was cut off; all of them without an epoch.
    ///
    /// # Errors
    /// [`TrainError`] naming the file.
    pub fn keep_gates(&self, epoch: Option<usize>) -> Result<(), TrainError> {
        let path = self.gates();
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let stays = |line: &&str| {
            let report = serde_json::from_str::<GateReport>(line);
            line.ends_with('\n')
                && report.is_ok_and(|report| epoch.is_some_and(|epoch| report.epoch <= epoch))
        };
        let kept: String = text.split_inclusive('\n').filter(stays).collect();
        match kept == text {
            true => Ok(()),
            false => write_atomically(&path, kept.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(epoch: usize) -> GateReport {
        let ffn = FfnGates::new((0..=100).rev().map(|p| p as f32 / 100.0).collect());
        let path = vec![Operation::BConv(3), Operation::Msa];
        let block = BlockGateReport { path, operations: vec![0.9, 0.2], heads: vec![0.4], ffn };
        GateReport { epoch, cost: 12.5, blocks: vec![block] }
    }

    #[test]
    fn quantiles_are_those_of_the_probabilities() {
        let ffn = &report(0).blocks[0].ffn;
        assert_eq!((ffn.gates, ffn.open), (101, 50));
        assert_eq!(ffn.quantiles, [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]);
        let none = FfnGates::new(Vec::new());
        assert_eq!((none.gates, none.open, none.quantiles.len()), (0, 0, 0));
    }

    #[test]
    fn what_is_done_again_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(place.path()).unwrap();
        folder.keep_gates(Some(0)).unwrap();
        assert!(!folder.gates().exists());
        for epoch in 0..4 {
            folder.append_gates(&report(epoch)).unwrap();
        }
        let whole = fs::read_to_string(folder.gates()).unwrap();
        fs::write(folder.gates(), format!("{whole}{{\"epoch\": 4")).unwrap();
        folder.keep_gates(Some(2)).unwrap();
        let text = fs::read_to_string(folder.gates()).unwrap();
        let read: Vec<GateReport> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, [report(0), report(1), report(2)]);
        folder.keep_gates(None).unwrap();
        assert_eq!(fs::read_to_string(folder.gates()).unwrap(), "");
    }
}
