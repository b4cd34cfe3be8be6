//! How many images a loader gives in a second, as `tests/interop/loader_benchmark.py` measures torchvision's.
//!
//! ```text
//! cargo run --release -p spvit-data --example loader -- FOLDER [THREADS] [EPOCHS] [BATCH] [INDEX_FOLDER]
//! ```

#![allow(clippy::print_stdout, reason = "a program")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use spvit_data::{
    AugmentConfig, DatasetOptions, ImageOptions, Loader, LoaderOptions, RandomResizedCrop, load,
};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name a folder of images")?;
    let mut number =
        |otherwise: usize| arguments.next().map_or(Ok(otherwise), |text| text.parse::<usize>());
    let (threads, epochs, batch) = (number(2)?, number(1)?, number(64)?);
    let images = ImageOptions {
        mean: Some(MEAN.to_vec()),
        std: Some(STD.to_vec()),
        index: arguments.next().map(PathBuf::from),
        ..ImageOptions::default()
    };
    let began = Instant::now();
    let options = DatasetOptions { images, ..DatasetOptions::new(0) };
    let data = load(folder.as_ref(), &options)?;
    println!(
        "opened {} training images in {:.2} s",
        data.train.len(),
        began.elapsed().as_secs_f64()
    );
    data.notes.iter().for_each(|note| println!("{note}"));
    let augment = AugmentConfig {
        random_resized_crop: Some(RandomResizedCrop::default()),
        horizontal_flip: true,
        ..AugmentConfig::default()
    };
    let options =
        LoaderOptions { threads, ..LoaderOptions::training([224, 224], batch, 0, augment) };
    let loader = Loader::new(data.train.clone(), &data.mean, &data.std, options)?;
    let loader = loader.sharing(&data.broken);
    for epoch in 0..epochs as u64 {
        let began = Instant::now();
        let (mut images, mut first) = (0, None);
        for batch in loader.epoch(epoch, 0) {
            images += batch?.labels.len();
            first.get_or_insert_with(|| began.elapsed().as_secs_f64());
        }
        let seconds = began.elapsed().as_secs_f64();
        let first = 1000.0 * first.unwrap_or_default();
        println!("{:.1} images/s, first batch after {first:.0} ms", images as f64 / seconds);
    }
    loader.broken().take_notes().iter().for_each(|note| println!("{note}"));
    Ok(())
}
