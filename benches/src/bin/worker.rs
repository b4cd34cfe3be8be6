//! Times one step for every line on standard input, so that another program can measure it in turn
//! with other workers. A line names the step; the answer is its seconds. `memory` answers with the
//! process's peak resident memory in MiB, or with what it reserves on a GPU, which gives nothing back.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use burn::backend::Autodiff;
use clap::Parser;
use spvit_benches::{LayerLoad, Workload};
use spvit_core::{Precision, TrainBackend};
use spvit_layers::{BlockShape, ModelConfig};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Times training steps on request.
#[derive(Parser)]
struct Arguments {
    /// Backend, one of those compiled in.
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Preset of the model's shape.
    #[arg(long, default_value = "vit_mini")]
    shape: String,
    /// Images of a batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Measures one attention layer of the shape instead: msa, bconv1x1 or bconv3x3, whose steps
    /// are `forward` and `train`.
    #[arg(long)]
    layer: Option<String>,
    /// Patches of a side of the layer's map.
    #[arg(long, default_value_t = 14)]
    side: usize,
    /// Type of products' factors in training steps, as `run.precision` names it: f32, bf16 or f16.
    #[arg(long, default_value = "f32", value_parser = precision)]
    precision: Precision,
    /// Folder where wgpu writes down what it is told to do, on wgpu.
    #[arg(long)]
    trace: Option<PathBuf>,
}

fn precision(name: &str) -> Result<Precision, String> {
    let all = [Precision::F32, Precision::Bf16, Precision::F16];
    let known = all.into_iter().find(|precision| precision.name() == name);
    known.ok_or_else(|| "expected f32, bf16 or f16".into())
}

/// Takes the step with this name, if there is one.
type Steps = Box<dyn FnMut(&str) -> Option<()>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    match arguments.backend.as_str() {
        #[cfg(feature = "flex")]
        "flex" => serve::<Autodiff<burn::backend::Flex>>(&arguments),
        #[cfg(feature = "ndarray")]
        "ndarray" => serve::<Autodiff<burn::backend::NdArray>>(&arguments),
        #[cfg(feature = "cuda")]
        "cuda" => serve::<Autodiff<burn::backend::Cuda>>(&arguments),
        #[cfg(feature = "wgpu")]
        "wgpu" => {
            let device = arguments.trace.as_deref().map(spvit_benches::traced).transpose()?;
            serve_on::<Autodiff<burn::backend::Wgpu>>(&arguments, &device.unwrap_or_default())
        }
        #[cfg(feature = "vulkan")]
        "vulkan" => serve::<Autodiff<burn::backend::Vulkan>>(&arguments),
        #[cfg(feature = "tch")]
        "tch" => serve::<Autodiff<burn::backend::LibTorch>>(&arguments),
        other => Err(format!("backend {other} is not compiled in").into()),
    }
}

fn serve<B: TrainBackend>(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    if arguments.trace.is_some() {
        return Err(format!("--trace: {} is not traced, wgpu is", arguments.backend).into());
    }
    serve_on::<B>(arguments, &B::Device::default())
}

fn serve_on<B: TrainBackend>(
    arguments: &Arguments,
    device: &B::Device,
) -> Result<(), Box<dyn std::error::Error>> {
    let config = ModelConfig::preset(&arguments.shape)?;
    let (mut step, share) = match &arguments.layer {
        Some(layer) => (layer_steps::<B>(config, layer, arguments, device)?, 1.0),
        None => model_steps::<B>(config, arguments, device),
    };
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match line.trim() {
            "share" => share,
            "memory" => match B::reserved(device) {
                Some(bytes) => bytes as f64 / f64::from(1 << 20),
                None => peak_memory()?,
            },
            name => {
                let began = Instant::now();
                step(name).ok_or_else(|| format!("unknown step '{name}'"))?;
                began.elapsed().as_secs_f64()
            }
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// The steps of whole models, and the compact model's share of the dense one's FLOPs.
fn model_steps<B: TrainBackend>(
    config: ModelConfig,
    arguments: &Arguments,
    device: &B::Device,
) -> (Steps, f64) {
    let Arguments { batch, precision, .. } = *arguments;
    let mut workload = Workload::<B>::new(config, batch, precision, device);
    let share = workload.compact_share();
    let steps = move |name: &str| {
        match name {
            "dense" => workload.dense_step(),
            "search" => workload.search_step(),
            "finetune" => workload.finetune_step(),
            "dense_forward" => drop(workload.dense_forward()),
            "compact_forward" => drop(workload.compact_forward()),
            _ => return None,
        }
        Some(())
    };
    (Box::new(steps), share)
}

/// The steps of one layer.
fn layer_steps<B: TrainBackend>(
    config: ModelConfig,
    layer: &str,
    arguments: &Arguments,
    device: &B::Device,
) -> Result<Steps, Box<dyn std::error::Error>> {
    let operation = layer.parse()?;
    let block = config.blocks().into_iter().next().ok_or("the shape has no block")?;
    let block = BlockShape { map: [arguments.side; 2], ..block };
    let load = LayerLoad::<B>::new(&block, operation, arguments.batch, device)
        .ok_or("a shortcut computes nothing")?;
    Ok(Box::new(move |name: &str| {
        match name {
            "forward" => load.forward(),
            "train" => load.train(),
            _ => return None,
        }
        Some(())
    }))
}

/// Peak resident memory in MiB, as Linux counts it.
fn peak_memory() -> Result<f64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0").parse()?;
    Ok(kib / 1024.0)
}
