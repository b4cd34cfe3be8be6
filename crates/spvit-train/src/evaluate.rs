//! Accuracy and latency, and what a run's evaluation makes of them.

use std::convert::Infallible;

use burn::tensor::{Tensor, TensorData, backend::Backend};
use spvit_core::{FusedOps, TrainBackend};
use spvit_data::{DataError, Loader};
use spvit_layers::{Mode, ModelConfig, Vit};
use spvit_search::Unit;

use crate::{
    Phase, Processes, Run, TrainError,
    examine::{Evaluation, examine},
    folder::write_atomically,
    latency::{self, Effort},
    loss,
    pipeline::{PRUNE, again},
    report::{ModelFigures, Summary},
    results,
};

/// Images of the second latency figure.
pub const LATENCY_BATCH: usize = 64;

/// Share of images that a model classifies rightly, 0 to 1.
///
/// # Errors
/// Whatever keeps the images from being read.
pub fn accuracy<B: FusedOps>(
    model: &Vit<B>,
    images: &Loader,
    device: &B::Device,
) -> Result<f64, DataError> {
    let [correct, count] = counted(model, images, device)?;
    Ok(correct as f64 / count.max(1) as f64)
}

/// [`accuracy`] where every process is given batches of its own ([`spvit_data::Share::Batches`]).
pub(crate) fn accuracy_among<B: FusedOps>(
    model: &Vit<B>,
    images: &Loader,
    device: &B::Device,
    processes: &Processes,
) -> Result<f64, TrainError> {
    let [correct, count] = processes.add(counted(model, images, device)?)?;
    Ok(correct as f64 / count.max(1) as f64)
}

/// Images that a model classifies rightly, and all.
fn counted<B: FusedOps>(
    model: &Vit<B>,
    images: &Loader,
    device: &B::Device,
) -> Result<[u64; 2], DataError> {
    let (mut correct, mut count) = (0, 0);
    for batch in images.epoch(0, 0) {
        let batch = batch?;
        count += batch.shape[0] as u64;
        let images = Tensor::from_data(TensorData::new(batch.images, batch.shape), device);
        let logits = model.forward(images, &Mode::Evaluate);
        correct += loss::correct(logits.into_data(), &batch.labels) as u64;
    }
    Ok([correct, count])
}

/// Seconds of a forward pass of every model on `batch` images, the median of samples that are timed in turn
/// ([`latency::in_turn`]): so many rounds, or at least three in so many seconds.
pub fn latency<B: FusedOps>(
    models: &[&Vit<B>],
    config: &ModelConfig,
    batch: usize,
    (most, seconds): (usize, f64),
    device: &B::Device,
) -> Vec<f64> {
    let images = latency::images::<B>(config, batch, device);
    let pass = |model: usize| Ok::<_, Infallible>(latency::pass(models[model], &images));
    let effort = Effort { least: 3, most, seconds };
    match latency::medians(models.len(), effort, pass) {
        Ok(medians) => medians,
    }
}

/// Waits until a device has done all its work.
pub fn sync<B: Backend>(device: &B::Device) {
    let _ = B::sync(device);
}

impl<B: TrainBackend> Run<'_, B> {
    /// Evaluates the dense, the pruned and the compact model, as far as they are there, on the test
    /// split; writes `evaluation.json` and `summary.json`.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn evaluate(&mut self) -> Result<Summary, TrainError> {
        if self.is_front() {
            let summaries = self.at_all(|run| run.evaluate())?;
            return self.summarise(summaries);
        }
        let summary = match self.processes().is_first() {
            true => Some(self.evaluate_here()?),
            false => None,
        };
        self.processes().mirror(self.folder.root())?;
        summary.map_or_else(|| Summary::read(&self.folder), Ok)
    }

    fn evaluate_here(&mut self) -> Result<Summary, TrainError> {
        let config = self.config.clone();
        let mut models = Vec::new();
        if self.dense_path().exists() {
            let dense = self.whole();
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
                    results::read_model::<B::InnerBackend>(&path, &again, shape, self.device())?;
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
            latency(&vits, &config.model, batch, (runs, config.run.timing_seconds), self.device())
        };
        let one = timing(1, 50);
        let many = timing(LATENCY_BATCH, 20);
        let blocks = models.iter().map(|(_, _, architecture)| architecture.block_configs());
        let blocks: Vec<_> = blocks.collect();
        let elsewhere = self.in_onnxruntime(&blocks);
        let times = self.times_of(&blocks)?;
        let named: Vec<(&str, &Vit<B::InnerBackend>)> =
            models.iter().map(|(name, model, _)| (*name, model)).collect();
        let normalisation = (&self.data.mean[..], &self.data.std[..]);
        let evaluation = examine(&named, &images, normalisation, self.device())?;
        let evaluation = Evaluation { class_names: self.data.class_names.clone(), ..evaluation };
        let accuracies = evaluation.accuracies();
        let mut figures = Vec::new();
        for ((((name, model, architecture), one), many), accuracy) in
            models.iter().zip(one).zip(many).zip(accuracies)
        {
            figures.push(ModelFigures {
                name: name.to_string(),
                accuracy,
                flops: architecture.flops,
                parameters: spvit_layers::state::parameter_count(model),
                latency_one: one,
                latency_batch: many,
                milliseconds: times.get(figures.len()).copied(),
                onnxruntime: elsewhere.get(figures.len()).copied(),
            });
        }
        for note in images.broken().take_notes() {
            self.say(&note);
        }
        let budgets = config.budgets();
        let [flops, parameters] = [Unit::Flops, Unit::Parameters].map(|unit| {
            let own = budgets.iter().find(|budget| budget.unit == unit);
            own.map(|budget| budget.target as u64)
        });
        let summary = Summary {
            backend: self.backend.clone(),
            seed: config.seed,
            data: self.data.name.clone(),
            data_fingerprint: self.data.fingerprint.clone(),
            test_images: images.set().len(),
            cost_model: config.search.cost_model,
            target_flops: flops,
            target_parameters: parameters,
            target_milliseconds: budgets
                .iter()
                .find(|budget| budget.unit == Unit::Milliseconds)
                .map(|budget| budget.target),
            latency_table: config.latency.as_ref().map(|table| table.to_string()),
            latency_batch_size: LATENCY_BATCH,
            models: figures,
        };
        let path = self.folder.evaluation();
        let json = serde_json::to_string(&evaluation)
            .map_err(|error| TrainError::io(&path, error.into()))?;
        write_atomically(&path, (json + "\n").as_bytes())?;
        summary.write(&self.folder)?;
        Ok(summary)
    }
}
