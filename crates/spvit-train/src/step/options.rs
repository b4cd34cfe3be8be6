//! How a model is trained, step by step.

use spvit_core::Precision;

use crate::optim::{AdamWConfig, NO_WEIGHT_DECAY};

/// How a group of parameters is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The optimiser's values.
    pub optimiser: AdamWConfig,
    /// Parameters that do not decay, by the last part of their names.
    pub no_weight_decay: Vec<String>,
    /// Largest joint norm of the group's gradients; 0 does not clip.
    pub clip_norm: f64,
}

impl Group {
    /// AdamW with this weight decay except on [`NO_WEIGHT_DECAY`], without clipping.
    pub fn new(weight_decay: f64) -> Self {
        Self {
            optimiser: AdamWConfig::new(weight_decay),
            no_weight_decay: NO_WEIGHT_DECAY.map(String::from).to_vec(),
            clip_norm: 0.0,
        }
    }

    /// The same with the gradients' joint norm limited; 0 does not clip.
    pub fn clipped(self, clip_norm: f64) -> Self {
        Self { clip_norm, ..self }
    }
}

/// Values of every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOptions {
    /// Seed of every random decision.
    pub seed: u64,
    /// Parts of a batch that are computed at the same time, each with its own batch-norm statistics.
    pub micro_batches: usize,
    /// So many times that number of parts are made, and computed one after another.
    pub accumulate: usize,
    /// Chance that the last block's residual branches are dropped; earlier blocks' chances rise to
    /// it linearly.
    pub drop_path: f64,
    /// Number of blocks, for dropped paths.
    pub depth: usize,
    /// The type of products' factors. With float16 the loss is scaled, and a step whose gradients overflow
    /// is not taken.
    pub precision: Precision,
}

impl Default for StepOptions {
    /// One micro-batch, no dropped paths, products of float32.
    fn default() -> Self {
        let precision = Precision::F32;
        Self { seed: 0, micro_batches: 1, accumulate: 1, drop_path: 0.0, depth: 0, precision }
    }
}
