//! Training of dense and compact models: pretraining and fine-tuning.

use burn::module::{AutodiffModule, Module};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use spvit_core::TrainBackend;
use spvit_data::{Batch, Loader};
use spvit_interchange::weights;
use spvit_layers::{
    DropPath, Mode, TrainContext, Vit, apply_batch_statistics,
    state::{self, StateDict},
};
use spvit_search::Architecture;

use crate::{
    TrainError,
    config::TrainingConfig,
    evaluate::accuracy,
    folder::{Position, RunFolder},
    optim::{AdamW, AdamWConfig, Gradients},
    random::drop_path_factors,
    shards::{self, Score, Shard},
    stage::{Stage, StepReport, Validation},
};

/// A teacher and the share of the loss that follows it.
pub(crate) struct Teacher<B: TrainBackend> {
    pub model: Vit<B::InnerBackend>,
    pub share: f64,
}

/// A model in training, and how.
pub(crate) struct Classify<B: TrainBackend, const PRETRAIN: bool> {
    pub model: Vit<B>,
    pub architecture: Architecture,
    pub optimiser: AdamW<B::InnerBackend>,
    pub training: TrainingConfig,
    pub teacher: Option<Teacher<B>>,
    pub seed: u64,
    pub shards: usize,
    pub device: B::Device,
}

/// Training from scratch.
pub(crate) type Pretrain<B> = Classify<B, true>;
/// Training of a compact model.
pub(crate) type Finetune<B> = Classify<B, false>;

impl<B: TrainBackend, const PRETRAIN: bool> Classify<B, PRETRAIN> {
    pub fn new(
        model: Vit<B>,
        architecture: Architecture,
        training: TrainingConfig,
        (seed, shards): (u64, usize),
        device: &B::Device,
    ) -> Self {
        let optimiser = AdamW::new(AdamWConfig::new(training.weight_decay));
        let device = device.clone();
        Self { model, architecture, optimiser, training, teacher: None, seed, shards, device }
    }
}

/// Drop-path factors of one shard of a step.
pub(crate) fn context<B: Backend>(
    rate: f64,
    (seed, step): (u64, usize),
    depth: usize,
    shard: &Shard,
    device: &B::Device,
) -> TrainContext<B> {
    if rate == 0.0 {
        return TrainContext::new();
    }
    let all = drop_path_factors(seed, step as u64, rate, depth, shard.total);
    let data = TensorData::new(all, [2 * depth, shard.total]);
    let factors = Tensor::<B, 2>::from_data(data, device).narrow(1, shard.start, shard.count);
    TrainContext::with_drop_path(DropPath { factors })
}

/// Cross-entropy against the classes that the teacher chooses (hard distillation).
fn distillation<B: TrainBackend>(
    teacher: &Vit<B::InnerBackend>,
    shard: &Shard,
    logits: Tensor<B, 2>,
    device: &B::Device,
) -> Tensor<B, 1> {
    let images = Tensor::from_data(shard.images.clone(), device);
    let classes = shards::classes(teacher.forward(images, &Mode::Evaluate).into_data());
    let width = logits.dims()[1];
    let mut targets = vec![0.0f32; classes.len() * width];
    for (row, class) in classes.into_iter().enumerate() {
        targets[row * width + class] = 1.0;
    }
    let targets = Tensor::from_data(TensorData::new(targets, [shard.count, width]), device);
    shards::cross_entropy(logits, targets, shard.total)
}

impl<B: TrainBackend, const PRETRAIN: bool> Stage for Classify<B, PRETRAIN> {
    const NAME: &'static str = if PRETRAIN { "pretrain" } else { "finetune" };

    fn step(&mut self, batch: &Batch, step: usize, rate: f64) -> Result<StepReport, TrainError> {
        let device = &self.device;
        let parts = shards::split(batch, self.shards);
        let single = parts.len() == 1;
        let fork = || {
            let teacher =
                self.teacher.as_ref().map(|teacher| (teacher.model.clone(), teacher.share));
            match single {
                true => (self.model.clone(), teacher),
                false => (self.model.clone().fork(device), teacher),
            }
        };
        let depth = self.model.blocks.len();
        let results = shards::run(parts, fork, |(model, teacher), shard| {
            let drop_path = self.training.drop_path;
            let context = context::<B>(drop_path, (self.seed, step), depth, &shard, device);
            let images = Tensor::from_data(shard.images.clone(), device);
            let logits = model.forward(images, &Mode::Train(&context));
            let targets = Tensor::from_data(shard.targets.clone(), device);
            let mut loss = shards::cross_entropy(logits.clone(), targets, shard.total);
            if let Some((teacher, share)) = teacher {
                let follow = distillation::<B>(&teacher, &shard, logits.clone(), device);
                loss = loss * (1.0 - share) + follow * share;
            }
            let mut gradients = loss.backward();
            let score = Score {
                loss: loss.into_data().iter::<f64>().sum(),
                correct: shards::correct(logits.into_data(), &shard.labels),
            };
            let gradients = Gradients::of::<B, _>(&model, &mut gradients);
            (score, gradients, context.into_statistics())
        });

        let (mut report, mut total, mut statistics) =
            (StepReport { loss: 0.0, correct: 0 }, None::<Gradients<_>>, Vec::new());
        for (score, gradients, own) in results {
            report.loss += score.loss;
            report.correct += score.correct;
            statistics.push(own);
            match &mut total {
                Some(total) => total.add(gradients),
                None => total = Some(gradients),
            }
        }
        if let Some(mut gradients) = total {
            if self.training.clip_norm > 0.0 {
                gradients.clip(self.training.clip_norm);
            }
            let model = self.model.clone();
            let model = self.optimiser.step::<B, _>(model, &gradients, rate);
            self.model = apply_batch_statistics(model, statistics);
        }
        Ok(report)
    }

    fn validate(&mut self, images: &Loader) -> Result<Validation, TrainError> {
        let accuracy = accuracy(&self.model.valid(), images, &self.device);
        Ok(Validation { accuracy, derived_flops: None, eligible: true })
    }

    fn state(&self) -> StateDict {
        let model = state::export(&self.model.valid());
        let model = model.into_iter().map(|(name, data)| (format!("model.{name}"), data));
        let moments = self.optimiser.state().into_iter();
        model.chain(moments.map(|(name, data)| (format!("optimiser.{name}"), data))).collect()
    }

    fn optimiser_steps(&self) -> i32 {
        self.optimiser.count()
    }

    fn restore(&mut self, position: &Position, state: &StateDict) -> Result<(), TrainError> {
        self.model = restore_model(self.model.clone(), state, Self::NAME)?;
        let moments = under(state, "optimiser.");
        self.optimiser.restore(position.optimiser_steps, &moments, &self.device);
        Ok(())
    }

    fn write_best(&self, folder: &RunFolder) -> Result<(), TrainError> {
        let path = folder.best(Self::NAME);
        Ok(weights::write_model(&path, &self.model.valid(), &self.architecture)?)
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
    stage: &str,
) -> Result<M, TrainError> {
    state::import_owned(model, under(state, "model.")).map_err(|error| TrainError::State {
        path: format!("checkpoint of {stage}").into(),
        error,
        hint: String::new(),
    })
}
