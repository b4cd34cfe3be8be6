//! What a run computes in each of its phases.

use std::{
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use spvit_core::TrainBackend;
use spvit_interchange::weights::{self, read_architecture};
use spvit_layers::{Init, SearchVit, Vit, state};
use spvit_search::{Architecture, Gates, expand, prune, refit};

use crate::{
    Event, Phase, Run, RunConfig, Teacher, TrainError,
    classify::Classify,
    config::{InitialWeights, TrainingConfig},
    epochs::Outcome,
    folder::{Part, write_atomically},
    pipeline::{PRUNE, again},
    random::{self, Purpose},
    results,
    search::{Search, restore_gates},
    start::constant_gates,
};

/// How the names of thresholds begin among a searched model's tensors.
const THRESHOLDS: &str = "thresholds.";

impl<B: TrainBackend> Run<'_, B> {
    /// Trains a dense model from scratch; writes `dense.safetensors`.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn pretrain(&mut self) -> Result<Outcome, TrainError> {
        let training = self.config.pretrain.clone();
        self.check_batch(Phase::Pretrain, &training)?;
        let seed = random::seed(self.config.seed, Purpose::Weights);
        let shape = &self.config.model;
        let mut init = Init::<B>::new(seed, self.device());
        let model = (Vit::new(shape, &shape.dense_blocks(), &mut init), self.whole());
        self.classify(Phase::Pretrain, model, None, training, None)
    }

    /// Trains the dense model of `dense.weights` on the run's images, with a new head where its
    /// classes are others; writes `transferred.safetensors`.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn transfer(&mut self) -> Result<Outcome, TrainError> {
        let training = self.config.transfer.clone();
        self.check_batch(Phase::Transfer, &training)?;
        let path = self.config.dense.weights.clone();
        let model = (self.dense_of::<B>(&path)?.model, self.whole());
        self.classify(Phase::Transfer, model, None, training, results::file_digest(&path))
    }

    /// The dense model's architecture.
    pub(crate) fn whole(&self) -> Architecture {
        Architecture::dense(self.config.model.clone(), self.config.search.cost_model)
    }

    /// Trains a model to its phase's end and makes its best weights the phase's result. `from` tells
    /// what it began with.
    fn classify(
        &mut self,
        phase: Phase,
        (model, architecture): (Vit<B>, Architecture),
        teacher: Option<Teacher<B>>,
        training: TrainingConfig,
        from: Option<String>,
    ) -> Result<Outcome, TrainError> {
        let config = self.config.clone();
        let own = (config.seed, &config.run);
        let model = (model, architecture, self.input());
        let mut subject = Classify::new(phase, model, teacher, &training, own, &self.devices);
        let outcome = self.train(&mut subject, training, from)?;
        if outcome == Outcome::Finished {
            self.promote(phase)?;
        }
        Ok(outcome)
    }

    /// Makes a phase's best weights its result, and removes its checkpoints.
    fn promote(&self, phase: Phase) -> Result<(), TrainError> {
        if self.processes().is_first() {
            self.promote_here(phase)?;
        }
        self.processes().mirror(self.folder.root())
    }

    fn promote_here(&self, phase: Phase) -> Result<(), TrainError> {
        let (best, result) = (self.folder.best(phase), self.folder.result(phase));
        results::read(&best, &again(phase))?;
        match std::fs::rename(&best, &result) {
            // A folder of checkpoints that is a link to another disk.
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                let content = std::fs::read(&best).map_err(|error| TrainError::io(&best, error))?;
                spvit_formats::write_whole(&result, |out| out.write_all(&content))?;
                let _ = std::fs::remove_file(&best);
            }
            renamed => renamed.map_err(|error| TrainError::io(&result, error))?,
        }
        self.folder.remove_checkpoints(phase);
        Ok(())
    }

    /// Whether any architecture meets the budget, which is known before the first step; says what is
    /// not searched.
    pub(crate) fn check_budget(&mut self, config: &RunConfig) -> Result<(), TrainError> {
        for line in config.dominated().chain(config.whole_table().left_dense()) {
            self.say_once(&line);
        }
        config.check_reachable()
    }

    /// Searches from the dense model; writes `searched.safetensors`.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn search(&mut self) -> Result<Outcome, TrainError> {
        if self.is_front() {
            return self.train_each(|run| match run.folder.searched().exists() {
                true => Ok(Outcome::Finished),
                false => run.search(),
            });
        }
        self.check_batch(Phase::Search, &self.config.search.training())?;
        self.check_budgets()?;
        let seed = random::seed(self.config.seed, Purpose::Weights);
        let mut init = Init::<B>::new(seed, self.device());
        let dense = self.dense::<B>()?;
        if !self.folder.in_progress(Phase::Search) {
            self.tell_dense(&dense)?;
        }
        let earlier = self.config.search.from.clone();
        let (model, gates) = match earlier.as_os_str().is_empty() {
            false => self.searched_before(&earlier)?,
            true => {
                // What a checkpoint holds is not measured again, nor what the first process sends.
                let known = self.folder.in_progress(Phase::Search) || !self.processes().is_first();
                let gates = match known {
                    true => Some(constant_gates(&self.config, self.device())),
                    false => self.first_gates(&dense.model)?,
                };
                let stopped = self.processes().decide(gates.is_none())?;
                let Some(gates) = gates.filter(|_| !stopped) else {
                    return Ok(Outcome::Stopped);
                };
                (expand(&dense.model, &self.config.model, &mut init), gates)
            }
        };
        let mut subject = Search::<B>::new((model, gates), &self.config, &self.devices);
        let training = self.config.search.training();
        let from = results::file_digest(&self.search_begins_with());
        let outcome = self.train(&mut subject, training, from)?;
        if outcome == Outcome::Finished {
            self.promote(Phase::Search)?;
        }
        Ok(outcome)
    }

    /// The file that a search begins with.
    pub(crate) fn search_begins_with(&self) -> PathBuf {
        match self.config.search.from.as_os_str().is_empty() {
            true => self.dense_path(),
            false => self.config.search.from.clone(),
        }
    }

    /// Weights and thresholds of an earlier search.
    fn searched_before(&self, path: &Path) -> Result<(SearchVit<B>, Gates<B>), TrainError> {
        if !path.exists() {
            let (path, hint) = (path.to_path_buf(), "search.from names no searched model".into());
            return Err(TrainError::Missing { path, hint });
        }
        let mut state = results::read(path, "do that search anew, or empty search.from")?.tensors;
        let gates = restore_gates(constant_gates(&self.config, self.device()), &state)?;
        state.retain(|name, _| !name.starts_with(THRESHOLDS));
        let model = weights::import_search(state, &self.config.model, path, self.device())?;
        Ok((model, gates))
    }

    /// Derives the architecture from the searched gates and prunes the searched (or dense) weights;
    /// writes `architecture.json` and `pruned.safetensors`. An `architecture.json` that is already
    /// there, edited by hand perhaps, is kept. What was fine-tuned from other weights is removed. Gives the
    /// architecture, or that of every budget.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn prune(&mut self) -> Result<Vec<Architecture>, TrainError> {
        if self.is_front() {
            return self.at_all(|run| run.prune_one());
        }
        Ok(vec![self.prune_one()?])
    }

    pub(crate) fn prune_one(&mut self) -> Result<Architecture, TrainError> {
        let architecture = match self.processes().is_first() {
            true => Some(self.prune_here()?),
            false => None,
        };
        self.processes().mirror(self.folder.root())?;
        architecture.map_or_else(|| Ok(read_architecture(&self.folder.architecture())?), Ok)
    }

    fn prune_here(&mut self) -> Result<Architecture, TrainError> {
        let path = self.folder.searched();
        if !path.exists() {
            let hint = "run `spvit search` first";
            return Err(TrainError::Missing { path, hint: hint.into() });
        }
        let state = results::read(&path, &again(Phase::Search))?.tensors;
        let config = self.config.clone();
        let json = self.folder.architecture();
        let architecture = match json.exists() {
            true => read_architecture(&json)?,
            false => {
                let limits = config.limits();
                let table = &limits.first().table;
                let gates = Gates::<B::InnerBackend>::new(table, 0.0, self.device());
                let probabilities = restore_gates(gates, &state)?.probabilities();
                self.derive_in_time(&limits, &probabilities)?
            }
        };
        if let Some(difference) = results::difference(&config.model, &architecture.model) {
            let source_name = json.display().to_string();
            let problem = format!("{difference}; --redo prune derives it anew");
            return Err(TrainError::Config { source_name, problem });
        }
        if let Some(line) = architecture.blind() {
            self.say(&format!("{}: {line}", json.display()));
        }
        let mut init = Init::<B::InnerBackend>::new(config.seed, self.device());
        let search = match config.finetune.init {
            InitialWeights::Searched => {
                let mut model = state;
                model.retain(|name, _| !name.starts_with(THRESHOLDS));
                weights::import_search(model, &config.model, &path, self.device())?
            }
            InitialWeights::Dense => {
                let mut search = expand(&self.dense()?.model, &config.model, &mut init);
                for block in &mut search.blocks {
                    block.attn.reset_head_distribution();
                }
                search
            }
        };
        let compact = match config.finetune.refit {
            0 => prune(&search, &architecture),
            images => self.refit(prune(&search, &architecture), images)?,
        };
        let text = architecture
            .to_json()
            .map_err(|error| TrainError::Architecture { path: json.clone(), error })?;
        // The architecture first: a run that is killed in between prunes to it again.
        write_atomically(&json, text.as_bytes())?;
        let (pruned, origin) = (self.folder.pruned(), self.origin(Phase::Search)?);
        let before = results::about(&pruned).checksum;
        let tuned = results::about(&self.folder.compact()).origin.and_then(|origin| origin.from);
        let model = (&architecture, &self.input());
        results::write(&pruned, state::export(&compact), Some(model), &origin)?;
        let now = results::about(&pruned).checksum;
        if now != before && now != tuned {
            self.folder.begin_anew(Part::Finetune)?;
        }
        Ok(architecture)
    }

    /// The pruned model with its last maps fitted to the dense one.
    fn refit(
        &mut self,
        pruned: Vit<B::InnerBackend>,
        images: usize,
    ) -> Result<Vit<B::InnerBackend>, TrainError> {
        let dense = self.dense::<B::InnerBackend>()?.model;
        let images = self.calibration(images)?.into_iter().map(|(batch, _)| batch);
        let images: Vec<_> = images.collect();
        let count: usize = images.iter().map(|batch| batch.dims()[0]).sum();
        self.say(&format!("fitting the pruned model to the dense one, on {count} training images"));
        let observer = &mut *self.observer;
        Ok(refit(pruned, &dense, &images, |block, blocks| {
            observer.event(Event::Measuring { block, blocks });
        }))
    }

    /// Fine-tunes the pruned model; writes `compact.safetensors`.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn finetune(&mut self) -> Result<Outcome, TrainError> {
        if self.is_front() {
            return self.train_each(|run| match run.folder.compact().exists() {
                true => Ok(Outcome::Finished),
                false => run.finetune(),
            });
        }
        let path = self.folder.pruned();
        if !path.exists() {
            let hint = "run `spvit prune` first";
            return Err(TrainError::Missing { path, hint: hint.into() });
        }
        self.check_batch(Phase::Finetune, &self.config.finetune.training())?;
        self.check_architecture()?;
        let (model, architecture, from) =
            results::read_model::<B>(&path, PRUNE, &self.config.model, self.device())?;
        let training = self.config.finetune.training();
        let teacher = self.teacher()?;
        self.classify(Phase::Finetune, (model, architecture), teacher, training, from)
    }
}
