//! What a loader yields depends on its options, the epoch and the position, and on nothing else.

use std::sync::Arc;

use spvit_data::{AugmentConfig, Batch, ImageSet, Loader, LoaderOptions};

const IMAGES: usize = 50;

/// Images of 2 x 6 x 5, all different, in 4 classes.
fn set() -> Arc<ImageSet> {
    let image = 2 * 6 * 5;
    let pixels = (0..IMAGES * image).map(|at| (at / image * 5 + at % image) as u8).collect();
    let labels = (0..IMAGES).map(|index| (index % 4) as u16).collect();
    Arc::new(ImageSet::new([2, 6, 5], 4, pixels, labels).unwrap())
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

fn training() -> LoaderOptions {
    LoaderOptions { threads: 0, ..LoaderOptions::training([6, 5], 7, 11, everything()) }
}

fn loader(options: LoaderOptions) -> Loader {
    Loader::new(set(), &[0.4, 0.5], &[0.2, 0.3], options).unwrap()
}

fn draw(options: LoaderOptions, epoch: u64, start: usize) -> Vec<Batch> {
    loader(options).epoch(epoch, start).map(Result::unwrap).collect()
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let inline = draw(training(), 2, 0);
    assert_eq!(inline.len(), 7);
    for threads in [1, 3, 20] {
        assert_eq!(
            draw(LoaderOptions { threads, ..training() }, 2, 0),
            inline,
            "{threads} threads"
        );
    }
}

#[test]
fn starting_later_changes_nothing() {
    let whole = draw(training(), 2, 0);
    for threads in [0, 1, 3] {
        for start in 0..=8 {
            let rest = draw(LoaderOptions { threads, ..training() }, 2, start);
            assert_eq!(rest, whole[start.min(7)..], "{threads} threads from batch {start}");
        }
    }
}

#[test]
fn seeds_and_epochs_each_change_order_and_augmentation() {
    let reference = draw(training(), 2, 0);
    let other_epoch = draw(training(), 3, 0);
    let other_seed = draw(LoaderOptions { seed: 12, ..training() }, 2, 0);
    let labels = |batches: &[Batch]| {
        batches.iter().flat_map(|batch| batch.labels.clone()).collect::<Vec<_>>()
    };
    assert_ne!(labels(&reference), labels(&other_epoch));
    assert_ne!(labels(&reference), labels(&other_seed));
    let unshuffled = LoaderOptions { shuffle: false, ..training() };
    let (first, second) = (draw(unshuffled.clone(), 0, 0), draw(unshuffled, 1, 0));
    assert_eq!(labels(&first), labels(&second));
    assert_ne!(first, second);
}

#[test]
fn an_epoch_shows_every_image_once() {
    let plain = LoaderOptions { augment: None, drop_last: false, ..training() };
    let images = |batches: Vec<Batch>| -> Vec<Vec<u32>> {
        let images = batches.iter().flat_map(|batch| batch.images.chunks(60));
        images.map(|image| image.iter().map(|value| value.to_bits()).collect()).collect()
    };
    let mut shuffled = images(draw(plain.clone(), 5, 0));
    let mut in_order = images(draw(LoaderOptions { shuffle: false, ..plain }, 5, 0));
    assert_ne!(shuffled, in_order);
    shuffled.sort();
    in_order.sort();
    assert_eq!(shuffled, in_order);
}

#[test]
fn evaluation_takes_all_images_in_order_and_only_normalises() {
    let batches = draw(LoaderOptions::evaluation([6, 5], 20), 0, 0);
    assert_eq!(batches.iter().map(|batch| batch.shape[0]).collect::<Vec<_>>(), [20, 20, 10]);
    assert_eq!(batches.iter().map(|batch| batch.index).collect::<Vec<_>>(), [0, 1, 2]);
    let set = set();
    let labels: Vec<u16> = batches.iter().flat_map(|batch| batch.labels.clone()).collect();
    assert_eq!(labels, set.labels());
    let values: Vec<f32> = batches.iter().flat_map(|batch| batch.images.clone()).collect();
    for (at, (value, &pixel)) in values.iter().zip(set.pixels()).enumerate() {
        let (mean, std) = if at / 30 % 2 == 0 { (0.4, 0.2) } else { (0.5, 0.3) };
        assert!((value - (f32::from(pixel) / 255.0 - mean) / std).abs() < 1e-5, "value {at}");
    }
    assert_eq!(batches[0].classes, 4);
    assert_eq!(batches[0].targets[..8], [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn training_targets_sum_to_one() {
    for batch in draw(training(), 0, 0) {
        assert_eq!(batch.targets.len(), batch.shape[0] * batch.classes);
        for row in batch.targets.chunks(batch.classes) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(row.iter().all(|&share| share >= 0.025 - 1e-6));
        }
    }
}

#[test]
fn cutmix_shows_the_share_of_the_partner_that_the_target_says() {
    // All of one image's pixels are equal and no two images are alike, so that shares can be counted.
    let pixels = (0..8u8).flat_map(|image| [image * 30; 256]).collect();
    let set = Arc::new(ImageSet::new([1, 16, 16], 8, pixels, (0..8).collect()).unwrap());
    let augment = AugmentConfig { cutmix: 1.0, ..AugmentConfig::default() };
    let options =
        LoaderOptions { shuffle: false, ..LoaderOptions::training([16, 16], 8, 0, augment) };
    let loader = Loader::new(set, &[0.0], &[1.0], options).unwrap();
    for batch in (0..50).flat_map(|epoch| loader.epoch(epoch, 0)).map(Result::unwrap) {
        for (index, image) in batch.images.chunks(256).enumerate() {
            let value = index as f32 * 30.0 / 255.0;
            let own =
                image.iter().filter(|&&pixel| (pixel - value).abs() < 1e-5).count() as f32 / 256.0;
            assert!((batch.targets[index * 8 + index] - own).abs() < 1e-6);
        }
    }
}

#[test]
fn images_are_resized_to_the_size_of_the_model() {
    let constant = Arc::new(ImageSet::new([1, 4, 4], 1, vec![51; 16], vec![0]).unwrap());
    let loader =
        Loader::new(constant, &[0.0], &[1.0], LoaderOptions::evaluation([7, 3], 1)).unwrap();
    let batch = loader.epoch(0, 0).next().unwrap().unwrap();
    assert_eq!(batch.shape, [1, 1, 7, 3]);
    assert!(batch.images.iter().all(|value| (value - 0.2).abs() < 1e-6));
}

#[test]
fn an_epoch_dropped_midway_ends_its_threads() {
    let set = set();
    let options = LoaderOptions { threads: 3, batch_size: 2, ..training() };
    let loader = Loader::new(set.clone(), &[0.4, 0.5], &[0.2, 0.3], options).unwrap();
    for taken in [0, 1, 5, 25] {
        let mut epoch = loader.epoch(0, 0);
        assert_eq!(epoch.by_ref().take(taken).count(), taken);
    }
    drop(loader);
    // Every thread holds the set: none is left.
    assert_eq!(Arc::strong_count(&set), 1);
}

#[test]
fn the_number_of_batches_is_known_ahead() {
    let full = loader(training());
    assert_eq!(
        (full.batches_per_epoch(), full.epoch(0, 0).len(), full.epoch(0, 5).len()),
        (7, 7, 2)
    );
    let all = loader(LoaderOptions { drop_last: false, ..training() });
    assert_eq!(
        (all.batches_per_epoch(), all.epoch(0, 0).count(), all.epoch(0, 9).count()),
        (8, 8, 0)
    );
}

#[test]
fn augmentation_is_off_by_default() {
    let with = |augment| draw(LoaderOptions { augment, ..training() }, 0, 0);
    assert_eq!(with(Some(AugmentConfig::default())), with(None));
}
