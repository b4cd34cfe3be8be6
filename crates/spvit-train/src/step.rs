//! One training step, the same for pretraining, search and fine-tuning: what differs between them is
//! an [`Objective`].
//!
//! [`Replicas::step`] cuts a batch into micro-batches, computes their losses and gradients, some at the
//! same time on replicas of the model and these one after another, sums gradients and batch statistics
//! in the micro-batches' order, clips, and steps an optimiser for every group of parameters.

mod options;

use std::marker::PhantomData;

use burn::module::AutodiffModule;
use burn::tensor::{Tensor, TensorData};
use spvit_core::TrainBackend;
use spvit_data::Batch;
use spvit_layers::{BatchStatistics, DropPath, Mode, TrainContext, apply_batch_statistics};

pub use options::{Group, StepOptions};

use crate::{
    loss,
    micro_batch::{self, MicroBatch, Part},
    optim::{AdamW, Gradients},
    random::drop_path_factors,
};

/// What is trained: modules, each of which is a group of parameters with an optimiser of its own.
/// A module by itself is one group.
pub trait Trainable<B: TrainBackend>: Clone + Send {
    /// Shows every group, in a fixed order.
    fn visit_groups(&self, visitor: &mut impl GroupVisitor<B>);

    /// Changes every group, in the same order.
    fn map_groups(self, mapper: &mut impl GroupMapper<B>) -> Self;
}

/// Is shown groups of parameters.
pub trait GroupVisitor<B: TrainBackend> {
    /// A group.
    fn group<M: AutodiffModule<B>>(&mut self, module: &M);
}

/// Changes groups of parameters.
pub trait GroupMapper<B: TrainBackend> {
    /// A group.
    fn group<M: AutodiffModule<B>>(&mut self, module: M) -> M;
}

impl<B: TrainBackend, M: AutodiffModule<B>> Trainable<B> for M {
    fn visit_groups(&self, visitor: &mut impl GroupVisitor<B>) {
        visitor.group(self);
    }

    fn map_groups(self, mapper: &mut impl GroupMapper<B>) -> Self {
        mapper.group(self)
    }
}

/// The loss of a micro-batch and the logits that it was computed from.
pub struct Loss<B: TrainBackend> {
    /// The micro-batch's part of the batch's loss, `[1]`.
    pub value: Tensor<B, 1>,
    /// `[count, classes]`.
    pub logits: Tensor<B, 2>,
}

/// What differs between pretraining, search and fine-tuning.
pub trait Objective<B: TrainBackend>: Sync {
    /// What is trained.
    type Model: Trainable<B>;

    /// The loss of one micro-batch. Those of a batch are added up, so that a mean over images is
    /// divided by [`MicroBatch::total`], and what belongs to the batch as a whole is added where
    /// [`MicroBatch::start`] is 0.
    fn loss(&self, model: &Self::Model, batch: &MicroBatch<B>, context: &StepContext<B>)
    -> Loss<B>;
}

/// What a loss may depend on besides the model and the images.
pub struct StepContext<B: TrainBackend> {
    /// The step, counted from 0.
    pub number: u64,
    /// Seed of every random decision.
    pub seed: u64,
    /// Dropped paths, and the batch statistics that the forward pass leaves.
    pub train: TrainContext<B>,
}

impl<B: TrainBackend> StepContext<B> {
    /// For the model's forward pass.
    pub fn mode(&self) -> Mode<'_, B> {
        Mode::Train(&self.train)
    }
}

/// A step's figures.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepReport {
    /// Mean loss of the batch.
    pub loss: f64,
    /// Images classified rightly.
    pub correct: usize,
}

/// What a batch gives before anything is changed.
pub struct StepGradients<B: TrainBackend> {
    /// The figures.
    pub report: StepReport,
    /// Gradients of every group, summed over the micro-batches, unclipped.
    pub groups: Vec<Gradients<B::InnerBackend>>,
    /// Batch statistics of every micro-batch.
    pub statistics: Vec<Vec<BatchStatistics<B>>>,
}

/// A model in training on one device: its objective, and an optimiser for each of its groups.
pub struct Replicas<B: TrainBackend, O: Objective<B>> {
    objective: O,
    model: O::Model,
    optimisers: Vec<(AdamW<B::InnerBackend>, f64)>,
    options: StepOptions,
    device: B::Device,
}

impl<B: TrainBackend, O: Objective<B>> Replicas<B, O> {
    /// A model before its first step; `groups` holds one for each of the model's.
    pub fn new(
        objective: O,
        model: O::Model,
        groups: impl IntoIterator<Item = Group>,
        options: StepOptions,
        device: &B::Device,
    ) -> Self {
        let optimiser = |group: Group| {
            (AdamW::new(group.optimiser).without_decay(group.no_weight_decay), group.clip_norm)
        };
        let optimisers = groups.into_iter().map(optimiser).collect();
        Self { objective, model, optimisers, options, device: device.clone() }
    }

    /// What is trained.
    pub fn model(&self) -> &O::Model {
        &self.model
    }

    /// The objective.
    pub fn objective(&self) -> &O {
        &self.objective
    }

    /// The groups' optimisers.
    pub fn optimisers(&self) -> impl Iterator<Item = &AdamW<B::InnerBackend>> {
        self.optimisers.iter().map(|(optimiser, _)| optimiser)
    }

    /// Takes up where a saved model stopped: its parameters, and what `restore` gives back to the
    /// optimiser of every group.
    pub fn restore(
        &mut self,
        model: O::Model,
        mut restore: impl FnMut(usize, &mut AdamW<B::InnerBackend>),
    ) {
        self.model = model;
        for (group, (optimiser, _)) in self.optimisers.iter_mut().enumerate() {
            restore(group, optimiser);
        }
    }

    /// Changes what is trained, its optimisers going on as they are.
    pub fn change(&mut self, change: impl FnOnce(O::Model) -> O::Model) {
        self.model = change(self.model.clone());
    }

    /// Trains on one batch: `number` is the step, counted from 0, and `rates` holds the learning rate
    /// of every group.
    ///
    /// # Panics
    /// If there is not one rate for each group.
    pub fn step(&mut self, batch: &Batch, number: u64, rates: &[f64]) -> StepReport {
        let gradients = self.gradients(batch, number);
        let report = gradients.report;
        self.apply(gradients, rates);
        report
    }

    /// The first half of a step: figures, gradients and batch statistics, which change nothing.
    pub fn gradients(&self, batch: &Batch, number: u64) -> StepGradients<B> {
        let Self { objective, model, options, device, .. } = self;
        let at_once = options.micro_batches.max(1);
        let parts = micro_batch::split(batch, at_once.saturating_mul(options.accumulate));
        let single = at_once == 1 || parts.len() == 1;
        let fork = || match single {
            true => model.clone(),
            false => model.clone().map_groups(&mut Fork::<B>(device)),
        };
        let work = |model: O::Model, part: Part| {
            let (batch, labels) = part.upload::<B>(device);
            let train = train_context(*options, number, &batch);
            let context = StepContext { number, seed: options.seed, train };
            let Loss { value, logits } = objective.loss(&model, &batch, &context);
            let mut gradients = value.backward();
            let report = StepReport {
                loss: value.into_data().iter::<f64>().sum(),
                correct: loss::correct(logits.into_data(), &labels),
            };
            let mut collector = Collector::<B> { gradients: &mut gradients, groups: Vec::new() };
            model.visit_groups(&mut collector);
            (report, collector.groups, context.train.into_statistics())
        };

        let mut sum = StepGradients {
            report: StepReport::default(),
            groups: Vec::new(),
            statistics: Vec::new(),
        };
        let mut parts = parts.into_iter().peekable();
        while parts.peek().is_some() {
            let some = parts.by_ref().take(at_once).collect();
            for (report, groups, statistics) in micro_batch::run::<B, _, _>(some, fork, work) {
                sum.report.loss += report.loss;
                sum.report.correct += report.correct;
                sum.statistics.push(statistics);
                match sum.groups.is_empty() {
                    true => sum.groups = groups,
                    false => sum.groups.iter_mut().zip(groups).for_each(|(sum, own)| sum.add(own)),
                }
            }
        }
        sum
    }

    /// The second half: clips, steps every optimiser and moves the running statistics.
    ///
    /// # Panics
    /// If there is not one rate for each group.
    pub fn apply(&mut self, gradients: StepGradients<B>, rates: &[f64]) {
        let StepGradients { mut groups, statistics, .. } = gradients;
        let Self { model, optimisers, .. } = self;
        assert_eq!(rates.len(), optimisers.len(), "one learning rate for each group");
        B::in_pool(|| {
            for (gradients, (_, clip_norm)) in groups.iter_mut().zip(optimisers.iter()) {
                if *clip_norm > 0.0 {
                    gradients.clip(*clip_norm);
                }
            }
            let groups = groups.iter().zip(optimisers).zip(rates);
            let groups =
                groups.map(|((gradients, (optimiser, _)), rate)| (optimiser, gradients, *rate));
            let updated = model.clone().map_groups(&mut Optimise::<B, _>(groups, PhantomData));
            *model = updated.map_groups(&mut MoveStatistics(statistics));
        });
    }
}

/// Dropped paths of one micro-batch of a step.
fn train_context<B: TrainBackend>(
    options: StepOptions,
    number: u64,
    batch: &MicroBatch<B>,
) -> TrainContext<B> {
    let StepOptions { seed, drop_path, depth, .. } = options;
    if drop_path == 0.0 {
        return TrainContext::new();
    }
    let MicroBatch { start, total, .. } = *batch;
    let all = drop_path_factors(seed, number, drop_path, depth, total);
    let all = TensorData::new(all, [2 * depth, total]);
    let factors = Tensor::<B, 2>::from_data(all, &batch.images.device());
    let count = batch.images.dims()[0];
    TrainContext::with_drop_path(DropPath { factors: factors.narrow(1, start, count) })
}

/// Makes a copy's parameters roots of a graph of their own.
struct Fork<'a, B: TrainBackend>(&'a B::Device);

impl<B: TrainBackend> GroupMapper<B> for Fork<'_, B> {
    fn group<M: AutodiffModule<B>>(&mut self, module: M) -> M {
        module.fork(self.0)
    }
}

struct Collector<'a, B: TrainBackend> {
    gradients: &'a mut B::Gradients,
    groups: Vec<Gradients<B::InnerBackend>>,
}

impl<B: TrainBackend> GroupVisitor<B> for Collector<'_, B> {
    fn group<M: AutodiffModule<B>>(&mut self, module: &M) {
        self.groups.push(Gradients::of::<B, M>(module, self.gradients));
    }
}

/// Steps every group's optimiser in turn.
struct Optimise<B, I>(I, PhantomData<B>);

impl<'a, B, I> GroupMapper<B> for Optimise<B, I>
where
    B: TrainBackend,
    B::InnerBackend: 'a,
    I: Iterator<Item = (&'a mut AdamW<B::InnerBackend>, &'a Gradients<B::InnerBackend>, f64)>,
{
    fn group<M: AutodiffModule<B>>(&mut self, module: M) -> M {
        match self.0.next() {
            Some((optimiser, gradients, rate)) => optimiser.step::<B, M>(module, gradients, rate),
            None => module,
        }
    }
}

struct MoveStatistics<B: TrainBackend>(Vec<Vec<BatchStatistics<B>>>);

impl<B: TrainBackend> GroupMapper<B> for MoveStatistics<B> {
    fn group<M: AutodiffModule<B>>(&mut self, module: M) -> M {
        apply_batch_statistics(module, self.0.clone())
    }
}
