//! Times the recipe on one thread over decoded images, for `tests/interop/augment_speed.py`, which writes them.
//!
//!     cargo run --release -p spvit-data --example augment_speed -- FOLDER

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use spvit_data::{
    AugmentConfig, DataError, ErasingMode, EvalTransform, ImageSource, Loader, LoaderOptions,
    Pixels, RandomResizedCrop,
};

const SIZE: [usize; 2] = [375, 500];
const PASSES: usize = 5;

/// Images that are there already, so that nothing but the recipe is timed.
#[derive(Debug)]
struct Decoded(Vec<Pixels>);

impl ImageSource for Decoded {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn channels(&self) -> usize {
        3
    }

    fn classes(&self) -> usize {
        10
    }

    fn size(&self) -> Option<[usize; 2]> {
        None
    }

    fn label(&self, index: usize) -> Option<u16> {
        (index < self.0.len()).then_some((index % 10) as u16)
    }

    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }

    fn decode(&self, index: usize) -> Result<Pixels, DataError> {
        Ok(self.0[index].clone())
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) {
        self.0.iter().for_each(|image| feed(image.bytes()));
    }
}

/// Seconds that this thread ran, where the system tells it, so that others on the machine do not count; the time of day
/// otherwise.
fn processor_seconds() -> f64 {
    let ran = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ran = ran.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    ran.map_or_else(
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64()),
        |nanoseconds| nanoseconds / 1e9,
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("the folder that augment_speed.py wrote")?;
    let bytes = fs::read(Path::new(&folder).join("images.bin"))?;
    let images = bytes.chunks_exact(SIZE[0] * SIZE[1] * 3);
    let images: Result<Vec<Pixels>, DataError> =
        images.map(|bytes| Pixels::new(SIZE, 3, bytes.to_vec())).collect();
    let source = Arc::new(Decoded(images?));
    let rand = "rand-m9-mstd0.5-inc1";
    let with = |rand_augment: &str, erasing: f64| {
        Some(AugmentConfig {
            random_resized_crop: Some(RandomResizedCrop::default()),
            horizontal_flip: true,
            rand_augment: rand_augment.to_owned(),
            random_erasing: erasing,
            random_erasing_mode: ErasingMode::Pixel,
            ..AugmentConfig::default()
        })
    };
    let cases = [
        ("crop, flip", with("", 0.0)),
        ("crop, flip, RandAugment", with(rand, 0.0)),
        ("crop, flip, RandAugment, erasing", with(rand, 0.25)),
        ("evaluation", None),
    ];
    for (name, augment) in cases {
        let options = LoaderOptions {
            threads: 0,
            transform: Some(EvalTransform::default()),
            augment,
            ..LoaderOptions::evaluation([224, 224], 16)
        };
        let loader =
            Loader::new(source.clone(), &[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225], options)?;
        let pass = |epoch: usize| -> Result<f64, DataError> {
            let start = processor_seconds();
            for batch in loader.epoch(epoch as u64, 0) {
                black_box(batch?);
            }
            Ok(source.len() as f64 / (processor_seconds() - start))
        };
        let rates: Result<Vec<f64>, DataError> = (0..PASSES).map(pass).collect();
        let best = rates?.into_iter().fold(0.0, f64::max);
        println!("spvit  {name:34} {best:8.0} images/s");
    }
    Ok(())
}
