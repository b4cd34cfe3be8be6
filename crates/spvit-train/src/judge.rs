//! What a model makes of images: its likeliest classes, and how often they are right.

use burn::tensor::{Tensor, TensorData, activation::softmax};
use spvit_core::FusedOps;
use spvit_data::{DataError, Loader};
use spvit_layers::{Mode, Vit};

/// A class and its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guess {
    /// The class's number.
    pub class: usize,
    /// From 0 to 1.
    pub probability: f32,
}

/// How often a model is right.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    /// Images that were looked at.
    pub images: usize,
    /// Images whose class is the likeliest.
    pub top1: usize,
    /// Images whose class is among the five likeliest.
    pub top5: usize,
    /// Of every class, its images and those of them whose class is the likeliest.
    pub by_class: Vec<[usize; 2]>,
}

/// Gives `each` the label and the `count` likeliest classes, the likeliest first, of every image that
/// is not broken; returns after the last, or where `each` says so (`false`).
///
/// # Errors
/// Whatever keeps the images from being read.
pub fn predict<B: FusedOps>(
    model: &Vit<B>,
    images: &Loader,
    count: usize,
    device: &B::Device,
    mut each: impl FnMut(u16, Vec<Guess>) -> bool,
) -> Result<(), DataError> {
    for batch in images.epoch(0, 0) {
        let batch = batch?;
        if batch.labels.is_empty() {
            continue;
        }
        let images = Tensor::from_data(TensorData::new(batch.images, batch.shape), device);
        let probabilities = softmax(model.forward(images, &Mode::Evaluate), 1);
        let width = probabilities.dims()[1];
        let values: Vec<f32> = probabilities.into_data().iter::<f32>().collect();
        for (&label, row) in batch.labels.iter().zip(values.chunks(width.max(1))) {
            if !each(label, likeliest(row, count)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// How often a model is right on labelled images.
///
/// # Errors
/// Whatever keeps the images from being read.
pub fn score<B: FusedOps>(
    model: &Vit<B>,
    images: &Loader,
    device: &B::Device,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Score, DataError> {
    let mut score = Score { by_class: vec![[0; 2]; images.set().classes()], ..Score::default() };
    predict(model, images, 5, device, |label, guesses| {
        let label = usize::from(label);
        let place = guesses.iter().position(|guess| guess.class == label);
        score.images += 1;
        score.top1 += usize::from(place == Some(0));
        score.top5 += usize::from(place.is_some());
        if let Some(own) = score.by_class.get_mut(label) {
            own[0] += 1;
            own[1] += usize::from(place == Some(0));
        }
        progress(score.images)
    })?;
    Ok(score)
}

/// Classes of equal probability come in the order of their numbers.
fn likeliest(row: &[f32], count: usize) -> Vec<Guess> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
    order.truncate(count);
    order.into_iter().map(|class| Guess { class, probability: row[class] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first_and_equal_ones_in_order() {
        let guesses = likeliest(&[0.1, 0.4, 0.1, 0.4], 3);
        assert_eq!(guesses.iter().map(|guess| guess.class).collect::<Vec<_>>(), [1, 3, 0]);
        assert_eq!(guesses[0].probability, 0.4);
        assert_eq!(likeliest(&[1.0], 5).len(), 1);
    }
}
