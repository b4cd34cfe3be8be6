//! What a forward pass needs to know and collects in training.

use std::cell::RefCell;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Tensor, backend::Backend};

/// Weight of a new batch in the running statistics, as in the published code.
const MOMENTUM: f64 = 0.1;

/// Training or evaluation.
#[derive(Debug, Clone, Copy)]
pub enum Mode<'a, B: Backend> {
    /// Running statistics, no dropped paths.
    Evaluate,
    /// The batch's own statistics; see [`TrainContext`].
    Train(&'a TrainContext<B>),
}

/// Mean and unbiased variance of one batch in one [`BatchNorm`](crate::BatchNorm).
#[derive(Debug, Clone)]
pub struct BatchStatistics<B: Backend> {
    /// The running mean that they move.
    pub mean_id: ParamId,
    /// The running variance that they move.
    pub variance_id: ParamId,
    /// Mean `[dim]`.
    pub mean: Tensor<B, 1>,
    /// Unbiased variance `[dim]`.
    pub variance: Tensor<B, 1>,
}

impl<B: Backend> BatchStatistics<B> {
    /// The same on a device.
    pub fn to_device(self, device: &B::Device) -> Self {
        let Self { mean, variance, .. } = self;
        Self { mean: mean.to_device(device), variance: variance.to_device(device), ..self }
    }
}

/// Factors of the residual branches of one step: 0 for a dropped path, `1/(1 - rate)` otherwise.
#[derive(Debug, Clone)]
pub struct DropPath<B: Backend> {
    /// `[2·depth, batch]`: for block i, row 2i scales the attention branch, row 2i+1 the FFN.
    pub factors: Tensor<B, 2>,
}

/// One training step's context: what layers use, and what they collect.
#[derive(Debug, Default)]
pub struct TrainContext<B: Backend> {
    drop_path: Option<DropPath<B>>,
    statistics: RefCell<Vec<BatchStatistics<B>>>,
}

impl<B: Backend> TrainContext<B> {
    /// A context without dropped paths.
    pub fn new() -> Self {
        Self { drop_path: None, statistics: RefCell::new(Vec::new()) }
    }

    /// A context that scales residual branches (stochastic depth).
    pub fn with_drop_path(drop_path: DropPath<B>) -> Self {
        Self { drop_path: Some(drop_path), ..Self::new() }
    }

    pub(crate) fn record(&self, statistics: BatchStatistics<B>) {
        self.statistics.borrow_mut().push(statistics);
    }

    /// Statistics of the batch normalisations that were computed, in order.
    pub fn into_statistics(self) -> Vec<BatchStatistics<B>> {
        self.statistics.into_inner()
    }
}

impl<B: Backend> Mode<'_, B> {
    /// Drop-path factors of a residual branch, of every token `[batch·tokens, 1]`.
    pub(crate) fn branch_factors(&self, row: usize, tokens: usize) -> Option<Tensor<B, 2>> {
        let Self::Train(TrainContext { drop_path: Some(drop_path), .. }) = self else {
            return None;
        };
        let batch = drop_path.factors.dims()[1];
        let factors = drop_path.factors.clone().narrow(0, row, 1).reshape([batch, 1]);
        Some(factors.repeat_dim(1, tokens).reshape([batch * tokens, 1]))
    }
}

/// Moves the running statistics of a model by those of one step's shards (Eq. 9): `0.9·running +
/// 0.1·batch`, the shards' statistics averaged in their order.
pub fn apply_batch_statistics<B: Backend, M: Module<B>>(
    model: M,
    shards: Vec<Vec<BatchStatistics<B>>>,
) -> M {
    if shards.iter().all(Vec::is_empty) {
        return model;
    }
    model.map(&mut Mover { count: shards.len() as f64, shards })
}

struct Mover<B: Backend> {
    shards: Vec<Vec<BatchStatistics<B>>>,
    count: f64,
}

impl<B: Backend> ModuleMapper<B> for Mover<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let id = param.id;
        let found = self.shards.iter().flatten().filter_map(|s| match () {
            () if s.mean_id == id => Some(s.mean.clone()),
            () if s.variance_id == id => Some(s.variance.clone()),
            () => None,
        });
        let Some(sum) = found.reduce(|a, b| a + b) else { return param };
        let shape = param.shape();
        param.map(|running| {
            running * (1.0 - MOMENTUM) + sum.reshape(shape) * (MOMENTUM / self.count)
        })
    }
}
