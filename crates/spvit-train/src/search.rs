//! The search: weights and thresholds, one backward pass, two optimisers.

use std::time::{Duration, Instant};

use burn::module::{AutodiffModule, Module};
use burn::tensor::Tensor;
use spvit_core::TrainBackend;
use spvit_data::{Batch, Loader};
use spvit_layers::{
    ModelConfig, SearchVit,
    state::{self, StateDict},
};
use spvit_search::{Architecture, BudgetTerm, Gates, Limit, Limits, derive_within, prune};

use crate::{
    Devices, Origin, Phase, TrainError,
    checkpoint::Position,
    classify::{LOSS_SCALE, MODEL, restore_model, under},
    config::{RunConfig, SearchConfig, Unit},
    epochs::{Training, Validation},
    evaluate::accuracy_among,
    folder::RunFolder,
    gate_metrics::GateReport,
    objectives::{SearchObjective, Searched, Uniforms},
    results,
    step::{Group, LossScale, Replicas, StepOptions, StepReport},
};

/// How far the expected FLOPs may lie above the budget for an epoch to be chosen before the last.
const NEAR: f64 = 1.05;

/// How long progress may show the same cost.
const SHOWN: Duration = Duration::from_millis(200);

/// Prefixes of the optimisers' tensors in a checkpoint: of the weights', of the thresholds'.
const OPTIMISERS: [&str; 2] = ["optimiser.", "threshold_optimiser."];

/// A search in progress.
pub(crate) struct Search<B: TrainBackend> {
    replicas: Replicas<B, SearchObjective>,
    /// Cost at the expected gates, in the first budget's unit, as of then.
    cost: f64,
    costed: Instant,
    shape: ModelConfig,
    config: RunConfig,
    steps: usize,
    limits: Limits,
    /// What the dense model costs in their units.
    dense: Vec<f64>,
    device: B::Device,
}

impl<B: TrainBackend> Search<B> {
    /// A search that begins with these weights and thresholds.
    pub fn new(
        (model, gates): (SearchVit<B>, Gates<B>),
        config: &RunConfig,
        devices: &Devices<B>,
    ) -> Self {
        let limits = config.limits();
        let model = if config.search.hold_weights { model.no_grad() } else { model };
        let lambda = if config.search.projected { 0.0 } else { config.search.lambda };
        let term = |limit: &Limit| BudgetTerm {
            table: limit.table.clone(),
            budget: limit.budget(),
            lambda,
            scale: match config.search.unit {
                Unit::Dense => config.whole_costs(limit.table.unit).dense(),
                Unit::Giga => 1e9,
            },
        };
        let budgets: Vec<BudgetTerm> = limits.iter().map(term).collect();
        let cost = budgets[0].cost(&gates);
        let search = &config.search;
        let weights = Group::new(search.weight_decay).clipped(search.clip_norm);
        let groups = [weights, Group::new(0.0)];
        let options = StepOptions {
            seed: config.seed,
            micro_batches: config.run.micro_batches,
            accumulate: search.accumulate,
            drop_path: search.drop_path,
            depth: config.model.depth(),
            precision: config.run.precision,
        };
        let objective = SearchObjective::new(budgets, Uniforms::Seeded);
        Self {
            replicas: Replicas::new(objective, Searched { model, gates }, groups, options, devices),
            cost,
            costed: Instant::now(),
            shape: config.model.clone(),
            config: config.clone(),
            steps: 0,
            limits,
            dense: config.dense_costs(),
            device: devices.first().clone(),
        }
    }

    fn gates(&self) -> &Gates<B> {
        &self.replicas.model().gates
    }

    /// The model in search form, without a graph.
    fn model(&self) -> SearchVit<B::InnerBackend> {
        self.replicas.model().model.valid()
    }

    /// Cost at the expected gates, in the budget's unit.
    fn expected_cost(&self) -> f64 {
        self.replicas.objective().budgets[0].cost(self.gates())
    }

    /// Whether the first budget is one of time.
    fn in_time(&self) -> bool {
        self.limits.first().table.unit == spvit_search::Unit::Milliseconds
    }

    /// The architecture that the gates give at the budget.
    fn derive(&self) -> Result<Architecture, TrainError> {
        let probabilities = self.gates().probabilities();
        let model = self.config.search.cost_model;
        Ok(derive_within(&self.shape, model, &self.limits, &probabilities)?)
    }

    fn thresholds(&self) -> StateDict {
        let gates = self.gates().valid();
        StateDict::from([
            ("thresholds.operations".into(), gates.operations.val().into_data()),
            ("thresholds.ffn".into(), gates.ffn.val().into_data()),
            ("thresholds.heads".into(), gates.heads.val().into_data()),
        ])
        .into_iter()
        .filter(|(name, data)| name != "thresholds.heads" || data.shape.num_elements() > 0)
        .collect()
    }
}

/// Gates with a checkpoint's thresholds.
pub(crate) fn restore_gates<B: burn::tensor::backend::Backend>(
    mut gates: Gates<B>,
    state: &StateDict,
) -> Result<Gates<B>, TrainError> {
    let device = gates.ffn.device();
    for (name, thresholds) in [
        ("thresholds.operations", &mut gates.operations),
        ("thresholds.ffn", &mut gates.ffn),
        ("thresholds.heads", &mut gates.heads),
    ] {
        let Some(data) = state.get(name) else { continue };
        let count = data.shape.num_elements();
        if count != thresholds.shape().num_elements() {
            let expected = thresholds.shape().num_elements();
            return Err(TrainError::Config {
                source_name: name.into(),
                problem: format!(
                    "the run has {count} thresholds, but its model {expected} gates: an earlier \
                     version of spvit searched operations that a larger one dominates; start a new \
                     run"
                ),
            });
        }
        let mut data = data.clone();
        // Earlier versions kept them by block.
        data.shape = [count].into();
        *thresholds = thresholds.clone().map(|_| Tensor::from_data(data, &device).require_grad());
    }
    Ok(gates)
}

impl<B: TrainBackend> Training for Search<B> {
    fn phase(&self) -> Phase {
        Phase::Search
    }

    fn step(&mut self, batch: &Batch, step: usize, rate: f64) -> Result<StepReport, TrainError> {
        let SearchConfig { threshold_learning_rate, hold_weights, projected, .. } =
            self.config.search;
        let rate = if hold_weights { 0.0 } else { rate };
        let report = self.replicas.step(batch, step as u64, &[rate, threshold_learning_rate])?;
        if projected {
            let share = (step + 1) as f64 / self.steps.max(1) as f64;
            let limits = self.config.fallen(&self.limits, &self.dense, share);
            self.replicas.change(|Searched { model, gates }| Searched {
                model,
                gates: gates.projected(&limits),
            });
        }
        // Thresholds are on the device, and to read them is to wait for it.
        if self.costed.elapsed() >= SHOWN {
            self.end_epoch();
        }
        Ok(report)
    }

    fn end_epoch(&mut self) {
        (self.cost, self.costed) = (self.expected_cost(), Instant::now());
    }

    fn begin(&mut self, steps: usize) {
        self.steps = steps;
    }

    fn flops(&self) -> Option<(u64, u64)> {
        (!self.in_time()).then_some((self.cost as u64, self.limits.first().target as u64))
    }

    fn milliseconds(&self) -> Option<[f64; 2]> {
        self.in_time().then_some([self.cost, self.limits.first().target])
    }

    fn gate_report(&self, epoch: usize) -> Option<GateReport> {
        Some(GateReport::new(self.gates(), epoch, self.cost))
    }

    fn validate(&mut self, images: &Loader) -> Result<Validation, TrainError> {
        let architecture = self.derive()?;
        let compact = prune(&self.model(), &architecture);
        let derived = architecture.cost(&self.limits.first().table);
        Ok(Validation {
            accuracy: Some(accuracy_among(
                &compact,
                images,
                &self.device,
                self.replicas.processes(),
            )?),
            derived_flops: derived.filter(|_| !self.in_time()).map(|cost| cost as u64),
            derived_milliseconds: derived.filter(|_| self.in_time()),
            eligible: self
                .replicas
                .objective()
                .budgets
                .iter()
                .all(|term| term.cost(self.gates()) <= term.budget.target * NEAR),
        })
    }

    fn state(&self) -> StateDict {
        let model = state::export(&self.model());
        let named = |prefix: &str, state: StateDict| {
            let prefix = prefix.to_string();
            state.into_iter().map(move |(name, data)| (format!("{prefix}{name}"), data))
        };
        named(MODEL, model)
            .chain(self.thresholds())
            .chain(
                OPTIMISERS
                    .into_iter()
                    .zip(self.replicas.optimisers())
                    .flat_map(|(prefix, optimiser)| named(prefix, optimiser.state())),
            )
            .chain(self.replicas.loss_scale().map(|scale| (LOSS_SCALE.into(), scale.state())))
            .collect()
    }

    fn optimiser_steps(&self) -> i32 {
        self.replicas.optimisers().next().map_or(0, |optimiser| optimiser.count())
    }

    fn restore(&mut self, position: &Position, state: &StateDict) -> Result<(), TrainError> {
        let Searched { model, gates } = self.replicas.model().clone();
        let model = restore_model(model, state, (MODEL, Phase::Search))?;
        let gates = restore_gates(gates, state)?;
        let (steps, device) = (position.optimiser_steps, &self.device);
        let scale = state.get(LOSS_SCALE).map(LossScale::of_state);
        self.replicas.restore(Searched { model, gates }, scale, |group, optimiser| {
            optimiser.restore(steps, &under(state, OPTIMISERS[group]), device);
        });
        self.end_epoch();
        Ok(())
    }

    fn write_best(&self, folder: &RunFolder, origin: &Origin) -> Result<(), TrainError> {
        let mut tensors = state::export(&self.model());
        tensors.extend(self.thresholds());
        results::write(&folder.best(Phase::Search), tensors, None, origin)
    }
}
