//! Training of dense and compact models: pretraining, transfer and fine-tuning.

use burn::module::AutodiffModule;
use spvit_core::TrainBackend;
use spvit_data::{Batch, Loader};
use spvit_interchange::Input;
use spvit_layers::{
    Vit,
    state::{self, StateDict},
};
use spvit_search::Architecture;

use crate::{
    Origin, Phase, TrainError,
    checkpoint::Position,
    config::TrainingConfig,
    epochs::{Training, Validation},
    evaluate::accuracy,
    folder::RunFolder,
    objectives::{Classification, Teacher},
    results,
    step::{Group, Replicas, StepOptions, StepReport},
};

/// A model in training, and how.
pub(crate) struct Classify<B: TrainBackend> {
    phase: Phase,
    replicas: Replicas<B, Classification<B>>,
    architecture: Architecture,
    input: Input,
    device: B::Device,
}

impl<B: TrainBackend> Classify<B> {
    pub fn new(
        phase: Phase,
        (model, architecture, input): (Vit<B>, Architecture, Input),
        teacher: Option<Teacher<B>>,
        training: &TrainingConfig,
        (seed, micro_batches): (u64, usize),
        device: &B::Device,
    ) -> Self {
        let group = Group::new(training.weight_decay).clipped(training.clip_norm);
        let options = StepOptions {
            seed,
            micro_batches,
            accumulate: training.accumulate,
            drop_path: training.drop_path,
            depth: model.blocks.len(),
        };
        let objective = Classification { teacher };
        let replicas = Replicas::new(objective, model, [group], options, device);
        Self { phase, replicas, architecture, input, device: device.clone() }
    }
}

impl<B: TrainBackend> Training for Classify<B> {
    fn phase(&self) -> Phase {
        self.phase
    }

    fn step(&mut self, batch: &Batch, step: usize, rate: f64) -> StepReport {
        self.replicas.step(batch, step as u64, &[rate])
    }

    fn validate(&mut self, images: &Loader) -> Result<Validation, TrainError> {
        let accuracy = accuracy(&self.replicas.model().valid(), images, &self.device)?;
        Ok(Validation { accuracy: Some(accuracy), derived_flops: None, eligible: true })
    }

    fn state(&self) -> StateDict {
        let model = state::export(&self.replicas.model().valid());
        let model = model.into_iter().map(|(name, data)| (format!("model.{name}"), data));
        let moments = self.replicas.optimisers().flat_map(|optimiser| optimiser.state());
        model.chain(moments.map(|(name, data)| (format!("optimiser.{name}"), data))).collect()
    }

    fn optimiser_steps(&self) -> i32 {
        self.replicas.optimisers().next().map_or(0, |optimiser| optimiser.count())
    }

    fn restore(&mut self, position: &Position, state: &StateDict) -> Result<(), TrainError> {
        let model = restore_model(self.replicas.model().clone(), state, self.phase)?;
        let (steps, moments) = (position.optimiser_steps, under(state, "optimiser."));
        let device = &self.device;
        self.replicas.restore(model, |_, optimiser| optimiser.restore(steps, &moments, device));
        Ok(())
    }

    fn write_best(&self, folder: &RunFolder, origin: &Origin) -> Result<(), TrainError> {
        let tensors = state::export(&self.replicas.model().valid());
        let model = (&self.architecture, &self.input);
        results::write(&folder.best(self.phase), tensors, Some(model), origin)
    }
}

/// The tensors whose names begin with a prefix, without it.
pub(crate) fn under(state: &StateDict, prefix: &str) -> StateDict {
    let inside = state.iter().filter_map(|(name, data)| Some((name.strip_prefix(prefix)?, data)));
    inside.map(|(name, data)| (name.to_string(), data.clone())).collect()
}

/// A model with a checkpoint's weights.
pub(crate) fn restore_model<B: TrainBackend, M: state::Named<B>>(
    model: M,
    state: &StateDict,
    phase: Phase,
) -> Result<M, TrainError> {
    state::import_owned(model, under(state, "model.")).map_err(|error| TrainError::State {
        path: format!("checkpoint of {phase}").into(),
        error,
        hint: String::new(),
    })
}
