//! Costs in milliseconds, from times that were measured on a machine.

mod fit;
mod probes;

use serde::{Deserialize, Serialize};
use spvit_layers::{BlockConfig, ConfigError, ModelConfig, Operation};

use super::{BlockCost, CostTable, Unit};
use crate::json::{lines, with_lines};
pub use fit::{Correction, FitError, OperationTime, ShapeFit};
pub use probes::{Choice, Probe, probes};

/// The version of the file's form that this program writes and reads.
const VERSION: u32 = 1;

/// A time in milliseconds with its spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Median over the rounds.
    #[serde(rename = "ms")]
    pub median: f64,
    /// First quartile.
    pub lower: f64,
    /// Third quartile.
    pub upper: f64,
}

impl Timing {
    /// Of samples in milliseconds; zeros of none.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        // Between two samples where a quartile falls there.
        let at = |share: f64| {
            let place = share * sorted.len().saturating_sub(1) as f64;
            let (below, above) =
                (sorted.get(place.floor() as usize), sorted.get(place.ceil() as usize));
            match (below, above) {
                (Some(below), Some(above)) => below + (above - below) * place.fract(),
                _ => 0.0,
            }
        };
        Self { median: at(0.5), lower: at(0.25), upper: at(0.75) }
    }
}

/// What a choice takes in one block, besides the block's shortcut without an FFN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The blocks of this shape.
    pub blocks: Vec<usize>,
    /// The choice.
    #[serde(flatten)]
    pub choice: Choice,
    /// The time in one of them.
    #[serde(flatten)]
    pub time: Timing,
}

/// A model that was measured whole, to hold the sum of its parts against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WholeModel {
    /// Operations of the blocks.
    pub operations: Vec<Operation>,
    /// Heads of the blocks' attention, 0 where there is none.
    pub heads: Vec<usize>,
    /// Hidden dimensions of the blocks' FFNs.
    pub hidden: Vec<usize>,
    /// The time of a pass.
    #[serde(flatten)]
    pub time: Timing,
    /// What the table says of it, in milliseconds.
    pub predicted: f64,
    /// Whether the correction was fitted on it; the error is that of the others.
    pub fitted: bool,
}

/// Where and how times were measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Day, as year-month-day in UTC.
    pub date: String,
    /// The processor's name, and a GPU's where one computed.
    pub machine: String,
    /// As `--device` names it.
    pub device: String,
    /// What computed, with its version.
    pub runtime: String,
    /// Threads that computed on the processor.
    pub threads: usize,
}

/// What the parts of a model of one shape take on one machine; a file of JSON that a person can read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyTable {
    /// Version of the form.
    pub version: u32,
    /// Where and how it was measured.
    pub place: Place,
    /// Images of a pass.
    pub batch: usize,
    /// Rounds in which all models were timed in turn.
    pub rounds: usize,
    /// Shape of the dense model.
    pub model: ModelConfig,
    /// A pass of the dense model.
    pub dense: Timing,
    /// A pass of a model whose blocks are all shortcuts without FFNs.
    pub bare: Timing,
    /// What every choice takes.
    pub entries: Vec<Entry>,
    /// Straight lines through the entries, one for each shape of block.
    pub shapes: Vec<ShapeFit>,
    /// From a sum of parts to a whole model.
    pub correction: Correction,
    /// How far the table is from whole models that nothing was fitted on.
    pub error: FitError,
    /// Whole models.
    pub whole: Vec<WholeModel>,
}

/// A latency table that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LatencyError {
    /// Not JSON of the expected form.
    #[error("no table of latencies: {0}; `spvit measure` writes one")]
    Json(#[from] serde_json::Error),
    /// Of another version.
    #[error(
        "version {0} of the form, and this program reads version {VERSION}; measure anew with `spvit measure`"
    )]
    Version(u32),
    /// The model's shape is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Values that do not fit each other, or that no clock can give.
    #[error("{0}; measure anew with `spvit measure`")]
    Values(String),
}

impl LatencyTable {
    /// A table of times by round: `times[probe][round]` in milliseconds, of [`probes`] and after them of
    /// the whole models.
    ///
    /// # Errors
    /// [`LatencyError::Values`] if the times are so uneven that a dense FFN or attention seems to take no
    /// time.
    pub fn of_times(
        model: &ModelConfig,
        (place, batch): (Place, usize),
        whole: &[Vec<BlockConfig>],
        times: &[Vec<f64>],
    ) -> Result<Self, LatencyError> {
        let probes = probes(model);
        if times.len() != probes.len() + whole.len() {
            let problem = format!("{} times of {} models", times.len(), probes.len() + whole.len());
            return Err(LatencyError::Values(problem));
        }
        let times = at_one_speed(times);
        let (parts, wholes) = times.split_at(probes.len());
        let [dense, bare] = [&parts[0], &parts[1]];
        let entries = probes::entries(&probes, parts);
        let shapes = fit::shapes(model, &entries)?;
        let mut table = Self {
            version: VERSION,
            place,
            batch,
            rounds: dense.len(),
            model: model.clone(),
            dense: Timing::of(dense),
            bare: Timing::of(bare),
            entries,
            shapes,
            correction: Correction::default(),
            error: FitError::default(),
            whole: Vec::new(),
        };
        fit::correct(&mut table, whole, wholes);
        Ok(table)
    }

    /// Costs of a model's choices in milliseconds, the correction inside, so that
    /// [`CostTable::total`] says what a whole model takes.
    pub fn cost_table(&self) -> CostTable {
        let Correction { offset, factor } = self.correction;
        let shapes = self.model.blocks();
        let blocks = shapes.iter().enumerate().map(|(index, shape)| {
            let fit = self.shapes.iter().find(|fit| fit.blocks.contains(&index));
            let fit = fit.cloned().unwrap_or_default();
            let operations = fit.operations.iter().map(|own| (own.operation, factor * own.ms));
            let shortcut = shape.searches_attention().then_some((Operation::Shortcut, 0.0));
            BlockCost {
                operations: shortcut.into_iter().chain(operations).collect(),
                fixed: [0.0; 2],
                hidden_dimension: factor * fit.hidden_dimension,
                ffn_fixed: factor * fit.ffn_fixed,
                hidden: shape.hidden,
                searches_ffn: shape.searches_ffn(),
                head: if shape.searches_attention() { factor * fit.head } else { 0.0 },
                heads: shape.heads,
                searches_heads: false,
            }
        });
        CostTable {
            unit: Unit::Milliseconds,
            embedding: offset + factor * self.bare.median,
            merging: 0.0,
            head: 0.0,
            blocks: blocks.collect(),
        }
    }

    /// JSON, a line for each entry and whole model.
    ///
    /// # Errors
    /// [`LatencyError::Json`] if a number has no JSON form.
    pub fn to_json(&self) -> Result<String, LatencyError> {
        let lists = [("entries", lines(&self.entries)?), ("whole", lines(&self.whole)?)];
        Ok(with_lines(self, &lists)?)
    }

    /// Reads a table and checks it.
    ///
    /// # Errors
    /// [`LatencyError`].
    pub fn from_json(text: &str) -> Result<Self, LatencyError> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version != u64::from(VERSION) => {
                return Err(LatencyError::Version(u32::try_from(version).unwrap_or(u32::MAX)));
            }
            _ => {}
        }
        let table: Self = serde_json::from_value(value)?;
        table.validate()?;
        Ok(table)
    }

    fn validate(&self) -> Result<(), LatencyError> {
        self.model.validate()?;
        let shapes = self.model.blocks();
        let wrong = |problem: String| Err(LatencyError::Values(problem));
        for (index, shape) in shapes.iter().enumerate() {
            let fits: Vec<&ShapeFit> =
                self.shapes.iter().filter(|fit| fit.blocks.contains(&index)).collect();
            let &[fit] = &fits[..] else {
                return wrong(format!("block {index} is in {} shapes, not in one", fits.len()));
            };
            let needed = self.model.operations();
            let needed = needed
                .into_iter()
                .filter(|operation| shape.searches_attention() || *operation == Operation::Msa);
            let found = fit.operations.iter().map(|own| own.operation);
            if !needed.eq(found) {
                return wrong(format!("block {index} lacks the time of an operation of the model"));
            }
            let times = [fit.head, fit.hidden_dimension, fit.ffn_fixed];
            let mut times = fit.operations.iter().map(|own| own.ms).chain(times);
            if !times.all(|time| time >= 0.0 && time.is_finite()) {
                return wrong(format!("block {index} has a time below 0"));
            }
        }
        let Correction { offset, factor } = self.correction;
        let positive = |time: f64| time > 0.0 && time.is_finite();
        match positive(factor) && offset.is_finite() && positive(self.dense.median) {
            true => Ok(()),
            false => {
                wrong("the dense model's time and the correction's factor must be above 0".into())
            }
        }
    }
}

/// Where, by what and on how many images it was measured.
impl std::fmt::Display for LatencyTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place { machine, device, runtime, threads, .. } = &self.place;
        write!(f, "{runtime}, {device}, {threads} threads, batch {}, {machine}", self.batch)
    }
}

/// Times as if the machine had been equally fast in all rounds: each round's are divided by the median of
/// what they are of their models' medians. `times[model][round]`.
fn at_one_speed(times: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let rounds = times.iter().map(Vec::len).min().unwrap_or(0);
    let medians: Vec<f64> = times.iter().map(|own| Timing::of(own).median).collect();
    let speed = |round: usize| {
        let relative: Vec<f64> =
            times.iter().zip(&medians).map(|(own, median)| own[round] / median).collect();
        Timing::of(&relative).median
    };
    let speeds: Vec<f64> = (0..rounds).map(speed).collect();
    let even = |own: &Vec<f64>| own.iter().zip(&speeds).map(|(time, speed)| time / speed).collect();
    times.iter().map(even).collect()
}

#[cfg(test)]
mod tests;
