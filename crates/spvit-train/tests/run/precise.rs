//! Training with products of a lower type.

use burn::backend::{Autodiff, Flex, NdArray};
use spvit_core::{FusedOps, Precision};
use spvit_layers::{Init, Vit, state};
use spvit_train::{
    Classification, Devices, Outcome, Run, RunFolder, Silent,
    step::{Group, Replicas, StepOptions},
};

use crate::{
    accumulating::{batch, shape},
    resuming::same_bits,
    support::short,
};

fn dense<B: FusedOps>(precision: Precision) -> Replicas<Autodiff<B>, Classification<Autodiff<B>>> {
    let device = Default::default();
    let model = Vit::new(&shape(), &shape().dense_blocks(), &mut Init::new(7, &device));
    let options = StepOptions { precision, depth: 2, ..StepOptions::default() };
    let objective = Classification { teacher: None };
    Replicas::new(objective, model, [Group::new(0.05)], options, &Devices::one(&device))
}

/// A step whose gradients are too large for float16 changes nothing but the loss's factor; one with
/// others trains, by gradients that are float32's but for rounding.
fn overflowing_steps_are_not_taken<B: FusedOps>() {
    let mut low = dense::<B>(Precision::F16);
    let before = state::export(low.model());
    let factor = low.loss_scale().unwrap();
    let mut large = batch();
    large.images.iter_mut().for_each(|x| *x *= 1e6);
    low.step(&large, 0, &[1e-3]).unwrap();
    assert!(before == state::export(low.model()), "a step was taken");
    assert_eq!(low.optimisers().next().unwrap().count(), 0);
    assert_ne!(low.loss_scale(), Some(factor));

    let mut whole = dense::<B>(Precision::F32);
    let losses = [&mut low, &mut whole].map(|own| own.step(&batch(), 1, &[1e-3]).unwrap().loss);
    assert!((losses[0] - losses[1]).abs() < 1e-3, "{losses:?}");
    assert!(losses[0] != losses[1], "nothing was rounded");
    assert!(before != state::export(low.model()));
    assert_eq!(low.optimisers().next().unwrap().count(), 1);
    assert_eq!(whole.loss_scale(), None);
}

#[test]
fn overflowing_steps_are_not_taken_on_flex() {
    overflowing_steps_are_not_taken::<Flex>();
}

#[test]
fn overflowing_steps_are_not_taken_on_ndarray() {
    overflowing_steps_are_not_taken::<NdArray>();
}

#[test]
fn a_resumed_run_of_float16_has_the_same_bits() {
    same_bits::<Flex>(&["run.precision=f16"]);
}

/// Thresholds that have moved by 1e-3 a step or less are not rounded away: the search ends where
/// float32's does.
#[test]
fn a_search_with_bfloat16_chooses_as_one_with_float32() {
    let root = tempfile::tempdir().unwrap();
    let run = |precision: &str| {
        let path = root.path().join(precision);
        let precision = format!("run.precision={precision}");
        let config = short(&[&precision, "search.threshold_learning_rate=1e-3"]);
        let (folder, device) = (RunFolder::create(&path).unwrap(), ("test", Default::default()));
        let mut silent = Silent;
        let run = Run::<Autodiff<Flex>>::new(config, folder, device, &mut silent);
        assert_eq!(run.unwrap().search().unwrap(), Outcome::Finished);
        let file = std::fs::read_to_string(path.join("gates.jsonl")).unwrap();
        let gates: serde_json::Value = serde_json::from_str(file.lines().last().unwrap()).unwrap();
        gates
    };
    let [whole, low] = ["f32", "bf16"].map(run);
    let numbers = |gates: &serde_json::Value| {
        let mut found = Vec::new();
        let mut left = vec![gates];
        while let Some(value) = left.pop() {
            match value {
                serde_json::Value::Array(values) => left.extend(values),
                serde_json::Value::Object(values) => left.extend(values.values()),
                serde_json::Value::Number(number) => found.extend(number.as_f64()),
                _ => {}
            }
        }
        found
    };
    let (whole, low) = (numbers(&whole), numbers(&low));
    assert_eq!(whole.len(), low.len());
    for (a, b) in whole.iter().zip(&low) {
        assert!((a - b).abs() <= 0.02 * a.abs().max(0.1), "{a} and {b}");
    }
}
