//! Runs each `FOLDER/networks/*/network.onnx` and `model.onnx` in tract, with a batch of one and
//! with the rest, and compares the logits with those in `io.safetensors`, within 1e-4; and so each
//! `FOLDER/styles/*/dense.onnx` and `compact.onnx` with their `.io.safetensors`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use safetensors::SafeTensors;
use tract_onnx::prelude::*;

const LIMIT: f32 = 1e-4;

fn floats(file: &SafeTensors, name: &str) -> Result<(Vec<usize>, Vec<f32>), Box<dyn Error>> {
    let view = file.tensor(name)?;
    let (numbers, _) = view.data().as_chunks::<4>();
    Ok((view.shape().to_vec(), numbers.iter().map(|&b| f32::from_le_bytes(b)).collect()))
}

/// The largest difference of any logit.
fn check(graph: &Path, io: &Path) -> Result<f32, Box<dyn Error>> {
    let bytes = std::fs::read(io)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let (shape, input) = floats(&file, "input")?;
    let (_, expected) = floats(&file, "logits")?;
    let image = shape[1..].iter().product::<usize>();
    let mut found = Vec::new();
    for images in [&input[..image], &input[image..]] {
        let mut batch = shape.clone();
        batch[0] = images.len() / image;
        let model = tract_onnx::onnx()
            .model_for_path(graph)?
            .with_input_fact(0, f32::fact(&batch).into())?
            .into_optimized()?
            .into_runnable()?;
        let output = model.run(tvec!(Tensor::from_shape(&batch, images)?.into()))?;
        found
            .extend_from_slice(output[0].to_plain_array_view::<f32>()?.as_slice().ok_or("layout")?);
    }
    if found.len() != expected.len() {
        return Err(format!("{} logits instead of {}", found.len(), expected.len()).into());
    }
    Ok(found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
}

/// The folders in a folder, by name.
fn folders(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
    let mut folders = entries.collect::<std::io::Result<Vec<_>>>()?;
    folders.sort();
    Ok(folders)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: spvit-tract-check FOLDER")?;
    let mut files = Vec::new();
    for network in folders(&Path::new(&folder).join("networks"))? {
        let io = network.join("io.safetensors");
        files.extend(["network", "model"].map(|f| (network.join(format!("{f}.onnx")), io.clone())));
    }
    for style in folders(&Path::new(&folder).join("styles"))? {
        let io = |form: &str| style.join(format!("{form}.io.safetensors"));
        files.extend(["dense", "compact"].map(|f| (style.join(format!("{f}.onnx")), io(f))));
    }
    let mut sound = !files.is_empty();
    for (graph, io) in files {
        let (verdict, what) = match check(&graph, &io) {
            Ok(off) if off <= LIMIT => ("ok", format!("off by {off:.1e}")),
            Ok(off) => ("FAIL", format!("off by {off:.1e}")),
            Err(error) => ("FAIL", format!("{error:?}")),
        };
        sound &= verdict == "ok";
        let name = graph.parent().and_then(Path::file_name).unwrap_or_default().display();
        let file = graph.file_name().unwrap_or_default().display();
        println!("{verdict:4} {name:24} tract {file:14} {what}");
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
