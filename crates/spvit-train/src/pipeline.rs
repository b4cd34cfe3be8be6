//! From a dense model to a compact, fine-tuned, evaluated one.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::{module::AutodiffModule, tensor::backend::Backend};
use spvit_core::{FusedOps, Precision, TrainBackend};
use spvit_data::{Dataset, ImageSource, Loader, LoaderOptions, Share};
use spvit_interchange::{Dense, Input, read_dense};

use crate::{
    Devices, Event, Observer, Origin, Phase, Processes, TrainError,
    config::{RunConfig, TrainingConfig},
    epochs::{self, Outcome, Surroundings},
    evaluate,
    folder::RunFolder,
    front::Shared,
    random::{self, Purpose},
    report::Summary,
    results,
};

/// How to get a pruned model again.
pub(crate) const PRUNE: &str = "--redo prune prunes the searched model anew";

/// How to get a phase's result again.
pub(crate) fn again(phase: Phase) -> String {
    format!("--redo {phase} does the phase anew")
}

/// A run: configuration, folder, images and device.
pub struct Run<'a, B: TrainBackend> {
    pub(crate) config: RunConfig,
    pub(crate) folder: RunFolder,
    pub(crate) data: Dataset,
    /// Fingerprint of the images that weights depend on.
    pub(crate) images: String,
    pub(crate) devices: Devices<B>,
    pub(crate) backend: String,
    pub(crate) observer: &'a mut dyn Observer,
    /// What was said about the dense weights and the teacher, to say it once.
    pub(crate) noted: BTreeSet<String>,
    pub(crate) shared: Shared,
}

impl<'a, B: TrainBackend> Run<'a, B> {
    /// A run in its folder; loads the images and checks that they fit the model.
    ///
    /// # Errors
    /// [`TrainError`] if the images cannot be read or do not fit.
    pub fn new(
        config: RunConfig,
        folder: RunFolder,
        device: (&str, B::Device),
        observer: &'a mut dyn Observer,
    ) -> Result<Self, TrainError> {
        Self::with_data(config, folder, None, device, observer)
    }

    /// [`Run::new`] with images that were loaded as the configuration says, if they were.
    ///
    /// # Errors
    /// [`TrainError`] if the images cannot be read or do not fit.
    pub fn with_data(
        config: RunConfig,
        folder: RunFolder,
        data: Option<Dataset>,
        (backend, device): (&str, B::Device),
        observer: &'a mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let mut data = match data {
            Some(data) => data,
            None => {
                let options = config.data.options(config.model.channels(), Some(folder.root()));
                spvit_data::load(&config.data.folder, &options)?
            }
        };
        // Sets in memory have computed their own.
        let given = &config.data.images;
        data.mean = given.mean.clone().unwrap_or(data.mean);
        data.std = given.std.clone().unwrap_or(data.std);
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
        let notes = std::mem::take(&mut data.notes);
        let shared = Shared::default();
        let devices = Devices::one(&device);
        let mut run =
            Self { config, folder, data, images, devices, backend, observer, noted, shared };
        for note in notes {
            run.say(&note);
        }
        run.settle_latency()?;
        run.check_results()?;
        Ok(run)
    }

    /// Its configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// How images come to the run's models, for their files.
    pub(crate) fn input(&self) -> Input {
        let transform = self.config.data.transform.as_ref();
        let word = |value: Option<toml::Value>| value?.as_str().map(str::to_string);
        Input {
            mean: Some(self.data.mean.clone()),
            std: Some(self.data.std.clone()),
            crop_pct: transform.map(|transform| transform.crop_pct),
            interpolation: word(
                transform.and_then(|t| toml::Value::try_from(t.interpolation).ok()),
            ),
            crop_mode: word(transform.and_then(|t| toml::Value::try_from(t.crop_mode).ok())),
            class_names: self.data.class_names.clone(),
        }
    }

    pub(crate) fn say(&mut self, message: &str) {
        self.observer.event(Event::Message(message));
    }

    /// What a phase is computed with.
    pub(crate) fn origin(&self, phase: Phase) -> Result<Origin, TrainError> {
        let teacher = (phase == Phase::Finetune).then(|| self.teacher_digest()).flatten();
        let origin = Origin::new(&self.config, phase, (&self.images, &self.backend))?;
        Ok(Origin { teacher, ..origin })
    }

    pub(crate) fn device(&self) -> &B::Device {
        self.devices.first()
    }

    pub(crate) fn processes(&self) -> &Processes {
        self.devices.processes()
    }

    /// The same run with its steps shared among its device and others: each computes an equal part of
    /// every batch. With as many micro-batches on one device a run gives the same losses.
    ///
    /// # Errors
    /// Those of [`Devices::new`].
    pub fn across(self, others: Vec<B::Device>) -> Result<Self, TrainError> {
        let devices = Devices::new(self.device().clone(), others)?;
        Ok(Self { devices: devices.among(self.processes().clone()), ..self })
    }

    /// The same run in several processes, each of which has made it in a folder of its own, the others than
    /// the first from a copy of the first one's ([`Processes::mirror`]).
    ///
    /// # Errors
    /// [`TrainError::Processes`] if they have other images, another dense model or teacher, or another backend.
    pub fn among(self, processes: Processes) -> Result<Self, TrainError> {
        processes.alike("the images", &self.images)?;
        let dense = results::file_digest(&self.dense_path());
        processes.alike("the dense weights", &dense.unwrap_or_default())?;
        processes.alike("the teacher's weights", &self.teacher_digest().unwrap_or_default())?;
        processes.alike("the devices", &format!("{} {}", self.backend, self.devices.count()))?;
        Ok(Self { devices: self.devices.among(processes), ..self })
    }

    /// The training loader of a phase, and the validation loader if there are validation images.
    pub(crate) fn loaders(
        &self,
        training: &TrainingConfig,
        phase: Phase,
    ) -> Result<(Loader, Option<Loader>), TrainError> {
        let seed = random::seed(self.config.seed, Purpose::data(phase));
        let (size, augment) = (self.config.model.image_size(), self.config.augment.clone());
        let mut options = LoaderOptions::training(size, training.batch_size, seed, augment);
        options.threads = self.config.data.threads;
        options.transform = self.config.data.transform.clone();
        let data = &self.data;
        let train =
            Loader::new(data.train.clone(), &data.mean, &data.std, options)?.sharing(&data.broken);
        let validation = match data.validation.is_empty() {
            true => None,
            false => Some(self.evaluation_loader(data.validation.clone())?),
        };
        Ok((train, validation))
    }

    pub(crate) fn evaluation_loader(
        &self,
        images: Arc<dyn ImageSource>,
    ) -> Result<Loader, TrainError> {
        let (size, batch) = (self.config.model.image_size(), self.config.run.evaluation_batch);
        let mut options = LoaderOptions::evaluation(size, batch);
        options.threads = self.config.data.threads;
        options.transform = self.config.data.transform.clone();
        let loader = Loader::new(images, &self.data.mean, &self.data.std, options)?;
        Ok(loader.sharing(&self.data.broken))
    }

    pub(crate) fn train<T: epochs::Training>(
        &mut self,
        subject: &mut T,
        training: TrainingConfig,
        from: Option<String>,
    ) -> Result<Outcome, TrainError> {
        let precision = self.config.run.precision;
        if B::EMULATED && precision != Precision::F32 {
            let name = precision.name();
            self.say_once(&format!(
                "run.precision = {name}: {} rounds the factors of products and computes in float32, which \
                 takes twice the time: to see what the precision does",
                self.backend
            ));
        }
        let (train, validation) = self.loaders(&training, subject.phase())?;
        let (train, validation) = match self.processes().peers() {
            None => (train, validation),
            Some(peers) => {
                let cut = self.devices.cut(self.config.run.micro_batches, training.accumulate);
                let part = Share::Part(Arc::new(move |total| cut.images(total)));
                let validation = validation.map(|all| all.among(peers.clone(), Share::Batches));
                (train.among(peers, part), validation)
            }
        };
        let origin = self.origin(subject.phase())?.beginning_with(from);
        let around = Surroundings {
            folder: &self.folder,
            training,
            run: &self.config.run,
            train,
            validation,
            origin,
            processes: self.processes().clone(),
            observer: &mut *self.observer,
        };
        epochs::run(subject, around)
    }

    pub(crate) fn dense_path(&self) -> PathBuf {
        self.folder.dense_of(&self.config.dense)
    }

    /// The dense model, on a backend with or without a graph. Weights that are to be trained must
    /// be made on the one with: a module remembers whether its parameters want gradients.
    pub(crate) fn dense<A>(&mut self) -> Result<Dense<A>, TrainError>
    where
        A: FusedOps + Backend<Device = B::Device>,
    {
        let path = self.dense_path();
        if !path.exists() {
            let hint = match self.config.dense.transfer {
                true => "`spvit run` makes it first, from dense.weights",
                false => {
                    "set dense.weights to a dense model's weights, or run `spvit pretrain` first"
                }
            };
            return Err(TrainError::Missing { path, hint: hint.into() });
        }
        self.dense_of(&path)
    }

    /// The dense model in this file.
    pub(crate) fn dense_of<A>(&mut self, path: &Path) -> Result<Dense<A>, TrainError>
    where
        A: FusedOps + Backend<Device = B::Device>,
    {
        let seed = random::seed(self.config.seed, Purpose::Weights);
        let dense = read_dense(path, &self.config.model, seed, self.device())?;
        for note in &dense.notes {
            if self.noted.insert(note.clone()) {
                self.say(&format!("{}: {note}", path.display()));
            }
        }
        Ok(dense)
    }

    /// Says how often the dense model is right before anything is searched: weights of other classes, or
    /// of another order of them, show here.
    pub(crate) fn tell_dense(&mut self, dense: &Dense<B>) -> Result<(), TrainError> {
        let known = self.shared.told.set(()).is_err() || !self.processes().is_first();
        if known || dense.new_head || self.data.validation.is_empty() {
            return Ok(());
        }
        let images = self.evaluation_loader(self.data.validation.clone())?;
        let accuracy = evaluate::accuracy(&dense.model.valid(), &images, self.device())?;
        let (share, count) = (100.0 * accuracy, images.set().len());
        self.say(&format!(
            "dense: {share:.2} % of the {count} validation images before the search"
        ));
        Ok(())
    }

    /// Whatever is left of search, pruning, fine-tuning and evaluation; `None` if it was stopped.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn run(&mut self) -> Result<Option<Summary>, TrainError> {
        let front = self.is_front();
        if !front {
            self.check_plan()?;
        }
        let transfers = self.config.dense.transfer && !self.folder.transferred().exists();
        if transfers {
            self.check_plan()?;
            self.check_budgets()?;
            if self.transfer()? == Outcome::Stopped {
                return Ok(None);
            }
        }
        if front { self.run_front() } else { self.run_one() }
    }

    /// What is left of one budget.
    pub(crate) fn run_one(&mut self) -> Result<Option<Summary>, TrainError> {
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
