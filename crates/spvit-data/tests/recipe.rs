//! The whole recipe through a loader: the same bits whatever the threads and wherever it begins.

use std::sync::Arc;

use spvit_data::{
    AugmentConfig, Batch, DataError, ErasingMode, EvalTransform, ImageSet, ImageSource, Loader,
    LoaderOptions, Pixels, RandomResizedCrop,
};

/// Photographs of many sizes, whose bytes tell them apart.
#[derive(Debug)]
struct Photographs(usize);

impl ImageSource for Photographs {
    fn len(&self) -> usize {
        self.0
    }

    fn channels(&self) -> usize {
        3
    }

    fn classes(&self) -> usize {
        7
    }

    fn size(&self) -> Option<[usize; 2]> {
        None
    }

    fn label(&self, index: usize) -> Option<u16> {
        (index < self.0).then_some((index % 7) as u16)
    }

    fn name(&self, index: usize) -> String {
        format!("photograph {index}")
    }

    fn decode(&self, index: usize) -> Result<Pixels, DataError> {
        let [height, width] = [30 + index % 11, 25 + index % 17];
        let value = |at: usize| (at * (index + 3) / 5 + index * 41) as u8;
        Pixels::new([height, width], 3, (0..height * width * 3).map(value).collect())
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) {
        feed(&self.0.to_le_bytes());
    }
}

fn recipe() -> AugmentConfig {
    AugmentConfig {
        random_resized_crop: Some(RandomResizedCrop::default()),
        horizontal_flip: true,
        rand_augment: "rand-m9-mstd0.5-inc1".to_owned(),
        random_erasing: 0.25,
        random_erasing_mode: ErasingMode::Pixel,
        repeated: 3,
        mixup: 0.8,
        cutmix: 1.0,
        label_smoothing: 0.1,
        ..AugmentConfig::default()
    }
}

fn loader(images: usize, threads: usize, augment: AugmentConfig) -> Loader {
    let options = LoaderOptions { threads, ..LoaderOptions::training([16, 20], 32, 5, augment) };
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    Loader::new(Arc::new(Photographs(images)), &mean, &std, options).unwrap()
}

fn draw(loader: &Loader, epoch: u64, start: usize) -> Vec<Batch> {
    loader.epoch(epoch, start).map(Result::unwrap).collect()
}

#[test]
fn neither_threads_nor_a_resume_change_a_bit() {
    let all = draw(&loader(300, 0, recipe()), 2, 0);
    assert_eq!(all.len(), 8, "256 of 300 images in batches of 32");
    for threads in [1, 3] {
        assert!(all == draw(&loader(300, threads, recipe()), 2, 0), "{threads} threads");
        assert!(all[5..] == draw(&loader(300, threads, recipe()), 2, 5), "{threads} threads");
    }
    assert!(all != draw(&loader(300, 0, recipe()), 3, 0));
    assert!(all.iter().flat_map(|batch| &batch.images).all(|value| value.is_finite()));
}

#[test]
fn repeats_of_an_image_differ_and_stand_beside_each_other() {
    let config = AugmentConfig { mixup: 0.0, cutmix: 0.0, ..recipe() };
    let batches = draw(&loader(300, 0, config), 0, 0);
    let images: Vec<(&[f32], u16)> = batches
        .iter()
        .flat_map(|batch| batch.images.chunks(3 * 16 * 20).zip(batch.labels.iter().copied()))
        .collect();
    for versions in images.chunks_exact(3) {
        assert!(versions.iter().all(|(_, label)| *label == versions[0].1));
        assert!(versions[0].0 != versions[1].0 && versions[1].0 != versions[2].0);
    }
}

#[test]
fn an_epoch_of_repeats_has_no_more_batches_than_images() {
    assert_eq!(loader(300, 0, recipe()).batches_per_epoch(), 256 / 32);
    assert_eq!(loader(200, 0, recipe()).batches_per_epoch(), 200 / 32);
    let once = AugmentConfig { repeated: 1, ..recipe() };
    assert_eq!(loader(300, 0, once).batches_per_epoch(), 300 / 32);
    let options = LoaderOptions::training([16, 20], 300, 5, recipe());
    let source = Arc::new(Photographs(300));
    let error = Loader::new(source, &[0.5; 3], &[0.5; 3], options).err().unwrap().to_string();
    assert!(error.contains("at most the 256 images"), "{error}");
}

#[test]
fn evaluation_shows_the_middle_of_an_image() {
    // White with a black frame that makes up an eighth of each side: cropping to 7/8 leaves half of it.
    let side = 64;
    let inside = |at: usize| (4..60).contains(&at);
    let bytes = (0..side * side)
        .map(|at| if inside(at / side) && inside(at % side) { 255 } else { 0 })
        .collect();
    let set = Arc::new(ImageSet::new([1, side, side], 1, bytes, vec![0]).unwrap());
    let first = |transform: Option<EvalTransform>| {
        let options =
            LoaderOptions { transform, threads: 0, ..LoaderOptions::evaluation([56, 56], 1) };
        let loader = Loader::new(set.clone(), &[0.0], &[1.0], options).unwrap();
        loader.epoch(0, 0).next().unwrap().unwrap().images
    };
    let cropped = first(Some(EvalTransform::default()));
    assert!(cropped.iter().all(|&value| value == 1.0));
    let squashed = first(None);
    assert!(squashed[0] == 0.0 && squashed[28 * 56 + 28] == 1.0);
}

#[test]
fn changes_to_bytes_want_images_of_one_or_three_channels() {
    let set = Arc::new(ImageSet::new([2, 16, 20], 1, vec![0; 2 * 320 * 4], vec![0; 4]).unwrap());
    let options = LoaderOptions::training([16, 20], 2, 0, recipe());
    let error = Loader::new(set, &[0.5; 2], &[0.5; 2], options).err().unwrap().to_string();
    assert!(error.starts_with("channels: expected images of 1 or 3 channels"), "{error}");
}
