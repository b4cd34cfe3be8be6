//! Training of dense and compact models: pretraining, transfer and fine-tuning.

use burn::{module::AutodiffModule, tensor::backend::Backend};
use spvit_core::TrainBackend;
use spvit_data::{Batch, Loader};
use spvit_interchange::Input;
use spvit_layers::{
    Vit,
    state::{self, StateDict},
};
use spvit_search::Architecture;

use crate::{
    Devices, Origin, Phase, Teacher, TrainError,
    average::Average,
    checkpoint::Position,
    config::{LoopConfig, TrainingConfig},
    epochs::{Training, Validation},
    evaluate::accuracy_among,
    folder::RunFolder,
    objectives::Classification,
    optim::AdamW,
    results,
    step::{Group, LossScale, Replicas, StepOptions, StepReport},
};

/// Prefixes of a checkpoint's tensors: of the model, of its optimiser, and of the average of the model.
pub(crate) const MODEL: &str = "model.";
const OPTIMISER: &str = "optimiser.";
const AVERAGE: &str = "average.";
/// Name of the loss's factor, where float16 wants one.
pub(crate) const LOSS_SCALE: &str = "loss_scale";

/// A model in training, and how.
pub(crate) struct Classify<B: TrainBackend> {
    phase: Phase,
    replicas: Replicas<B, Classification<B>>,
    average: Option<Average<Vit<B::InnerBackend>>>,
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
        (seed, run): (u64, &LoopConfig),
        devices: &Devices<B>,
    ) -> Self {
        let group = Group::new(training.weight_decay).clipped(training.clip_norm);
        let options = StepOptions {
            seed,
            micro_batches: run.micro_batches,
            accumulate: training.accumulate,
            drop_path: training.drop_path,
            depth: model.blocks.len(),
            precision: run.precision,
        };
        let decay = training.ema_decay;
        let average = (decay > 0.0).then(|| Average::new(model.valid(), decay));
        let objective = Classification { teacher };
        let replicas = Replicas::new(objective, model, [group], options, devices);
        let device = devices.first().clone();
        Self { phase, replicas, average, architecture, input, device }
    }

    /// What is validated and becomes the result: the average, if there is one.
    pub fn weights(&self) -> Vit<B::InnerBackend> {
        match &self.average {
            Some(average) => average.model.clone(),
            None => self.replicas.model().valid(),
        }
    }
}

impl<B: TrainBackend> Training for Classify<B> {
    fn phase(&self) -> Phase {
        self.phase
    }

    fn step(&mut self, batch: &Batch, step: usize, rate: f64) -> Result<StepReport, TrainError> {
        let report = self.replicas.step(batch, step as u64, &[rate])?;
        let teacher = self.replicas.objective().teacher.as_ref();
        if let Some(error) = teacher.and_then(Teacher::failure) {
            return Err(error);
        }
        if let Some(average) = &mut self.average {
            average.update(&self.replicas.model().valid());
        }
        Ok(report)
    }

    fn validate(&mut self, images: &Loader) -> Result<Validation, TrainError> {
        let accuracy =
            accuracy_among(&self.weights(), images, &self.device, self.replicas.processes())?;
        Ok(Validation {
            accuracy: Some(accuracy),
            derived_flops: None,
            derived_milliseconds: None,
            eligible: true,
        })
    }

    fn state(&self) -> StateDict {
        let named = |prefix: &'static str, state: StateDict| {
            state.into_iter().map(move |(name, data)| (format!("{prefix}{name}"), data))
        };
        let average = self.average.iter().flat_map(|own| named(AVERAGE, state::export(&own.model)));
        let moments = self.replicas.optimisers().flat_map(|own| named(OPTIMISER, own.state()));
        let model = named(MODEL, state::export(&self.replicas.model().valid()));
        let scale = self.replicas.loss_scale().map(|scale| (LOSS_SCALE.into(), scale.state()));
        model.chain(moments).chain(average).chain(scale).collect()
    }

    fn optimiser_steps(&self) -> i32 {
        self.replicas.optimisers().next().map_or(0, |optimiser| optimiser.count())
    }

    fn restore(&mut self, position: &Position, state: &StateDict) -> Result<(), TrainError> {
        let phase = self.phase;
        let model = restore_model(self.replicas.model().clone(), state, (MODEL, phase))?;
        if let Some(average) = &mut self.average {
            if !state.keys().any(|name| name.starts_with(AVERAGE)) {
                return Err(TrainError::Mixed {
                    path: format!("checkpoint of {phase}").into(),
                    problem: format!(
                        "it has no average of the weights, which {phase}.ema_decay asks for; put \
                         that back to 0, or do the phase anew with --redo {phase}"
                    ),
                });
            }
            average.model = restore_model(average.model.clone(), state, (AVERAGE, phase))?;
        }
        let (steps, moments) = (position.optimiser_steps, under(state, OPTIMISER));
        let device = &self.device;
        let scale = state.get(LOSS_SCALE).map(LossScale::of_state);
        let restore = |_, optimiser: &mut AdamW<_>| optimiser.restore(steps, &moments, device);
        self.replicas.restore(model, scale, restore);
        Ok(())
    }

    fn write_best(&self, folder: &RunFolder, origin: &Origin) -> Result<(), TrainError> {
        let tensors = state::export(&self.weights());
        let model = (&self.architecture, &self.input);
        results::write(&folder.best(self.phase), tensors, Some(model), origin)
    }
}

/// The tensors whose names begin with a prefix, without it.
pub(crate) fn under(state: &StateDict, prefix: &str) -> StateDict {
    let inside = state.iter().filter_map(|(name, data)| Some((name.strip_prefix(prefix)?, data)));
    inside.map(|(name, data)| (name.to_string(), data.clone())).collect()
}

/// A model with a checkpoint's weights under a prefix.
pub(crate) fn restore_model<B: Backend, M: state::Named<B>>(
    model: M,
    state: &StateDict,
    (prefix, phase): (&str, Phase),
) -> Result<M, TrainError> {
    state::import_owned(model, under(state, prefix)).map_err(|error| TrainError::State {
        path: format!("checkpoint of {phase}").into(),
        error,
        hint: String::new(),
    })
}
