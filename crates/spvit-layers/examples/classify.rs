//! Loads a compact model that `spvit` wrote and classifies an image, with `spvit-layers` alone:
//!
//!     cargo run --release -p spvit-layers --example classify -- compact.safetensors image.png
//!
//! computes on flex, and with `--features wgpu` on a GPU.

use std::{error::Error, fs};

use burn::tensor::{DType, Tensor, TensorData};
use safetensors::SafeTensors;
use serde_json::Value;
use spvit_layers::{BlockConfig, Init, Mode, ModelConfig, Vit, state};

#[cfg(not(feature = "wgpu"))]
type B = burn::backend::Flex;
#[cfg(feature = "wgpu")]
type B = burn::backend::Wgpu;

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [model, image] = &paths[..] else { return Err("expected a model and an image".into()) };
    let (device, bytes) = (Default::default(), fs::read(model)?);

    // The metadata say what the model looks like and how images come to it.
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let told = header.metadata().clone().ok_or("the file has no metadata")?;
    let json = |key: &str| serde_json::from_str::<Value>(told.get(key).map_or("", String::as_str));
    let (architecture, input) = (json("spvit.architecture")?, json("spvit.input")?);
    let config: ModelConfig = serde_json::from_value(architecture["model"].clone())?;
    let blocks = architecture["blocks"].as_array().into_iter().flatten().map(block);
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    let tensor = |(name, view): (String, safetensors::tensor::TensorView)| {
        (name, TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), DType::F32))
    };
    let tensors = SafeTensors::deserialize(&bytes)?.tensors().into_iter().map(tensor).collect();
    let vit = Vit::<B>::new(&config, &blocks, &mut Init::new(0, &device));
    let vit = state::import(vit, &tensors)?;

    // Resized as a whole; `spvit predict` prepares images as the metadata say.
    let [height, width] = config.image_size();
    let image =
        image::open(image)?.resize_exact(width as u32, height as u32, image::imageops::CatmullRom);
    let (values, channels) = match config.channels() {
        1 => (image.to_luma8().into_raw(), 1),
        _ => (image.to_rgb8().into_raw(), 3),
    };
    let number = |key: &str, c: usize| input[key][c].as_f64().unwrap_or(0.5) as f32;
    let normal = |(i, value): (usize, &u8)| {
        (f32::from(*value) / 255.0 - number("mean", i % channels)) / number("std", i % channels)
    };
    let values: Vec<f32> = values.iter().enumerate().map(normal).collect();
    let images =
        Tensor::<B, 4>::from_data(TensorData::new(values, [1, height, width, channels]), &device);
    let logits = vit.forward(images.permute([0, 3, 1, 2]), &Mode::Evaluate);
    let class = logits.argmax(1).into_data().iter::<i64>().next().unwrap_or_default();
    println!("{class} {}", input["class_names"][class as usize].as_str().unwrap_or_default());
    Ok(())
}

/// A block: its operation, the number of hidden dimensions and that of attention heads that are left.
fn block(block: &Value) -> Result<BlockConfig, serde_json::Error> {
    let count = |key: &str| block[key].as_array().map(Vec::len);
    let operation = serde_json::from_value(block["operation"].clone())?;
    let heads = count("heads").filter(|heads| *heads > 0);
    Ok(BlockConfig { operation, hidden: count("kept").unwrap_or(0), heads })
}
