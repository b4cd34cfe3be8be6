//! Writes images of a run as its models take them, for programs that calibrate or evaluate an exported model:
//!
//!     cargo run --release -p spvit-train --example images -- runs/demo images.safetensors
//!
//! gives `calibration` [N, channels, height, width], of the first training images, `test` likewise and
//! `labels` of these. Of a large set there are as many as fit into a quarter of a gigabyte.

use std::{collections::BTreeMap, error::Error, path::PathBuf, sync::Arc};

use spvit_data::{ImageSource, Loader, LoaderOptions};
use spvit_formats::{HostTensor, StateDict, write_safetensors};
use spvit_interchange::{ReadOptions, describe};
use spvit_train::{RunConfig, RunFolder};

/// Images that calibrate.
const CALIBRATION: usize = 512;
/// Values of all images of a split, at most.
const VALUES: usize = 1 << 26;

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let [run, out] = &paths[..] else { return Err("expected a run and the file to write".into()) };
    let run = RunFolder::open(run)?;
    let config = RunConfig::read(&run.config(), &[])?;
    let normal = describe(&run.compact(), &ReadOptions::default())?.input.normal();
    let normal = normal.ok_or("the compact model does not say how images are normalised")?;
    let options = config.data.options(config.model.channels(), Some(run.root()));
    let data = spvit_data::load(&config.data.folder, &options)?;
    let size = config.model.image_size();
    let read = |set: &Arc<dyn ImageSource>, most: usize| -> Result<_, Box<dyn Error>> {
        let mut options = LoaderOptions::evaluation(size, 64);
        options.transform = config.data.transform.clone();
        let loader = Loader::new(set.clone(), &normal.mean, &normal.std, options)?;
        let each = config.model.channels() * size[0] * size[1];
        let most = most.min(VALUES / each).min(set.len());
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for batch in loader.epoch(0, 0) {
            let batch = batch?;
            images.extend(batch.images);
            labels.extend(batch.labels.iter().map(|label| *label as f32));
            if labels.len() >= most {
                break;
            }
        }
        let most = most.min(labels.len());
        images.truncate(most * each);
        labels.truncate(most);
        let shape = vec![most, config.model.channels(), size[0], size[1]];
        let labels = HostTensor { shape: vec![most], data: labels };
        Ok((HostTensor { shape, data: images }, labels))
    };
    let ((calibration, _), (test, labels)) =
        (read(&data.train, CALIBRATION)?, read(&data.test, usize::MAX)?);
    let tensors = StateDict::from(
        [("calibration", calibration), ("test", test), ("labels", labels)]
            .map(|(name, tensor)| (name.to_string(), tensor)),
    );
    write_safetensors(out, &tensors, &BTreeMap::new())?;
    Ok(())
}
