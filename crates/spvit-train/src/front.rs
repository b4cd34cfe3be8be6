//! Several budgets from one search.
//!
//! Every budget has a run of its own, in `budgets/NAME` of the run folder, which any command can go on
//! with. They share what does not depend on the budget: what the dense model's parts are worth, and the
//! teacher's predictions in fine-tuning. A search with steps goes on from one budget to the next smaller one.

use std::sync::{Arc, OnceLock};

use spvit_core::TrainBackend;
use spvit_search::{BlockImportance, Budget};

use crate::{
    Event, Lock, Outcome, Run, RunConfig, RunFolder, Summary, TrainError, config::GivenBudget,
    report::ModelFigures, teacher::Predictions, write_config,
};

/// Epochs that all further budgets search together, as a share of the first one's.
const FURTHER: f64 = 0.5;

/// What runs at several budgets share.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    /// Whether the dense model has been told of.
    pub told: Arc<OnceLock<()>>,
    /// Of the dense model's parts.
    pub importance: Arc<OnceLock<Vec<BlockImportance>>>,
    /// The teacher's, if there is a use for them.
    pub predictions: Option<Arc<Predictions>>,
}

/// A budget of a front.
struct Part {
    budget: GivenBudget,
    config: RunConfig,
}

impl<B: TrainBackend> Run<'_, B> {
    /// Whether it has several budgets.
    pub(crate) fn is_front(&self) -> bool {
        !self.config.search.budgets.is_empty()
    }

    /// The configuration at every budget, the largest budget first.
    fn parts(&self) -> Vec<Part> {
        let search = &self.config.search;
        let share = |&budget: &GivenBudget| {
            let config = self.config.at_budget(budget);
            config.budget().target / config.dense_cost(budget.unit)
        };
        let mut budgets = search.budgets.clone();
        budgets.sort_by(|a, b| share(b).total_cmp(&share(a)));
        let further = budgets.len().saturating_sub(1).max(1) as f64;
        let epochs = (FURTHER * search.epochs as f64 / further).ceil() as usize;
        let mut before: Option<RunFolder> = None;
        let part = |budget: GivenBudget| {
            let mut config = self.config.at_budget(budget);
            config.dense.weights = self.dense_path();
            config.dense.transfer = false;
            if config.latency.is_some() {
                config.search.latency_table = self.folder.latency();
            }
            let folder = self.folder.budget(&budget.name());
            if let Some(before) = before.replace(folder).filter(|_| search.epochs > 0) {
                config.search.from = before.searched();
                config.search.epochs = epochs;
                config.search.budget_fall = 0.0;
            }
            Part { budget, config }
        };
        budgets.into_iter().map(part).collect()
    }

    /// The budgets, in the order of their units; of a front the first of every model.
    pub(crate) fn all_budgets(&self) -> Vec<Budget> {
        match self.is_front() {
            true => self.config.front(),
            false => self.config.budgets(),
        }
    }

    /// The run at one budget, its folder locked.
    fn at(&mut self, part: &Part) -> Result<(Run<'_, B>, Lock), TrainError> {
        let folder = self.folder.budget(&part.budget.name()).begun_or_new()?;
        let lock = folder.lock()?;
        folder.tidy();
        write_config(&folder, &part.config)?;
        let mut run = Run {
            config: part.config.clone(),
            folder,
            data: self.data.clone(),
            images: self.images.clone(),
            devices: self.devices.clone(),
            backend: self.backend.clone(),
            observer: &mut *self.observer,
            noted: self.noted.clone(),
            shared: self.shared.clone(),
        };
        if let Some(note) = &lock.note {
            run.say_once(note);
        }
        run.check_results()?;
        Ok((run, lock))
    }

    /// Does something at every budget, the largest first, until it gives nothing.
    fn at_each<T>(
        &mut self,
        mut task: impl FnMut(&mut Run<'_, B>) -> Result<Option<T>, TrainError>,
    ) -> Result<Option<Vec<T>>, TrainError> {
        let mut results = Vec::new();
        for part in self.parts() {
            let (mut run, _lock) = self.at(&part)?;
            run.observer.event(Event::Message(&format!("budget {}", part.budget)));
            let result = task(&mut run)?;
            let noted = run.noted;
            self.noted = noted;
            match result {
                Some(result) => results.push(result),
                None => return Ok(None),
            }
        }
        Ok(Some(results))
    }

    /// A phase at every budget that has not ended yet.
    pub(crate) fn train_each(
        &mut self,
        mut phase: impl FnMut(&mut Run<'_, B>) -> Result<Outcome, TrainError>,
    ) -> Result<Outcome, TrainError> {
        self.share_predictions();
        let done = self.at_each(|run| Ok((phase(run)? == Outcome::Finished).then_some(())))?;
        Ok(if done.is_some() { Outcome::Finished } else { Outcome::Stopped })
    }

    /// Something at every budget that is not stopped; what the smallest gives.
    pub(crate) fn at_all<T>(
        &mut self,
        mut task: impl FnMut(&mut Run<'_, B>) -> Result<T, TrainError>,
    ) -> Result<Vec<T>, TrainError> {
        Ok(self.at_each(|run| task(run).map(Some))?.unwrap_or_default())
    }

    /// Whether every budget can be met, before the first step.
    pub(crate) fn check_budgets(&mut self) -> Result<(), TrainError> {
        if !self.is_front() {
            let config = self.config.clone();
            return self.check_budget(&config);
        }
        self.parts().iter().try_for_each(|part| self.check_budget(&part.config))
    }

    /// Searches all budgets, then prunes, fine-tunes and evaluates at each; `None` if it was stopped.
    pub(crate) fn run_front(&mut self) -> Result<Option<Summary>, TrainError> {
        for part in self.parts() {
            self.at(&part)?.0.check_plan()?;
        }
        self.check_budgets()?;
        if self.search()? == Outcome::Stopped {
            return Ok(None);
        }
        self.share_predictions();
        let summaries = self.at_each(|run| match run.evaluated() {
            Some(summary) => Ok(Some(summary)),
            None => run.run_one(),
        })?;
        summaries.map(|summaries| self.summarise(summaries)).transpose()
    }

    /// The figures of a run that is whole and has not changed.
    fn evaluated(&self) -> Option<Summary> {
        if !self.folder.compact().exists() {
            return None;
        }
        Summary::read(&self.folder).ok()
    }

    /// The figures of the dense model and of the compact ones, each named by its budget.
    pub(crate) fn summarise(&self, summaries: Vec<Summary>) -> Result<Summary, TrainError> {
        let of = |summary: &Summary, name: &str| {
            summary.models.iter().find(|model| model.name == name).cloned()
        };
        let dense = summaries.first().and_then(|first| of(first, "dense"));
        // Each was timed in turn with the dense model, and not with the others.
        let named = |summary: &Summary, name: &str, called: String| {
            let own = of(summary, name)?;
            let here = of(summary, "dense");
            let scaled = own.rescaled(|time| Some(time(dense.as_ref()?)? / time(here.as_ref()?)?));
            Some(ModelFigures { name: called, ..scaled })
        };
        let compact = self.parts().into_iter().zip(&summaries);
        let compact = compact
            .filter_map(|(part, summary)| named(summary, "compact", part.budget.to_string()));
        let compact: Vec<ModelFigures> = compact.collect();
        let models = dense.into_iter().chain(compact).collect();
        let first = summaries.into_iter().next().ok_or_else(|| TrainError::Missing {
            path: self.folder.budgets(),
            hint: "none of search.budgets has a model yet; run `spvit run` first".into(),
        })?;
        let summary = Summary {
            target_flops: None,
            target_parameters: None,
            target_milliseconds: None,
            models,
            ..first
        };
        summary.write(&self.folder)?;
        Ok(summary)
    }

    /// Keeps what the teacher says, to say it again at the next budget: images come in the same order, and
    /// with the same augmentation.
    fn share_predictions(&mut self) {
        let finetune = &self.config.finetune;
        let hard = finetune.distillation > 0.0 && finetune.distillation_temperature == 0.0;
        let images = finetune.epochs.saturating_mul(self.data.train.len());
        if hard && self.shared.predictions.is_none() {
            self.shared.predictions = Predictions::of(images).map(Arc::new);
        }
    }

    /// Says something once.
    pub(crate) fn say_once(&mut self, note: &str) {
        if self.noted.insert(note.to_string()) {
            self.say(note);
        }
    }
}

impl RunConfig {
    /// The configuration of one of the budgets.
    pub(crate) fn at_budget(&self, budget: GivenBudget) -> Self {
        Self { search: self.search.at_budget(budget), ..self.clone() }
    }
}
