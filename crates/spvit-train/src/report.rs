//! The figures of a finished run.

use serde::{Deserialize, Serialize};
use spvit_search::CostModel;

use crate::{RunFolder, TrainError, write_atomically};

/// One model's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFigures {
    /// `dense`, `searched` (pruned, before fine-tuning) or `compact`.
    pub name: String,
    /// On the test split, 0 to 1.
    pub accuracy: f64,
    /// Multiply-adds counted once, by the run's cost model.
    pub flops: u64,
    /// Trained values.
    pub parameters: usize,
    /// Median seconds of a forward pass of one image.
    pub latency_one: f64,
    /// Median seconds of a forward pass of a batch.
    pub latency_batch: f64,
    /// Milliseconds in the scale of the run's latency table, where a budget is one of time and this
    /// machine is the table's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
}

/// What `summary.json` holds and the final screen prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The device that computed it.
    pub backend: String,
    /// Seed of every random decision.
    pub seed: u64,
    /// Name of the data set.
    pub data: String,
    /// SHA-256 over its splits.
    pub data_fingerprint: String,
    /// Number of test images.
    pub test_images: usize,
    /// How FLOPs are counted.
    pub cost_model: CostModel,
    /// The budget, if it is one of FLOPs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_flops: Option<u64>,
    /// The budget, if it is one of parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_parameters: Option<u64>,
    /// The budget in milliseconds, if it is one of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_milliseconds: Option<f64>,
    /// What the latency table was measured with, in words, if a budget is one of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_table: Option<String>,
    /// Images of a batch in [`ModelFigures::latency_batch`].
    pub latency_batch_size: usize,
    /// The models that there are, in the order dense, searched, compact; of several budgets the dense
    /// model and the compact ones, named by their budgets.
    pub models: Vec<ModelFigures>,
}

impl Summary {
    /// Writes `summary.json` into a run folder.
    ///
    /// # Errors
    /// [`TrainError`] naming the file.
    pub fn write(&self, folder: &RunFolder) -> Result<(), TrainError> {
        let path = folder.summary();
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| TrainError::io(&path, error.into()))?;
        write_atomically(&path, (json + "\n").as_bytes())
    }
}
