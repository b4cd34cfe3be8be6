//! A replica: what is trained, on one device, with its optimisers.

use std::marker::PhantomData;

use burn::module::AutodiffModule;
use burn::tensor::{Tensor, TensorData};
use spvit_core::TrainBackend;
use spvit_layers::{BatchStatistics, DropPath, TrainContext, apply_batch_statistics};

use super::{
    Figures, GroupMapper, GroupVisitor, Loss, Objective, StepContext, StepGradients, StepOptions,
    Trainable,
};
use crate::{
    micro_batch::{self, MicroBatch, Part},
    optim::{AdamW, Gradients},
    random::drop_path_factors,
};

pub(super) struct Replica<B: TrainBackend, O: Objective<B>> {
    pub objective: O,
    pub model: O::Model,
    /// Every group's, and the largest norm of its gradients.
    pub optimisers: Vec<(AdamW<B::InnerBackend>, f64)>,
    pub device: B::Device,
}

impl<B: TrainBackend, O: Objective<B>> Replica<B, O> {
    /// The same on another device.
    pub fn copy(&self, device: &B::Device) -> Self {
        let optimisers = self.optimisers.iter();
        Self {
            objective: self.objective.on_device(device),
            model: self.model.clone().map_groups(&mut Fork::<B>(device)),
            optimisers: optimisers.map(|(own, clip)| (own.on_device(device), *clip)).collect(),
            device: device.clone(),
        }
    }

    /// What computes its gradients.
    pub fn part(&self) -> Compute<'_, B, O> {
        Compute { objective: &self.objective, model: self.model.clone(), device: &self.device }
    }

    /// Clips, steps every optimiser and moves the running statistics.
    pub fn apply(
        &mut self,
        groups: Vec<Gradients<B::InnerBackend>>,
        statistics: Vec<Vec<BatchStatistics<B>>>,
        rates: &[f64],
    ) {
        let Self { model, optimisers, device, .. } = self;
        B::in_pool(|| {
            let groups = groups.iter().zip(optimisers).zip(rates);
            let groups = groups.map(|((gradients, (optimiser, clip_norm)), rate)| {
                (optimiser, gradients, Some(*clip_norm).filter(|limit| *limit > 0.0), *rate)
            });
            let updated = model.clone().map_groups(&mut Optimise::<B, _>(groups, PhantomData));
            let here = |statistics: BatchStatistics<B>| statistics.to_device(device);
            let statistics = statistics.into_iter();
            let statistics = statistics.map(|own| own.into_iter().map(here).collect()).collect();
            *model = updated.map_groups(&mut MoveStatistics(statistics));
        });
    }
}

/// What computes a replica's gradients, on whatever thread.
pub(super) struct Compute<'a, B: TrainBackend, O: Objective<B>> {
    objective: &'a O,
    model: O::Model,
    device: &'a B::Device,
}

impl<B: TrainBackend, O: Objective<B>> Compute<'_, B, O> {
    /// Sums over micro-batches, their figures unread; without any of them nothing. `replicas` compute theirs at
    /// the same time.
    pub fn gradients(
        self,
        parts: Vec<Part>,
        number: u64,
        (options, factor, replicas): (StepOptions, f64, usize),
    ) -> StepGradients<B> {
        let Self { objective, model, device } = self;
        let at_once = options.micro_batches.max(1);
        let single = at_once == 1 || parts.len() == 1;
        let fork = || match single {
            true => model.clone(),
            false => model.clone().map_groups(&mut Fork::<B>(device)),
        };
        let work = |model: O::Model, part: Part| {
            let (batch, labels) = part.upload::<B>(device);
            let train = train_context(options, number, &batch);
            let context = StepContext { number, seed: options.seed, train };
            let loss = || objective.loss(&model, &batch, &context);
            let Loss { value, logits } = options.precision.within(loss);
            let scaled = if factor == 1.0 { value.clone() } else { value.clone() * factor };
            let mut gradients = scaled.backward();
            let figures = Figures { loss: value.inner(), logits: logits.inner(), labels };
            let mut collector = Collector::<B> { gradients: &mut gradients, groups: Vec::new() };
            model.visit_groups(&mut collector);
            (figures, collector.groups, context.train.into_statistics())
        };

        let mut sum = StepGradients::default();
        let mut parts = parts.into_iter().peekable();
        while parts.peek().is_some() {
            let some = parts.by_ref().take(at_once).collect();
            for (figures, groups, statistics) in
                micro_batch::run::<B, _, _>(some, replicas, fork, work)
            {
                sum.unread.push(figures);
                sum.statistics.push(statistics);
                match sum.groups.is_empty() {
                    true => sum.groups = groups,
                    false => sum.groups.iter_mut().zip(groups).for_each(|(sum, own)| sum.add(own)),
                }
            }
        }
        if factor != 1.0 {
            sum.groups.iter_mut().for_each(|group| group.scale(1.0 / factor));
        }
        sum
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
    let MicroBatch { places, total, images, .. } = batch;
    let all = drop_path_factors(seed, number, drop_path, depth, *total);
    let own: Vec<f32> =
        all.chunks_exact(*total).flat_map(|row| places.iter().map(|&place| row[place])).collect();
    let own = TensorData::new(own, [2 * depth, places.len()]);
    TrainContext::with_drop_path(DropPath { factors: Tensor::from_data(own, &images.device()) })
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
    I: Iterator<
        Item = (&'a mut AdamW<B::InnerBackend>, &'a Gradients<B::InnerBackend>, Option<f64>, f64),
    >,
{
    fn group<M: AutodiffModule<B>>(&mut self, module: M) -> M {
        match self.0.next() {
            Some((optimiser, gradients, limit, rate)) => {
                optimiser.step::<B, M>(module, gradients, limit, rate)
            }
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
