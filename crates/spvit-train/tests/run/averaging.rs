//! Averages of the weights.

use std::{collections::BTreeMap, fs, path::Path};

use burn::backend::Flex;
use safetensors::SafeTensors;

use crate::{Stopper, finish, resuming::same_bits, run, support::short};

/// The tensors under a prefix in a safetensors file, by name.
fn tensors(path: &Path, prefix: &str) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let under = file.iter().filter_map(|(name, view)| {
        let words = view.data().as_chunks::<4>().0;
        let values = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        Some((name.strip_prefix(prefix)?.to_string(), values))
    });
    under.collect()
}

/// Fine-tuning's checkpoints after its last two steps, and its result.
#[test]
fn every_step_moves_the_average_and_the_result_is_the_average() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        "search.epochs=1",
        "search.budget=0.2", // leaves a convolution, with a batch norm
        "finetune.epochs=1",
        "finetune.ema_decay=0.9",
    ];
    let mut config = short(&settings);
    // A checkpoint after every step, of which two are kept.
    config.run.checkpoint_seconds = 0.0;
    let mut observer = Stopper { after: 10, ..Stopper::default() };
    assert!(run::<Flex>(&config, folder.path(), &mut observer).unwrap().is_none());
    let mut checkpoints: Vec<_> = fs::read_dir(folder.path().join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("finetune-step"))
        .collect();
    checkpoints.sort();
    let [before, after] = &checkpoints[..] else { panic!("{checkpoints:?}") };
    assert!(after.to_string_lossy().contains("step0000000005"), "{after:?}");

    let [old, now, new] = [(before, "average."), (after, "model."), (after, "average.")]
        .map(|(path, prefix)| tensors(path, prefix));
    assert!(new.iter().any(|(name, _)| name.ends_with("running_var")), "no batch norm");
    for (((name, old), (_, now)), (_, new)) in old.iter().zip(&now).zip(&new) {
        let expected: Vec<f32> =
            old.iter().zip(now).map(|(old, now)| old * 0.9 + now * (1.0 - 0.9f64) as f32).collect();
        assert!(*new == expected, "{name}");
    }
    assert!(new != now, "the average is not the last step's weights");

    finish::<Flex>(&config, folder.path());
    let result = tensors(&folder.path().join("compact.safetensors"), "");
    assert!(result == new, "the result is not the average");
}

#[test]
fn a_resumed_run_with_an_average_has_the_same_bits() {
    same_bits::<Flex>(&["finetune.ema_decay=0.8"]);
}
