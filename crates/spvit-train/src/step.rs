//! One training step, the same for pretraining, search and fine-tuning: what differs between them is
//! an [`Objective`].
//!
//! [`Replicas::step`] gives every device an equal part of a batch, cuts that into micro-batches, computes
//! their losses and gradients, some at the same time on replicas of the model and these one after another,
//! sums gradients and batch statistics in the micro-batches' order and over the devices, clips, and steps an
//! optimiser for every group of parameters on every device.

mod figures;
mod options;
mod replica;
mod scale;
mod together;

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use spvit_core::{Precision, TrainBackend};
use spvit_data::Batch;
use spvit_layers::{BatchStatistics, Mode, TrainContext};

pub use options::{Group, StepOptions};
pub use scale::LossScale;

use crate::{
    Devices, Processes, TrainError,
    micro_batch::{self, MicroBatch},
    optim::{AdamW, Gradients},
};
use figures::Figures;
use replica::Replica;

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
pub trait Objective<B: TrainBackend>: Send + Sync {
    /// What is trained.
    type Model: Trainable<B>;

    /// The loss of one micro-batch. Those of a batch are added up, so that a mean over images is
    /// divided by [`MicroBatch::total`], and what belongs to the batch as a whole is added where
    /// [`MicroBatch::first`] is 0.
    fn loss(&self, model: &Self::Model, batch: &MicroBatch<B>, context: &StepContext<B>)
    -> Loss<B>;

    /// What the loss of step `number` needs to know on the host, where it can be computed beforehand: it is read
    /// together with the figures of the step before, and [`Objective::told`] brings it.
    fn ahead(
        &self,
        _model: &Self::Model,
        _number: u64,
        _seed: u64,
    ) -> Option<Tensor<B::InnerBackend, 1>> {
        None
    }

    /// Takes what [`Objective::ahead`] gave for a step; none where that holds no longer.
    fn told(&mut self, _ahead: Option<(u64, Vec<f32>)>) {}

    /// The same on another device.
    fn on_device(&self, device: &B::Device) -> Self;
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
    /// Gradients of every group, summed over the micro-batches of all devices, unclipped.
    pub groups: Vec<Gradients<B::InnerBackend>>,
    /// The same on every other device.
    others: Vec<Vec<Gradients<B::InnerBackend>>>,
    /// Figures that are not in the report yet.
    unread: Vec<Figures<B::InnerBackend>>,
    /// Batch statistics of every micro-batch.
    pub statistics: Vec<Vec<BatchStatistics<B>>>,
}

impl<B: TrainBackend> Default for StepGradients<B> {
    fn default() -> Self {
        let report = StepReport::default();
        let (groups, others) = (Vec::new(), Vec::new());
        Self { report, groups, others, unread: Vec::new(), statistics: Vec::new() }
    }
}

/// A model in training, on one device or on several: its objective, and an optimiser for each of its
/// groups.
pub struct Replicas<B: TrainBackend, O: Objective<B>> {
    first: Replica<B, O>,
    /// The same on the other devices.
    others: Vec<Replica<B, O>>,
    options: StepOptions,
    /// Of the loss, with float16.
    scale: Option<LossScale>,
    devices: Devices<B>,
}

impl<B: TrainBackend, O: Objective<B>> Replicas<B, O> {
    /// A model before its first step, on the device that holds it and on the others; `groups` holds one
    /// for each of the model's.
    pub fn new(
        objective: O,
        model: O::Model,
        groups: impl IntoIterator<Item = Group>,
        options: StepOptions,
        devices: &Devices<B>,
    ) -> Self {
        let optimiser = |group: Group| {
            (AdamW::new(group.optimiser).without_decay(group.no_weight_decay), group.clip_norm)
        };
        let optimisers = groups.into_iter().map(optimiser).collect();
        let device = devices.first().clone();
        let first = Replica { objective, model, optimisers, device };
        let others = devices.others().iter().map(|device| first.copy(device)).collect();
        let scale = (options.precision == Precision::F16).then(LossScale::default);
        Self { first, others, options, scale, devices: devices.clone() }
    }

    /// What is trained.
    pub fn model(&self) -> &O::Model {
        &self.first.model
    }

    /// The processes that train together.
    pub fn processes(&self) -> &Processes {
        self.devices.processes()
    }

    /// The objective.
    pub fn objective(&self) -> &O {
        &self.first.objective
    }

    /// The groups' optimisers.
    pub fn optimisers(&self) -> impl Iterator<Item = &AdamW<B::InnerBackend>> {
        self.first.optimisers.iter().map(|(optimiser, _)| optimiser)
    }

    /// The factor of the loss, where float16 wants one.
    pub fn loss_scale(&self) -> Option<LossScale> {
        self.scale
    }

    /// Takes up where a saved model stopped, on however many devices that was: its parameters, the loss's
    /// factor, and what `restore` gives back to the optimiser of every group.
    pub fn restore(
        &mut self,
        model: O::Model,
        scale: Option<LossScale>,
        mut restore: impl FnMut(usize, &mut AdamW<B::InnerBackend>),
    ) {
        let Self { first, others, scale: own, .. } = self;
        *own = own.and(scale.or(*own));
        first.model = model;
        for (group, (optimiser, _)) in first.optimisers.iter_mut().enumerate() {
            restore(group, optimiser);
        }
        for other in others {
            *other = first.copy(&other.device);
        }
        self.tell(None);
    }

    /// Changes what is trained in the same way on every device, the optimisers going on as they are.
    pub fn change(&mut self, change: impl Fn(O::Model) -> O::Model) {
        for replica in std::iter::once(&mut self.first).chain(&mut self.others) {
            replica.model = change(replica.model.clone());
        }
        self.tell(None);
    }

    fn tell(&mut self, ahead: Option<(u64, Vec<f32>)>) {
        for replica in std::iter::once(&mut self.first).chain(&mut self.others) {
            replica.objective.told(ahead.clone());
        }
    }

    /// Trains on one batch: `number` is the step, counted from 0, and `rates` holds the learning rate
    /// of every group. With float16 nothing changes but the loss's factor where gradients overflow. On one
    /// device it waits for that once, when all is done (with float16 also for the gradients' norm).
    ///
    /// # Errors
    /// [`TrainError::Devices`] if gradients cannot be exchanged; nothing has changed then.
    ///
    /// # Panics
    /// If there is not one rate for each group, or the batch lacks the images of this process's part.
    pub fn step(
        &mut self,
        batch: &Batch,
        number: u64,
        rates: &[f64],
    ) -> Result<StepReport, TrainError> {
        let mut gradients = self.compute(batch, number)?;
        if let Some(scale) = &mut self.scale {
            let finite = gradients.groups.iter().all(Gradients::is_finite);
            *scale = scale.after(finite);
            if !finite {
                gradients.read();
                return Ok(gradients.report);
            }
        }
        let (report, unread) = (gradients.report, std::mem::take(&mut gradients.unread));
        self.apply(gradients, rates);
        let Replica { objective, model, .. } = &self.first;
        let ahead = objective.ahead(model, number + 1, self.options.seed);
        let (report, ahead) = figures::read(report, unread, ahead);
        self.tell(ahead.map(|values| (number + 1, values)));
        Ok(report)
    }

    /// The first half of a step: figures, gradients and batch statistics, which change nothing. Every
    /// device computes an equal part of the batch.
    ///
    /// # Errors
    /// [`TrainError::Devices`] if gradients cannot be exchanged.
    ///
    /// # Panics
    /// If the batch lacks the images of this process's part.
    pub fn gradients(&self, batch: &Batch, number: u64) -> Result<StepGradients<B>, TrainError> {
        let mut gradients = self.compute(batch, number)?;
        gradients.read();
        Ok(gradients)
    }

    /// [`Replicas::gradients`], on one device with the figures unread.
    fn compute(&self, batch: &Batch, number: u64) -> Result<StepGradients<B>, TrainError> {
        let Self { first, others, options, scale, devices } = self;
        let factor = scale.map_or(1.0, |scale| scale.factor);
        let (replicas, processes, total) = (1 + others.len(), devices.processes(), batch.shape[0]);
        let cut = devices.cut(options.micro_batches, options.accumulate);
        let parts = micro_batch::split(batch, &cut);
        if devices.count() == 1 {
            return Ok(first.part().gradients(parts, number, (*options, factor, replicas)));
        }
        let (share, idle) = (cut.share(total), cut.is_idle(total));
        let mut parts = parts.into_iter();
        let mut next = || parts.by_ref().take(share).collect::<Vec<_>>();
        let own = next();
        let theirs = others.iter().map(|replica| (replica.part(), next())).collect();
        let read = |own: replica::Compute<B, O>, parts| {
            let mut found = own.gradients(parts, number, (*options, factor, replicas));
            found.read();
            found
        };
        let mut found = micro_batch::at_once(
            || read(first.part(), own),
            theirs,
            |(own, parts)| read(own, parts),
        );
        if idle {
            found.iter_mut().for_each(StepGradients::count_for_nothing);
        }
        let groups = found.iter_mut().map(|found| std::mem::take(&mut found.groups)).collect();
        let mut summed = devices.sum(groups)?.into_iter();
        let mut all = StepGradients::default();
        for mut found in found {
            all.report.loss += found.report.loss;
            all.report.correct += found.report.correct;
            all.statistics.append(&mut found.statistics);
        }
        all.groups = summed.next().unwrap_or_default();
        all.others = summed.collect();
        all.over(processes, !idle, &first.device)
    }

    /// The second half: clips, steps every optimiser and moves the running statistics.
    ///
    /// # Panics
    /// If there is not one rate for each group.
    pub fn apply(&mut self, gradients: StepGradients<B>, rates: &[f64]) {
        let StepGradients { groups, others, statistics, .. } = gradients;
        assert_eq!(rates.len(), self.first.optimisers.len(), "one learning rate for each group");
        let first = &mut self.first;
        let theirs = self.others.iter_mut().zip(others).collect();
        micro_batch::at_once(
            || first.apply(groups, statistics.clone(), rates),
            theirs,
            |(replica, groups): (&mut Replica<B, O>, _)| {
                replica.apply(groups, statistics.clone(), rates);
            },
        );
    }
}
