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
    /// Median seconds of the model's ONNX form in onnxruntime, of one image and of a batch, where its library
    /// is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onnxruntime: Option<[f64; 2]>,
}

impl ModelFigures {
    /// The same with every time multiplied by what `factor` says of it, whose argument takes a model's
    /// time: times of models that were not timed in turn are compared by what they are of the dense one's.
    pub fn rescaled(&self, factor: impl Fn(fn(&Self) -> Option<f64>) -> Option<f64>) -> Self {
        let scaled =
            |time: fn(&Self) -> Option<f64>| Some(time(self)? * factor(time).unwrap_or(1.0));
        let one = scaled(|own| own.onnxruntime.map(|[one, _]| one));
        let batch = scaled(|own| own.onnxruntime.map(|[_, batch]| batch));
        Self {
            latency_one: scaled(|own| Some(own.latency_one)).unwrap_or(self.latency_one),
            latency_batch: scaled(|own| Some(own.latency_batch)).unwrap_or(self.latency_batch),
            onnxruntime: one.zip(batch).map(|(one, batch)| [one, batch]),
            ..self.clone()
        }
    }
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
    /// Reads a run folder's `summary.json`.
    ///
    /// # Errors
    /// [`TrainError`] naming the file.
    pub fn read(folder: &RunFolder) -> Result<Self, TrainError> {
        let path = folder.summary();
        let text = std::fs::read_to_string(&path).map_err(|error| TrainError::io(&path, error))?;
        serde_json::from_str(&text).map_err(|error| TrainError::io(&path, error.into()))
    }

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
