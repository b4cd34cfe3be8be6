//! Models that onnxruntime computes while they are timed.

use std::{env, path::PathBuf, time::Instant};

use burn::tensor::backend::Backend;
use ort::{inputs, session::Session, value::TensorRef};
use spvit_formats::onnx;
use spvit_interchange::{network, weights};
use spvit_layers::{BlockConfig, ModelConfig, Vit, state};
use spvit_search::{Architecture, BlockArchitecture, CostModel};

use super::{Stopwatch, machine};
use crate::{
    TrainError,
    onnxruntime::{self, LIBRARY},
};

fn failed(error: impl ToString) -> TrainError {
    TrainError::Config { source_name: "onnxruntime".into(), problem: onnxruntime::line(error) }
}

/// Its name, and its release as its file's name has it, or else the commit that it was built of.
pub fn version() -> Result<String, TrainError> {
    onnxruntime::environment().map_err(failed)?;
    let path = env::var_os(LIBRARY).map(PathBuf::from).unwrap_or_default();
    let path = path.canonicalize().unwrap_or(path);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let release = name.as_deref().and_then(release);
    let commit = || {
        let commit = ort::info().split_once("git-commit-id=")?.1.split(',').next()?;
        Some(format!("of commit {commit}"))
    };
    let known = release.map(str::to_string).or_else(commit);
    Ok(format!("onnxruntime {}", known.unwrap_or_default()).trim_end().into())
}

/// `1.32.0` of `libonnxruntime.so.1.32.0` or `libonnxruntime.1.32.0.dylib`.
fn release(name: &str) -> Option<&str> {
    let from = name.find(|c: char| c.is_ascii_digit())?;
    let number = &name[from..];
    let end = number.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number.len());
    Some(number[..end].trim_end_matches('.'))
}

/// A model, ready to be timed.
pub fn load<B: Backend>(
    model: &Vit<B>,
    config: &ModelConfig,
    blocks: &[BlockConfig],
    batch: usize,
) -> Result<Stopwatch, TrainError> {
    let environment = onnxruntime::environment().map_err(failed)?;
    let blocks = blocks.iter().map(BlockArchitecture::first).collect();
    let architecture = Architecture::new(config.clone(), CostModel::Macs, blocks, None);
    let tensors = weights::to_host(state::export(model));
    let bytes = onnx::encode(&network(&architecture), &tensors)?;
    let builder = Session::builder(&environment).map_err(failed)?;
    let builder = builder.with_intra_threads(machine::threads()).map_err(failed)?;
    // Threads spin within a pass, as they do by default, but not on into another model's.
    let mut builder =
        builder.with_config_entry("session.force_spinning_stop", "1").map_err(failed)?;
    let mut session = builder.commit_from_memory(&bytes).map_err(failed)?;
    let [height, width] = config.image_size();
    let shape = [batch, config.channels(), height, width];
    let images = vec![0.0f32; shape.iter().product()];
    Ok(Box::new(move || {
        let began = Instant::now();
        let images = TensorRef::from_array_view((shape, &images[..])).map_err(failed)?;
        let outputs = session.run(inputs![images]).map_err(failed)?;
        outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        Ok(began.elapsed().as_secs_f64())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_stands_in_the_librarys_name() {
        for (name, expected) in [
            ("libonnxruntime.so.1.32.0", Some("1.32.0")),
            ("libonnxruntime.1.20.1.dylib", Some("1.20.1")),
            ("onnxruntime.dll", None),
        ] {
            assert_eq!(release(name), expected, "{name}");
        }
    }
}
