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

/// Divergence of a student's predictions from a teacher's at a temperature τ (soft distillation):
/// `τ² KL(softmax(t/τ) ‖ softmax(s/τ))` summed over the micro-batch, divided by the batch's size and
/// the number of classes.
///
/// # Shapes
/// - student, teacher: logits `[count, classes]`, output: `[1]`.
pub fn soft_distillation<B: Backend>(
    student: Tensor<B, 2>,
    teacher: Tensor<B, 2>,
    temperature: f64,
    total: usize,
) -> Tensor<B, 1> {
    let classes = teacher.dims()[1];
    let teacher = teacher / temperature;
    let targets = softmax(teacher.clone(), 1);
    let entropy = (log_softmax(teacher, 1) * targets.clone()).sum() / total as f64;
    let cross = cross_entropy(student / temperature, targets, total);
    (cross + entropy) * (temperature * temperature / classes as f64)
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

    /// The published code's losses of four images.
    #[test]
    fn losses_are_the_published_ones() {
        let values = include_str!("../tests/data/losses.json");
        let values: serde_json::Value = serde_json::from_str(values).unwrap();
        let device = Default::default();
        let rows = |name: &str| {
            let rows: Vec<Vec<f32>> = serde_json::from_value(values[name].clone()).unwrap();
            let shape = [rows.len(), rows[0].len()];
            Tensor::<Flex, 2>::from_data(TensorData::new(rows.concat(), shape), &device)
        };
        let [student, teacher, soft] = ["student", "teacher", "soft_targets"].map(rows);
        let labels: Vec<usize> = serde_json::from_value(values["labels"].clone()).unwrap();
        let smoothed = |share: f32| {
            let mut targets = vec![share / 10.0; 40];
            for (row, &label) in labels.iter().enumerate() {
                targets[10 * row + label] += 1.0 - share;
            }
            Tensor::<Flex, 2>::from_data(TensorData::new(targets, [4, 10]), &device)
        };
        let one_hot = |classes: Vec<usize>| {
            let mut targets = vec![0.0f32; 40];
            classes
                .into_iter()
                .enumerate()
                .for_each(|(row, class)| targets[10 * row + class] = 1.0);
            Tensor::<Flex, 2>::from_data(TensorData::new(targets, [4, 10]), &device)
        };
        let own = || cross_entropy(student.clone(), soft.clone(), 4);
        let hard = one_hot(classes(teacher.clone().into_data()));
        let follow = |heat| soft_distillation(student.clone(), teacher.clone(), heat, 4);
        for (name, found) in [
            ("none_alpha0.5_tau1.0_softtargetCE", own()),
            (
                "hard_alpha0.5_tau1.0_softtargetCE",
                (own() + cross_entropy(student.clone(), hard, 4)) * 0.5,
            ),
            ("soft_alpha0.5_tau1.0_softtargetCE", (own() + follow(1.0)) * 0.5),
            ("soft_alpha0.5_tau3.0_softtargetCE", (own() + follow(3.0)) * 0.5),
            ("label_smoothing_0.1_CE", cross_entropy(student.clone(), smoothed(0.1), 4)),
            ("CE", cross_entropy(student.clone(), smoothed(0.0), 4)),
        ] {
            let (found, expected) =
                (f64::from(found.into_scalar()), values[name].as_f64().unwrap());
            assert!((found - expected).abs() < 2e-6, "{name}: {found}, not {expected}");
        }
    }

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
