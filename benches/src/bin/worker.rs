//! Times one step for every line on standard input, so that another program can measure it in turn
//! with other workers. A line names the step; the answer is its seconds. `memory` answers with the
//! process's peak resident memory in MiB.

use std::io::{BufRead, Write};
use std::time::Instant;

use burn::backend::Autodiff;
use clap::Parser;
use spvit_benches::Workload;
use spvit_core::TrainBackend;
use spvit_layers::VitConfig;

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
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let config = VitConfig::preset(&arguments.shape)?;
    match arguments.backend.as_str() {
        #[cfg(feature = "flex")]
        "flex" => serve::<Autodiff<burn::backend::Flex>>(config, arguments.batch),
        #[cfg(feature = "ndarray")]
        "ndarray" => serve::<Autodiff<burn::backend::NdArray>>(config, arguments.batch),
        #[cfg(feature = "cuda")]
        "cuda" => serve::<Autodiff<burn::backend::Cuda>>(config, arguments.batch),
        #[cfg(feature = "tch")]
        "tch" => serve::<Autodiff<burn::backend::LibTorch>>(config, arguments.batch),
        other => Err(format!("backend {other} is not compiled in; add --features {other}").into()),
    }
}

fn serve<B: TrainBackend>(
    config: VitConfig,
    batch: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut workload = Workload::<B>::new(config, batch, &B::Device::default());
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let began = Instant::now();
        match line.trim() {
            "dense" => workload.dense_step(),
            "search" => workload.search_step(),
            "finetune" => workload.finetune_step(),
            "dense_forward" => {
                workload.dense_forward();
            }
            "compact_forward" => {
                workload.compact_forward();
            }
            "share" => {
                writeln!(out, "{}", workload.compact_share())?;
                out.flush()?;
                continue;
            }
            "memory" => {
                writeln!(out, "{}", peak_memory()?)?;
                out.flush()?;
                continue;
            }
            other => return Err(format!("unknown step '{other}'").into()),
        }
        writeln!(out, "{}", began.elapsed().as_secs_f64())?;
        out.flush()?;
    }
    Ok(())
}

/// Peak resident memory in MiB, as Linux counts it.
fn peak_memory() -> Result<f64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0").parse()?;
    Ok(kib / 1024.0)
}
