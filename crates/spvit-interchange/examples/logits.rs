//! Reads models and gives their logits, for tests/interop/coverage.py: one process for many models.
//!
//! Each line on stdin is `{"model": FILE, "input": FILE}`; the input has a tensor `input`
//! `[batch, channels, height, width]`. Each line on stdout answers one: `{"logits": [...], "shape":
//! [batch, classes], "notes": [...]}`, `{"refused": MESSAGE}` or `{"panic": MESSAGE}`. A model is
//! also written beside its file and read again, and as ONNX: again.safetensors and again.onnx.

use std::{
    io::{BufRead, Write},
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
};

use burn::{
    backend::Flex,
    tensor::{Tensor, TensorData},
};
use serde::Deserialize;
use serde_json::{Value, json};
use spvit_interchange::{ReadOptions, Target, read, write};
use spvit_layers::Mode;

#[derive(Deserialize)]
struct Request {
    model: PathBuf,
    input: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    panic::set_hook(Box::new(|_| {}));
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let answer = panic::catch_unwind(AssertUnwindSafe(|| answer(&request)));
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => json!({"refused": error.to_string()}),
            Err(cause) => {
                let text = cause.downcast_ref::<String>().map(String::as_str);
                let text = text.or(cause.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                json!({"panic": text})
            }
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn answer(request: &Request) -> Result<Value, Box<dyn std::error::Error>> {
    let device = Default::default();
    let read = read::<Flex>(&request.model, &ReadOptions::default(), 0, &device)?;
    let input = spvit_formats::read(&request.input)?.tensors.remove("input").ok_or("no input")?;
    let input = Tensor::<Flex, 4>::from_data(TensorData::new(input.data, input.shape), &device);
    let logits = read.model.forward(input.clone(), &Mode::Evaluate);
    let again = request.model.with_file_name("again.safetensors");
    write(&again, Target::Safetensors, &read.model, &read.architecture, &read.input)?;
    let again = self::read::<Flex>(&again, &ReadOptions::default(), 0, &device)?;
    if again.model.forward(input, &Mode::Evaluate).into_data() != logits.clone().into_data() {
        return Ok(json!({"panic": "written and read again, it is another model"}));
    }
    let onnx = request.model.with_file_name("again.onnx");
    write(&onnx, Target::Onnx, &read.model, &read.architecture, &read.input)?;
    let (shape, values) = (logits.dims(), logits.into_data());
    let values: Vec<f32> = values.iter::<f32>().collect();
    Ok(json!({"logits": values, "shape": shape, "notes": read.notes}))
}
