//! Accuracy and latency.

use std::time::Instant;

use burn::tensor::{Tensor, TensorData, backend::Backend};
use spvit_core::FusedOps;
use spvit_data::{DataError, Loader};
use spvit_layers::{Mode, ModelConfig, Vit};

use crate::loss;

/// Share of images that a model classifies rightly, 0 to 1.
///
/// # Errors
/// Whatever keeps the images from being read.
pub fn accuracy<B: FusedOps>(
    model: &Vit<B>,
    images: &Loader,
    device: &B::Device,
) -> Result<f64, DataError> {
    let (mut correct, mut count) = (0, 0);
    for batch in images.epoch(0, 0) {
        let batch = batch?;
        count += batch.shape[0];
        let images = Tensor::from_data(TensorData::new(batch.images, batch.shape), device);
        let logits = model.forward(images, &Mode::Evaluate);
        correct += loss::correct(logits.into_data(), &batch.labels);
    }
    Ok(correct as f64 / count.max(1) as f64)
}

/// Median seconds of a forward pass of every model on `batch` images, measured in turn so that a
/// change of the machine's speed meets all of them. Each pass ends when its logits are on the host.
pub fn latency<B: FusedOps>(
    models: &[&Vit<B>],
    config: &ModelConfig,
    batch: usize,
    (runs, seconds): (usize, f64),
    device: &B::Device,
) -> Vec<f64> {
    let [height, width] = config.image_size();
    let images = Tensor::<B, 4>::zeros([batch, config.channels(), height, width], device);
    let pass = |model: &Vit<B>| {
        let began = Instant::now();
        let _ = model.forward(images.clone(), &Mode::Evaluate).into_data();
        began.elapsed().as_secs_f64()
    };
    for model in models {
        pass(model);
    }
    let began = Instant::now();
    let mut times = vec![Vec::new(); models.len()];
    // At least three rounds, however slow.
    for round in 0..runs {
        if round >= 3 && began.elapsed().as_secs_f64() > seconds {
            break;
        }
        for (model, times) in models.iter().zip(&mut times) {
            times.push(pass(model));
        }
    }
    times.into_iter().map(median).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Waits until a device has done all its work.
pub fn sync<B: Backend>(device: &B::Device) {
    let _ = B::sync(device);
}
