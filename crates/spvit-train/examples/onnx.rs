//! Classifies an image with an exported model in onnxruntime, by the `ort` crate alone:
//!
//!     spvit convert runs/demo/compact.safetensors compact.onnx --fuse-preprocess
//!     ORT_DYLIB_PATH=/path/of/libonnxruntime.so cargo run --release -p spvit-train \
//!         --features onnxruntime --example onnx -- compact.onnx image.png
//!
//! The network takes bytes and normalises them itself, and its file names the classes.

use std::error::Error;

use image::imageops::CatmullRom;
use ort::{
    inputs,
    session::Session,
    value::{TensorRef, ValueType},
};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [model, image] = &paths[..] else { return Err("expected a network and an image".into()) };
    let library = std::env::var("ORT_DYLIB_PATH")?;
    let environment = ort::init_from(&library)?.build()?;
    let mut session = Session::builder(&environment)?.commit_from_file(model)?;
    let labels = session.metadata()?.custom("labels").unwrap_or_else(|| "[]".into());
    let labels: Vec<String> = serde_json::from_str(&labels)?;
    let ValueType::Tensor { shape, .. } = session.inputs()[0].dtype().clone() else {
        return Err("its input is no tensor".into());
    };
    let [_, height, width, channels] = shape[..] else {
        return Err("its input is no image".into());
    };
    let image = image::open(image)?.resize_exact(width as u32, height as u32, CatmullRom);
    let bytes = match channels {
        1 => image.to_luma8().into_raw(),
        _ => image.to_rgb8().into_raw(),
    };
    let bytes = TensorRef::from_array_view(([1, height, width, channels], &bytes[..]))?;
    let outputs = session.run(inputs![bytes])?;
    let (_, logits) = outputs[0].try_extract_tensor::<f32>()?;
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap_or(0);
    println!("{best} {}", labels.get(best).map_or("", String::as_str));
    Ok(())
}
