//! Accuracy and latency.

use std::convert::Infallible;

use burn::tensor::{Tensor, TensorData, backend::Backend};
use spvit_core::FusedOps;
use spvit_data::{DataError, Loader};
use spvit_layers::{Mode, ModelConfig, Vit};

use crate::{
    Processes, TrainError,
    latency::{self, Effort},
    loss,
};

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
