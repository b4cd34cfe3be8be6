//! Another budget from a finished search, without training.

use std::sync::Arc;

use spvit_core::TrainBackend;
use spvit_search::Architecture;

use crate::{
    Part, Phase, Run, RunConfig, RunFolder, TrainError, config::GivenBudget, evaluate,
    latency::read_table, pipeline::PRUNE, results, write_atomically, write_config,
};

/// A model that was cut to another budget.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Its folder, a run that can be fine-tuned.
    pub folder: RunFolder,
    /// Its architecture.
    pub architecture: Architecture,
    /// Share of the validation images that it classifies rightly before any training, where there are
    /// such images.
    pub accuracy: Option<f64>,
}

impl RunFolder {
    /// The finished search that is nearest to a budget: this folder's own, or that of one of its budgets.
    ///
    /// # Errors
    /// [`TrainError`] if there is none, or a configuration cannot be read.
    pub fn nearest_search(&self, budget: GivenBudget) -> Result<(Self, RunConfig), TrainError> {
        let mut found: Vec<(f64, Self, RunConfig)> = Vec::new();
        for folder in std::iter::once(self.clone()).chain(self.parts()) {
            if !folder.searched().exists() {
                continue;
            }
            let mut config = RunConfig::read(&folder.config(), &[])?;
            if folder.latency().exists() {
                config.search.latency_table = folder.latency();
                config.latency = Some(Arc::new(read_table(&folder.latency())?));
            }
            // Of a time that nobody measured yet no share is known.
            let share = |budget: GivenBudget| {
                let config = config.at_budget(budget);
                let share = (config.budget().target / config.dense_cost(budget.unit)).ln();
                if share.is_finite() { share } else { 0.0 }
            };
            let far = (share(config.search.given_budget()) - share(budget)).abs();
            found.push((far, folder, config));
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        let nearest = found.into_iter().next().map(|(_, folder, config)| (folder, config));
        nearest.ok_or_else(|| TrainError::Missing {
            path: self.searched(),
            hint: "the run has no finished search; `spvit search` does it".into(),
        })
    }

    /// A new run in `budgets/` of this one that begins with the search of `source`, to be pruned to a
    /// budget, and its configuration. One that was cut and not fine-tuned is cut anew.
    ///
    /// # Errors
    /// [`TrainError`] if the budget has a fine-tuned model or cannot be met, or files cannot be written.
    pub fn begin_cut(
        &self,
        (source, config): &(Self, RunConfig),
        budget: GivenBudget,
    ) -> Result<(Self, RunConfig), TrainError> {
        let folder = self.budget(&budget.name());
        if folder.begun(Phase::Finetune) {
            let place = folder.root().display();
            let problem = format!(
                "{place} has a fine-tuned model already; go on with it by `spvit run --resume {place}`"
            );
            return Err(TrainError::Config { source_name: format!("--budget {budget}"), problem });
        }
        let mut config = config.at_budget(budget);
        // Of a time that is still to be measured, that is checked after it.
        if config.latency.is_some() || !config.has_time_budget() {
            config.check_reachable()?;
        }
        config.dense.weights = source.dense_of(&config.dense);
        config.dense.transfer = false;
        let folder = folder.begun_or_new()?;
        folder.begin_anew(Part::Prune)?;
        if folder.root() != source.root() {
            let from = source.searched();
            let bytes = std::fs::read(&from).map_err(|error| TrainError::io(&from, error))?;
            write_atomically(&folder.searched(), &bytes)?;
        }
        write_config(&folder, &config)?;
        Ok((folder, config))
    }
}

impl<B: TrainBackend> Run<'_, B> {
    /// Prunes to the run's budget and says how good that is before any training.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn cut(&mut self) -> Result<Cut, TrainError> {
        let architecture = self.prune_one()?;
        let accuracy = match self.data.validation.is_empty() {
            true => None,
            false => {
                let images = self.evaluation_loader(self.data.validation.clone())?;
                let path = self.folder.pruned();
                let (model, ..) = results::read_model::<B::InnerBackend>(
                    &path,
                    PRUNE,
                    &self.config.model,
                    self.device(),
                )?;
                Some(evaluate::accuracy(&model, &images, self.device())?)
            }
        };
        Ok(Cut { folder: self.folder.clone(), architecture, accuracy })
    }
}
