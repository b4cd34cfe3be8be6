//! Losses and scores of logits.

use burn::tensor::{
    Tensor, TensorData,
    activation::{log_softmax, softmax},
};
use spvit_core::{FusedOps, fused::cross_entropy};

/// Divergence of a student's predictions from a teacher's at a temperature τ (soft distillation):
/// `τ² KL(softmax(t/τ) ‖ softmax(s/τ))` summed over the micro-batch, divided by the batch's size and
/// the number of classes.
///
/// # Shapes
/// - student, teacher: logits `[count, classes]`, output: `[1]`.
pub fn soft_distillation<B: FusedOps>(
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
    use burn::backend::Flex;

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
}
