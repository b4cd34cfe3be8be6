//! From a dense model to a compact, fine-tuned, evaluated one.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use burn::tensor::backend::Backend;
use spvit_core::{FusedOps, TrainBackend};
use spvit_data::{Dataset, Loader, LoaderOptions};
use spvit_interchange::{
    Dense, read_dense,
    weights::{self, read_architecture},
};
use spvit_layers::{Init, Vit, state};
use spvit_search::{Architecture, CostTable, Gates, derive, expand, prune};

use crate::{
    Event, Observer, Origin, Phase, TrainError,
    classify::{Finetune, Pretrain},
    config::{InitialWeights, RunConfig, TrainingConfig},
    epochs::{self, Outcome, Surroundings},
    evaluate,
    folder::{Part, RunFolder, write_atomically},
    random::{self, Purpose},
    report::{ModelFigures, Summary},
    results,
    search::{Search, restore_gates},
};

/// How to get a pruned model again.
const PRUNE: &str = "--redo prune prunes the searched model anew";

/// How to get a phase's result again.
fn again(phase: Phase) -> String {
    format!("--redo {phase} does the phase anew")
}

/// Images of the second latency figure.
pub const LATENCY_BATCH: usize = 64;

/// A run: configuration, folder, images and device.
pub struct Run<'a, B: TrainBackend> {
    pub(crate) config: RunConfig,
    pub(crate) folder: RunFolder,
    pub(crate) data: Dataset,
    /// Fingerprint of the images that weights depend on.
    images: String,
    device: B::Device,
    backend: String,
    observer: &'a mut dyn Observer,
    /// What was said about the dense weights, to say it once.
    noted: BTreeSet<String>,
}

impl<'a, B: TrainBackend> Run<'a, B> {
    /// A run in its folder; loads the images and checks that they fit the model.
    ///
    /// # Errors
    /// [`TrainError`] if the images cannot be read or do not fit.
    pub fn new(
        config: RunConfig,
        folder: RunFolder,
        (backend, device): (&str, B::Device),
        observer: &'a mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let data = spvit_data::load(&config.data.folder, &config.data.options())?;
        let (found, model) = (&data.train, &config.model);
        let fits = |field: &str, model: usize, found: usize| match model == found {
            true => Ok(()),
            false => Err(TrainError::Config {
                source_name: format!("model.{field} = {model}"),
                problem: format!("the images in {} have {found}", config.data.folder.display()),
            }),
        };
        fits("channels", model.channels(), found.channels())?;
        fits("classes", model.classes(), found.classes())?;
        let (backend, noted) = (backend.to_string(), BTreeSet::new());
        let images = data.training_fingerprint();
        let mut run = Self { config, folder, data, images, device, backend, observer, noted };
        run.check_results()?;
        Ok(run)
    }

    pub(crate) fn say(&mut self, message: &str) {
        self.observer.event(Event::Message(message));
    }

    /// What a phase is computed with.
    pub(crate) fn origin(&self, phase: Phase) -> Result<Origin, TrainError> {
        Origin::new(&self.config, phase, (&self.images, &self.backend))
    }

    /// The training loader of a phase, and the validation loader if there are validation images.
    fn loaders(
        &self,
        training: &TrainingConfig,
        purpose: Purpose,
    ) -> Result<(Loader, Option<Loader>), TrainError> {
        let seed = random::seed(self.config.seed, purpose);
        let (size, augment) = (self.config.model.image_size(), self.config.augment.clone());
        let mut options = LoaderOptions::training(size, training.batch_size, seed, augment);
        options.threads = self.config.data.threads;
        let data = &self.data;
        let train = Loader::new(data.train.clone(), &data.mean, &data.std, options)?;
        let validation = match data.validation.is_empty() {
            true => None,
            false => Some(self.evaluation_loader(data.validation.clone())?),
        };
        Ok((train, validation))
    }

    fn evaluation_loader(
        &self,
        images: std::sync::Arc<spvit_data::ImageSet>,
    ) -> Result<Loader, TrainError> {
        let (size, batch) = (self.config.model.image_size(), self.config.run.evaluation_batch);
        let mut options = LoaderOptions::evaluation(size, batch);
        options.threads = self.config.data.threads;
        Ok(Loader::new(images, &self.data.mean, &self.data.std, options)?)
    }

    fn train<T: epochs::Training>(
        &mut self,
        subject: &mut T,
        training: TrainingConfig,
        purpose: Purpose,
        from: Option<String>,
    ) -> Result<Outcome, TrainError> {
        let (train, validation) = self.loaders(&training, purpose)?;
        let origin = self.origin(T::PHASE)?.beginning_with(from);
        let around = Surroundings {
            folder: &self.folder,
            training,
            run: &self.config.run,
            train,
            validation,
            origin,
            observer: &mut *self.observer,
        };
        epochs::run(subject, around)
    }

    /// Trains a dense model from scratch; writes `dense.safetensors`.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn pretrain(&mut self) -> Result<Outcome, TrainError> {
        self.check_batch(Phase::Pretrain, &self.config.pretrain.clone())?;
        let config = &self.config;
        let seed = random::seed(config.seed, Purpose::Weights);
        let model = Vit::new(
            &config.model,
            &config.model.dense_blocks(),
            &mut Init::<B>::new(seed, &self.device),
        );
        let architecture = Architecture::dense(config.model.clone(), config.search.cost_model);
        let training = config.pretrain.clone();
        let own = (config.seed, config.run.micro_batches);
        let mut subject =
            Pretrain::<B>::new((model, architecture), None, &training, own, &self.device);
        let outcome = self.train(&mut subject, training, Purpose::PretrainData, None)?;
        if outcome == Outcome::Finished {
            self.promote(Phase::Pretrain, &self.folder.dense())?;
        }
        Ok(outcome)
    }

    /// Makes a phase's best weights its result, and removes its checkpoints.
    fn promote(&self, phase: Phase, result: &Path) -> Result<(), TrainError> {
        let best = self.folder.best(phase);
        results::read(&best, &again(phase))?;
        std::fs::rename(&best, result).map_err(|error| TrainError::io(&best, error))?;
        self.folder.remove_checkpoints(phase);
        Ok(())
    }

    pub(crate) fn dense_path(&self) -> PathBuf {
        match self.config.dense.weights.as_os_str().is_empty() {
            true => self.folder.dense(),
            false => self.config.dense.weights.clone(),
        }
    }

    /// The dense model, on a backend with or without a graph. Weights that are to be trained must
    /// be made on the one with: a module remembers whether its parameters want gradients.
    pub(crate) fn dense<A>(&mut self) -> Result<Dense<A>, TrainError>
    where
        A: FusedOps + Backend<Device = B::Device>,
    {
        let path = self.dense_path();
        if !path.exists() {
            let hint =
                "set dense.weights to a dense model's weights, or run `spvit pretrain` first";
            return Err(TrainError::Missing { path, hint: hint.into() });
        }
        let seed = random::seed(self.config.seed, Purpose::Weights);
        let dense = read_dense(&path, &self.config.model, seed, &self.device)?;
        for note in &dense.notes {
            if self.noted.insert(note.clone()) {
                self.say(&format!("{}: {note}", path.display()));
            }
        }
        Ok(dense)
    }

    /// Searches from the dense model; writes `searched.safetensors`.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn search(&mut self) -> Result<Outcome, TrainError> {
        self.check_batch(Phase::Search, &self.config.search.training())?;
        // Whether any architecture meets the budget is known before the first step.
        let cost_model = self.config.search.cost_model;
        let table = CostTable::new(&self.config.model, cost_model);
        for line in [table.dominated(), table.left_dense()].into_iter().flatten() {
            self.say(&line);
        }
        let fresh = Gates::<B::InnerBackend>::new(&table, 0.0, &self.device);
        derive(&self.config.model, cost_model, &fresh.probabilities(), self.config.target_flops())?;

        let seed = random::seed(self.config.seed, Purpose::Weights);
        let mut init = Init::<B>::new(seed, &self.device);
        let dense = self.dense::<B>()?;
        let model = expand(&dense.model, &self.config.model, &mut init);
        let mut subject = Search::<B>::new(model, &self.config, &self.device);
        let training = self.config.search.training();
        let from = results::file_digest(&self.dense_path());
        let outcome = self.train(&mut subject, training, Purpose::SearchData, from)?;
        if outcome == Outcome::Finished {
            self.promote(Phase::Search, &self.folder.searched())?;
        }
        Ok(outcome)
    }

    /// Derives the architecture from the searched gates and prunes the searched (or dense) weights;
    /// writes `architecture.json` and `pruned.safetensors`. An `architecture.json` that is already
    /// there, edited by hand perhaps, is kept. What was fine-tuned from other weights is removed.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn prune(&mut self) -> Result<Architecture, TrainError> {
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
                let table = CostTable::new(&config.model, config.search.cost_model);
                let gates = Gates::<B::InnerBackend>::new(&table, 0.0, &self.device);
                let probabilities = restore_gates(gates, &state)?.probabilities();
                let target = config.target_flops();
                derive(&config.model, config.search.cost_model, &probabilities, target)?
            }
        };
        if let Some(difference) = results::difference(&config.model, &architecture.model) {
            let source_name = json.display().to_string();
            let problem = format!("{difference}; --redo prune derives it anew");
            return Err(TrainError::Config { source_name, problem });
        }
        let mut init = Init::<B::InnerBackend>::new(config.seed, &self.device);
        let search = match config.finetune.init {
            InitialWeights::Searched => {
                let mut model = state;
                model.retain(|name, _| !name.starts_with("thresholds."));
                weights::import_search(model, &config.model, &path, &self.device)?
            }
            InitialWeights::Dense => {
                let mut search = expand(&self.dense()?.model, &config.model, &mut init);
                for block in &mut search.blocks {
                    block.attn.reset_head_distribution();
                }
                search
            }
        };
        let compact = prune(&search, &architecture);
        let text = architecture
            .to_json()
            .map_err(|error| TrainError::Architecture { path: json.clone(), error })?;
        // The architecture first: a run that is killed in between prunes to it again.
        write_atomically(&json, text.as_bytes())?;
        let (pruned, origin) = (self.folder.pruned(), self.origin(Phase::Search)?);
        let before = results::about(&pruned).checksum;
        let tuned = results::about(&self.folder.compact()).origin.and_then(|origin| origin.from);
        results::write(&pruned, state::export(&compact), Some(&architecture), &origin)?;
        let now = results::about(&pruned).checksum;
        if now != before && now != tuned {
            self.folder.begin_anew(Part::Finetune)?;
        }
        Ok(architecture)
    }

    /// Fine-tunes the pruned model; writes `compact.safetensors`.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn finetune(&mut self) -> Result<Outcome, TrainError> {
        let path = self.folder.pruned();
        if !path.exists() {
            let hint = "run `spvit prune` first";
            return Err(TrainError::Missing { path, hint: hint.into() });
        }
        self.check_batch(Phase::Finetune, &self.config.finetune.training())?;
        self.check_architecture()?;
        let (model, architecture, from) =
            results::read_model::<B>(&path, PRUNE, &self.config.model, &self.device)?;
        let training = self.config.finetune.training();
        let own = (self.config.seed, self.config.run.micro_batches);
        let teacher = self.teacher()?;
        let mut subject =
            Finetune::<B>::new((model, architecture), teacher, &training, own, &self.device);
        let outcome = self.train(&mut subject, training, Purpose::FinetuneData, from)?;
        if outcome == Outcome::Finished {
            self.promote(Phase::Finetune, &self.folder.compact())?;
        }
        Ok(outcome)
    }

    /// Evaluates the dense, the pruned and the compact model, as far as they are there, on the test
    /// split; writes `summary.json`.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn evaluate(&mut self) -> Result<Summary, TrainError> {
        let config = self.config.clone();
        let mut models = Vec::new();
        if self.dense_path().exists() {
            let dense = Architecture::dense(config.model.clone(), config.search.cost_model);
            models.push(("dense", self.dense::<B::InnerBackend>()?.model, dense));
        }
        self.check_architecture()?;
        let [pruned, compact] = [self.folder.pruned(), self.folder.compact()];
        let again = [PRUNE.to_string(), again(Phase::Finetune)];
        for ((name, path), again) in
            [("searched", pruned), ("compact", compact)].into_iter().zip(again)
        {
            if path.exists() {
                let shape = &config.model;
                let (model, architecture, _) =
                    results::read_model::<B::InnerBackend>(&path, &again, shape, &self.device)?;
                models.push((name, model, architecture));
            }
        }
        if models.is_empty() {
            let hint = "the run has no model yet; run `spvit pretrain` or `spvit search` first";
            return Err(TrainError::Missing { path: self.folder.compact(), hint: hint.into() });
        }
        let images = self.evaluation_loader(self.data.test.clone())?;
        self.say(&format!("evaluating on {} test images", images.set().len()));
        let vits: Vec<&Vit<B::InnerBackend>> = models.iter().map(|(_, model, _)| model).collect();
        let timing = |batch: usize, runs: usize| {
            evaluate::latency(&vits, &config.model, batch, (runs, 5.0), &self.device)
        };
        let one = timing(1, 50);
        let many = timing(LATENCY_BATCH, 20);
        let figures =
            models.iter().zip(one).zip(many).map(|(((name, model, architecture), one), many)| {
                ModelFigures {
                    name: name.to_string(),
                    accuracy: evaluate::accuracy(model, &images, &self.device),
                    flops: architecture.flops,
                    parameters: spvit_layers::state::parameter_count(model),
                    latency_one: one,
                    latency_batch: many,
                }
            });
        let summary = Summary {
            backend: self.backend.clone(),
            seed: config.seed,
            data: self.data.name.clone(),
            data_fingerprint: self.data.fingerprint.clone(),
            test_images: images.set().len(),
            cost_model: config.search.cost_model,
            target_flops: config.target_flops(),
            latency_batch_size: LATENCY_BATCH,
            models: figures.collect(),
        };
        let json = serde_json::to_string_pretty(&summary)
            .map_err(|error| TrainError::io(&self.folder.summary(), error.into()))?;
        write_atomically(&self.folder.summary(), (json + "\n").as_bytes())?;
        Ok(summary)
    }

    /// Whatever is left of search, pruning, fine-tuning and evaluation; `None` if it was stopped.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn run(&mut self) -> Result<Option<Summary>, TrainError> {
        self.check_plan()?;
        // What is pruned needs no search any more.
        if !self.folder.pruned().exists() {
            if !self.folder.searched().exists() && self.search()? == Outcome::Stopped {
                return Ok(None);
            }
            self.prune()?;
        }
        if !self.folder.compact().exists() && self.finetune()? == Outcome::Stopped {
            return Ok(None);
        }
        self.evaluate().map(Some)
    }
}
