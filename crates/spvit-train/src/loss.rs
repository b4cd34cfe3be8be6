//! Losses and scores of logits.

use burn::tensor::{
    Tensor, TensorData,
    activation::{log_softmax, softmax},
    backend::Backend,
};

/// Cross-entropy against soft targets, summed over the micro-batch and divided by the batch's size.
///
/// Its gradient, `(softmax(x)·Σt - t)/total`, is attached to the value instead of being derived step
/// by step: the backward pass of a logarithm takes a reciprocal, which Burn's ndarray backend
/// rounds differently by where a tensor lies in memory, so that runs would not repeat.
///
/// # Shapes
/// - logits, targets: `[count, classes]`, output: `[1]`.
pub fn cross_entropy<B: Backend>(
    logits: Tensor<B, 2>,
    targets: Tensor<B, 2>,
    total: usize,
) -> Tensor<B, 1> {
    let fixed = logits.clone().detach();
    let value = (log_softmax(fixed.clone(), 1) * targets.clone()).sum() / -(total as f64);
    let gradient = softmax(fixed.clone(), 1) * targets.clone().sum_dim(1) - targets;
    value + ((logits - fixed) * gradient).sum() / total as f64
}

/// The likeliest class of every row of logits `[count, classes]`.
pub fn classes(logits: TensorData) -> Vec<usize> {
    let width = logits.shape[1];
    let values: Vec<f32> = logits.iter::<f32>().collect();
    let likeliest =
        |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or_default();
    values.chunks(width.max(1)).map(likeliest).collect()
}

/// Number of rows whose likeliest class is the label.
pub fn correct(logits: TensorData, labels: &[u16]) -> usize {
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
