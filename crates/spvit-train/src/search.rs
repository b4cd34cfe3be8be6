//! The search: weights and thresholds, one backward pass, two optimisers.

use burn::module::{AutodiffModule, Module};
use burn::tensor::Tensor;
use spvit_core::TrainBackend;
use spvit_data::{Batch, Loader};
use spvit_interchange::weights;
use spvit_layers::{
    Mode, SearchVit, VitConfig, apply_batch_statistics,
    state::{self, StateDict},
};
use spvit_search::{Architecture, BudgetTerm, Gates, derive, prune};

use crate::{
    TrainError,
    classify::{context, restore_model, under},
    config::{RunConfig, SearchConfig, Unit},
    evaluate::accuracy,
    folder::{Position, RunFolder},
    optim::{AdamW, AdamWConfig, Gradients},
    random::gate_uniforms,
    shards::{self, Score},
    stage::{Stage, StepReport, Validation},
};

/// How far the expected FLOPs may lie above the budget for an epoch to be chosen before the last.
const NEAR: f64 = 1.05;

/// A search in progress.
pub(crate) struct Search<B: TrainBackend> {
    model: SearchVit<B>,
    gates: Gates<B>,
    optimiser: AdamW<B::InnerBackend>,
    threshold_optimiser: AdamW<B::InnerBackend>,
    budget: BudgetTerm,
    flops: u64,
    shape: VitConfig,
    config: SearchConfig,
    target: u64,
    seed: u64,
    shards: usize,
    device: B::Device,
}

impl<B: TrainBackend> Search<B> {
    pub fn new(model: SearchVit<B>, config: &RunConfig, device: &B::Device) -> Self {
        let gates = Gates::new(&config.model, config.search.threshold_start, device);
        let target = config.target_flops();
        let table = spvit_search::CostTable::new(&config.model, config.search.cost_model);
        let unit = match config.search.unit {
            Unit::Dense => config.dense_flops() as f64,
            Unit::Giga => 1e9,
        };
        let lambda = config.search.lambda;
        let budget = BudgetTerm { table, target: target as f64, lambda, unit };
        Self {
            flops: budget.flops(&gates),
            model,
            gates,
            optimiser: AdamW::new(AdamWConfig::new(config.search.weight_decay)),
            threshold_optimiser: AdamW::new(AdamWConfig::new(0.0)),
            budget,
            shape: config.model.clone(),
            config: config.search.clone(),
            target,
            seed: config.seed,
            shards: config.run.shards,
            device: device.clone(),
        }
    }

    /// The architecture that the gates give at the budget.
    fn derive(&self) -> Result<Architecture, TrainError> {
        let probabilities = self.gates.probabilities();
        Ok(derive(&self.shape, self.config.cost_model, &probabilities, self.target)?)
    }

    fn thresholds(&self) -> StateDict {
        let gates = self.gates.valid();
        StateDict::from([
            ("thresholds.operations".into(), gates.operations.val().into_data()),
            ("thresholds.ffn".into(), gates.ffn.val().into_data()),
        ])
    }
}

/// Gates with a checkpoint's thresholds.
pub(crate) fn restore_gates<B: burn::tensor::backend::Backend>(
    mut gates: Gates<B>,
    state: &StateDict,
) -> Gates<B> {
    let device = gates.ffn.device();
    if let Some(data) = state.get("thresholds.operations") {
        let data = data.clone();
        gates.operations =
            gates.operations.map(|_| Tensor::from_data(data, &device).require_grad());
    }
    if let Some(data) = state.get("thresholds.ffn") {
        let data = data.clone();
        gates.ffn = gates.ffn.map(|_| Tensor::from_data(data, &device).require_grad());
    }
    gates
}

impl<B: TrainBackend> Stage for Search<B> {
    const NAME: &'static str = "search";

    fn step(&mut self, batch: &Batch, step: usize, rate: f64) -> Result<StepReport, TrainError> {
        let device = &self.device;
        let parts = shards::split(batch, self.shards);
        let single = parts.len() == 1;
        let depth = self.shape.depth;
        // One draw per layer and step, shared by the whole batch.
        let uniforms = gate_uniforms(self.seed, step as u64, depth, self.gates.draws());
        let fork = || match single {
            true => (self.model.clone(), self.gates.clone()),
            false => (self.model.clone().fork(device), self.gates.clone().fork(device)),
        };
        let results = shards::run(parts, fork, |(model, gates), shard| {
            let drop_path = self.config.drop_path;
            let context = context::<B>(drop_path, (self.seed, step), depth, &shard, device);
            let images = Tensor::from_data(shard.images.clone(), device);
            let logits = model.forward(images, &gates.sample(&uniforms), &Mode::Train(&context));
            let targets = Tensor::from_data(shard.targets.clone(), device);
            let mut loss = shards::cross_entropy(logits.clone(), targets, shard.total);
            if shard.start == 0 {
                loss = loss + self.budget.loss(&gates);
            }
            let mut gradients = loss.backward();
            let score = Score {
                loss: loss.into_data().iter::<f64>().sum(),
                correct: shards::correct(logits.into_data(), &shard.labels),
            };
            let for_weights = Gradients::of::<B, _>(&model, &mut gradients);
            let for_gates = Gradients::of::<B, _>(&gates, &mut gradients);
            (score, [for_weights, for_gates], context.into_statistics())
        });

        let (mut report, mut total, mut statistics) =
            (StepReport { loss: 0.0, correct: 0 }, None::<[Gradients<_>; 2]>, Vec::new());
        for (score, gradients, own) in results {
            report.loss += score.loss;
            report.correct += score.correct;
            statistics.push(own);
            match &mut total {
                Some(total) => {
                    for (sum, part) in total.iter_mut().zip(gradients) {
                        sum.add(part);
                    }
                }
                None => total = Some(gradients),
            }
        }
        if let Some([mut for_weights, for_gates]) = total {
            if self.config.clip_norm > 0.0 {
                for_weights.clip(self.config.clip_norm);
            }
            let model = self.optimiser.step::<B, _>(self.model.clone(), &for_weights, rate);
            self.model = apply_batch_statistics(model, statistics);
            let rate = self.config.threshold_learning_rate;
            self.gates =
                self.threshold_optimiser.step::<B, _>(self.gates.clone(), &for_gates, rate);
        }
        self.flops = self.budget.flops(&self.gates);
        Ok(report)
    }

    fn flops(&self) -> Option<(u64, u64)> {
        Some((self.flops, self.target))
    }

    fn validate(&mut self, images: &Loader) -> Result<Validation, TrainError> {
        let architecture = self.derive()?;
        let compact = prune(&self.model.valid(), &architecture);
        Ok(Validation {
            accuracy: accuracy(&compact, images, &self.device),
            derived_flops: Some(architecture.flops),
            eligible: self.flops as f64 <= self.target as f64 * NEAR,
        })
    }

    fn state(&self) -> StateDict {
        let model = state::export(&self.model.valid());
        let named = |prefix: &str, state: StateDict| {
            let prefix = prefix.to_string();
            state.into_iter().map(move |(name, data)| (format!("{prefix}{name}"), data))
        };
        named("model.", model)
            .chain(self.thresholds())
            .chain(named("optimiser.", self.optimiser.state()))
            .chain(named("threshold_optimiser.", self.threshold_optimiser.state()))
            .collect()
    }

    fn optimiser_steps(&self) -> i32 {
        self.optimiser.count()
    }

    fn restore(&mut self, position: &Position, state: &StateDict) -> Result<(), TrainError> {
        self.model = restore_model(self.model.clone(), state, Self::NAME)?;
        self.gates = restore_gates(self.gates.clone(), state);
        let steps = position.optimiser_steps;
        self.optimiser.restore(steps, &under(state, "optimiser."), &self.device);
        let moments = under(state, "threshold_optimiser.");
        self.threshold_optimiser.restore(steps, &moments, &self.device);
        self.flops = self.budget.flops(&self.gates);
        Ok(())
    }

    fn write_best(&self, folder: &RunFolder) -> Result<(), TrainError> {
        let mut tensors = state::export(&self.model.valid());
        tensors.extend(self.thresholds());
        let path = folder.best(Self::NAME);
        let tensors = weights::to_host(tensors);
        Ok(spvit_formats::write_safetensors(&path, &tensors, &Default::default())?)
    }
}
