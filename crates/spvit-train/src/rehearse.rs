//! What a run will take, found by doing a little of it.

use std::time::Instant;

use burn::module::AutodiffModule;
use spvit_core::TrainBackend;
use spvit_interchange::Dense;
use spvit_layers::{Init, state};
use spvit_search::{Budget, expand};

use crate::{
    Phase, Run, Teacher, TrainError,
    classify::Classify,
    config::{FinetuneConfig, TrainingConfig},
    epochs::Training,
    search::Search,
    start::constant_gates,
};

/// Steps that are timed, after one that warms up.
const STEPS: usize = 3;

/// What a phase will do.
#[derive(Debug, Clone, PartialEq)]
pub struct PhasePlan {
    /// The phase.
    pub phase: Phase,
    /// Its epochs.
    pub epochs: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Images of a step.
    pub batch_size: usize,
    /// Seconds of a step, loading included; median of a few.
    pub step_seconds: f64,
}

impl PhasePlan {
    /// Seconds of the whole phase, without evaluations.
    pub fn seconds(&self) -> f64 {
        self.step_seconds * (self.steps * self.epochs) as f64
    }
}

/// What a run will do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Images to train on, to decide with, and to report on.
    pub images: [usize; 3],
    /// Classes.
    pub classes: usize,
    /// Parameters of the dense model.
    pub parameters: usize,
    /// The budgets, in the order of their units; of a front the first of every model.
    pub budgets: Vec<Budget>,
    /// Bytes that the run folder takes at most.
    pub disk: u64,
    /// Bytes of the process's memory after these steps, at its peak, where Linux says it.
    pub memory: Option<u64>,
    /// The phases, in order.
    pub phases: Vec<PhasePlan>,
}

fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

impl<B: TrainBackend> Run<'_, B> {
    /// Checks the plan and times some steps of every phase. Nothing is written.
    ///
    /// # Errors
    /// [`TrainError`] of what would keep the run from being done.
    pub fn rehearse(&mut self) -> Result<Plan, TrainError> {
        let transfers = self.config.dense.transfer;
        self.check_plan()?;
        self.check_budgets()?;
        let start = match transfers {
            true => self.config.dense.weights.clone(),
            false => self.dense_path(),
        };
        let Dense { model, .. } = self.dense_of::<B>(&start)?;
        let parameters = state::parameter_count(&model);
        let config = self.config.clone();
        let own = (config.seed, &config.run);
        let classify = |run: &Self, phase, teacher, training: &TrainingConfig| {
            let model = (model.clone(), run.whole(), run.input());
            Classify::<B>::new(phase, model, teacher, training, own, &run.devices)
        };
        let mut phases = Vec::new();
        if transfers {
            let mut subject = classify(self, Phase::Transfer, None, &config.transfer);
            phases.push(self.time(&mut subject, &config.transfer)?);
        }
        let training = config.search.training();
        let mut init = Init::new(config.seed, self.device());
        let searched = expand(&model, &config.model, &mut init);
        let gates = constant_gates(&config, self.device());
        let mut subject = Search::<B>::new((searched, gates), &config, &self.devices);
        phases.push(self.time(&mut subject, &training)?);
        drop(subject);
        // A compact model's step costs less: the dense one's is the most.
        let training = config.finetune.training();
        let FinetuneConfig { distillation: share, distillation_temperature, .. } = config.finetune;
        let teacher = match config.finetune.teacher.as_os_str().is_empty() {
            true => (share > 0.0)
                .then(|| Teacher::new(Box::new(model.valid()), share, distillation_temperature)),
            false => self.teacher()?,
        };
        let mut subject = classify(self, Phase::Finetune, teacher, &training);
        let finetune = self.time(&mut subject, &training)?;
        let models = config.search.budgets.len().max(1);
        phases.extend(vec![finetune; models]);
        // A checkpoint has weights, two moments and an average, if there is one, and there are two
        // of them while one is written; beside them the best weights, and the results.
        let values = parameters as u64 * 4;
        let transfer = if transfers { config.transfer.ema_decay } else { 0.0 };
        let checkpoint = if transfer.max(config.finetune.ema_decay) > 0.0 { 4 } else { 3 };
        Ok(Plan {
            images: [&self.data.train, &self.data.validation, &self.data.test].map(|set| set.len()),
            classes: config.model.classes(),
            parameters,
            budgets: self.all_budgets(),
            disk: values * (2 * checkpoint + 1 + 4) * models as u64,
            memory: peak_memory(),
            phases,
        })
    }

    fn time<T: Training>(
        &self,
        subject: &mut T,
        training: &TrainingConfig,
    ) -> Result<PhasePlan, TrainError> {
        let (train, _) = self.loaders(training, subject.phase())?;
        subject.begin(training.epochs * train.batches_per_epoch());
        let mut times = Vec::new();
        let mut batches = train.epoch(0, 0);
        for number in 0..=STEPS {
            let began = Instant::now();
            let Some(batch) = batches.next() else { break };
            let batch = batch?;
            subject.step(&batch, number, training.learning_rate)?;
            times.push(began.elapsed().as_secs_f64());
        }
        if times.len() > 1 {
            times.remove(0);
        }
        times.sort_by(f64::total_cmp);
        Ok(PhasePlan {
            phase: subject.phase(),
            epochs: training.epochs,
            steps: train.batches_per_epoch(),
            batch_size: training.batch_size,
            step_seconds: times.get(times.len() / 2).copied().unwrap_or_default(),
        })
    }
}
