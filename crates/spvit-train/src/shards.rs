//! A batch in parts that are computed at the same time.

use burn::tensor::{
    Tensor, TensorData,
    activation::{log_softmax, softmax},
    backend::Backend,
};
use spvit_data::Batch;

/// A part of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    /// Index of the first image in the batch.
    pub start: usize,
    /// Number of images.
    pub count: usize,
    /// Images of the whole batch.
    pub total: usize,
    /// `[count, channels, height, width]`.
    pub images: TensorData,
    /// `[count, classes]`, each row summing to 1.
    pub targets: TensorData,
    /// The true classes.
    pub labels: Vec<u16>,
}

/// What a shard gives besides its gradients.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Score {
    /// Its part of the batch's mean loss.
    pub loss: f64,
    /// Images classified rightly.
    pub correct: usize,
}

/// Cuts a batch into `parts` nearly equal ones.
pub(crate) fn split(batch: &Batch, parts: usize) -> Vec<Shard> {
    let [total, channels, height, width] = batch.shape;
    let size = channels * height * width;
    let parts = parts.clamp(1, total.max(1));
    (0..parts)
        .map(|part| {
            let (start, end) = (part * total / parts, (part + 1) * total / parts);
            let images = batch.images[start * size..end * size].to_vec();
            let targets = batch.targets[start * batch.classes..end * batch.classes].to_vec();
            Shard {
                start,
                count: end - start,
                total,
                images: TensorData::new(images, [end - start, channels, height, width]),
                targets: TensorData::new(targets, [end - start, batch.classes]),
                labels: batch.labels[start..end].to_vec(),
            }
        })
        .collect()
}

/// Runs `work` on every shard with a model of its own, each on a thread; results in order.
pub(crate) fn run<M: Send, R: Send>(
    shards: Vec<Shard>,
    fork: impl Fn() -> M,
    work: impl Fn(M, Shard) -> R + Sync,
) -> Vec<R> {
    let jobs: Vec<(M, Shard)> = shards.into_iter().map(|shard| (fork(), shard)).collect();
    std::thread::scope(|scope| {
        let work = &work;
        let mut jobs = jobs.into_iter();
        let first = jobs.next();
        let threads: Vec<_> =
            jobs.map(|(model, shard)| scope.spawn(move || work(model, shard))).collect();
        let first = first.map(|(model, shard)| work(model, shard));
        let rest = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        first.into_iter().chain(rest).collect()
    })
}

/// Cross-entropy against soft targets, summed over the shard and divided by the batch's size.
///
/// Its gradient, `(softmax(x)·Σt - t)/total`, is attached to the value instead of being derived step
/// by step: the backward pass of a logarithm takes a reciprocal, which Burn's ndarray backend
/// rounds differently by where a tensor lies in memory, so that runs would not repeat.
///
/// # Shapes
/// - logits, targets: `[count, classes]`, output: `[1]`.
pub(crate) fn cross_entropy<B: Backend>(
    logits: Tensor<B, 2>,
    targets: Tensor<B, 2>,
    total: usize,
) -> Tensor<B, 1> {
    let fixed = logits.clone().detach();
    let value = (log_softmax(fixed.clone(), 1) * targets.clone()).sum() / -(total as f64);
    let gradient = softmax(fixed.clone(), 1) * targets.clone().sum_dim(1) - targets;
    value + ((logits - fixed) * gradient).sum() / total as f64
}

/// The likeliest class of every row.
pub(crate) fn classes(logits: TensorData) -> Vec<usize> {
    let width = logits.shape[1];
    let values: Vec<f32> = logits.iter::<f32>().collect();
    let likeliest =
        |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or_default();
    values.chunks(width.max(1)).map(likeliest).collect()
}

/// Number of rows whose likeliest class is the label.
pub(crate) fn correct(logits: TensorData, labels: &[u16]) -> usize {
    let guesses = classes(logits);
    guesses.iter().zip(labels).filter(|(guess, label)| **guess == usize::from(**label)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};

    /// Value and gradient against those that autodiff derives step by step.
    #[test]
    fn cross_entropy_has_the_gradient_of_its_definition() {
        type B = Autodiff<Flex>;
        let device = Default::default();
        let x = [[0.5, -1.0, 2.0], [3.0, 0.1, -0.2]];
        let x = Tensor::<B, 2>::from_floats(x, &device).require_grad();
        let t = Tensor::<B, 2>::from_floats([[0.1, 0.2, 0.7], [1.0, 0.0, 0.0]], &device);
        let plain = (log_softmax(x.clone(), 1) * t.clone()).sum() / -4.0;
        let ours = cross_entropy(x.clone(), t, 4);
        let grad = |loss: &Tensor<B, 1>| x.grad(&loss.backward()).unwrap();
        let difference = (grad(&plain) - grad(&ours)).abs().max().into_scalar();
        assert!(difference < 1e-7, "gradients differ by {difference}");
        assert!((plain.into_scalar() - ours.into_scalar()).abs() < 1e-6);
    }
}
