//! What loaders made of an in-memory set before sources of other kinds came must stay, bit by bit: runs of earlier
//! versions are resumed, and published figures are compared.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use spvit_data::{AugmentConfig, ImageSet, Loader, LoaderOptions};

/// 50 images of 2 x 6 x 5, all different, in 4 classes.
fn set() -> Arc<ImageSet> {
    let pixels = (0..50 * 60).map(|at| (at / 60 * 5 + at % 60 * 3) as u8).collect();
    let labels = (0..50).map(|index| (index * 7 % 4) as u16).collect();
    Arc::new(ImageSet::new([2, 6, 5], 4, pixels, labels).unwrap())
}

fn digest(options: LoaderOptions) -> String {
    let loader = Loader::new(set(), &[0.4, 0.5], &[0.2, 0.3], options).unwrap();
    let mut hash = Sha256::new();
    for batch in (0..3).flat_map(|epoch| loader.epoch(epoch, 0)) {
        let batch = batch.unwrap();
        hash.update((batch.index as u64).to_le_bytes());
        batch.shape.iter().for_each(|&side| hash.update((side as u64).to_le_bytes()));
        batch.labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
        batch
            .images
            .iter()
            .chain(&batch.targets)
            .for_each(|value| hash.update(value.to_le_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn everything() -> AugmentConfig {
    AugmentConfig {
        pad_crop: 2,
        horizontal_flip: true,
        random_erasing: 0.5,
        mixup: 0.8,
        cutmix: 1.0,
        mix_prob: 0.8,
        label_smoothing: 0.1,
        ..AugmentConfig::default()
    }
}

#[test]
fn batches_have_the_bits_they_always_had() {
    let augmented = digest(LoaderOptions::training([6, 5], 7, 11, everything()));
    let resized = digest(LoaderOptions::training([9, 4], 8, 11, everything()));
    let evaluated = digest(LoaderOptions::evaluation([6, 5], 20));
    assert_eq!(augmented, "ee99b87dda7b5458ba270efce61c1ce4d3da91186535d4db89c72b16723e9e20");
    assert_eq!(resized, "22f027ee0df6c42ca57712462c2fd7da69a02f1545e0578863c4ca48e5c72b2f");
    assert_eq!(evaluated, "8791aafb9a28d9429988e06f0099a55e730d3b7670d2b30d0e3505f24596fc65");
}
