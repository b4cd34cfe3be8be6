//! What a run tells the program around it, and what it asks.

use serde::{Deserialize, Serialize};
use spvit_layers::BlockConfig;
use spvit_search::Timing;

use crate::{Phase, TrainError, latency::Scale};

/// Progress within an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// What trains.
    pub phase: Phase,
    /// Epoch, from 0.
    pub epoch: usize,
    /// Epochs of the phase.
    pub epochs: usize,
    /// Steps done in this epoch.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Mean loss of the epoch so far.
    pub loss: f64,
    /// Accuracy on the (augmented) training images of the epoch so far, 0 to 1.
    pub accuracy: f64,
    /// FLOPs at the expected gates, while searching.
    pub flops: Option<u64>,
    /// The budget in FLOPs, while searching.
    pub target: Option<u64>,
    /// Milliseconds at the expected gates and the budget, while searching within a time.
    pub milliseconds: Option<[f64; 2]>,
    /// Images a second since the phase began or resumed.
    pub images_per_second: f64,
    /// Seconds left in the phase, by that speed.
    pub seconds_left: f64,
}

/// The end of an epoch; a line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// What trains. Runs of earlier versions call it `stage`.
    #[serde(alias = "stage")]
    pub phase: Phase,
    /// Epoch, from 0.
    pub epoch: usize,
    /// Epochs of the phase.
    pub epochs: usize,
    /// Mean loss.
    pub loss: f64,
    /// Accuracy on the (augmented) training images, 0 to 1.
    pub train_accuracy: f64,
    /// Accuracy on the validation split, 0 to 1, if it has images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// Learning rate of the weights at the last step.
    pub learning_rate: f64,
    /// FLOPs at the expected gates, while searching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<u64>,
    /// FLOPs of the architecture that the gates give at the budget, while searching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived_flops: Option<u64>,
    /// Milliseconds at the expected gates by the latency table, while searching within a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
    /// Milliseconds of the architecture that the gates give at the budget, by the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived_milliseconds: Option<f64>,
    /// Whether this epoch's weights are the best so far.
    pub best: bool,
}

/// What a run reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// A line for the reader.
    Message(&'a str),
    /// Before a block is measured or fitted, outside any phase's steps.
    Measuring {
        /// The block, from 0.
        block: usize,
        /// Blocks in all.
        blocks: usize,
    },
    /// Before a model is timed.
    Timing {
        /// Samples that are done.
        done: usize,
        /// Samples at most.
        of: usize,
    },
    /// After every step.
    Progress(&'a Progress),
    /// After every epoch.
    Epoch(&'a EpochReport),
}

/// Receives events and may stop a run.
pub trait Observer {
    /// Called on the thread that trains; should return quickly.
    fn event(&mut self, event: Event<'_>);

    /// Whether to write a checkpoint and stop after the current step.
    fn stop_requested(&self) -> bool {
        false
    }

    /// Times models in the scale of a table, as [`Scale::measure`] does, where the observer has a better
    /// place for it than the process that trains: there the same models take other shares of the dense
    /// one's time than in a fresh process. `None` where it has not.
    ///
    /// # Errors
    /// [`TrainError`], also that it was stopped.
    fn time_models(
        &mut self,
        _scale: Scale<'_>,
        _models: &[Vec<BlockConfig>],
    ) -> Option<Result<Vec<Timing>, TrainError>> {
        None
    }
}

/// Ignores events and never stops.
#[derive(Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _event: Event<'_>) {}
}
