//! What a person types.

mod run;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use spvit_train::{config::GivenBudget, latency::Runtime};

use crate::{
    device::DeviceName,
    model_arguments::{ModelArguments, at_least_one},
    output::tell,
};

pub use run::{ConfigArguments, RunArguments};

const AFTER_HELP: &str = "\
Every command works on a run folder: config.toml (as resolved), metrics.jsonl, gates.jsonl,
architecture.json, compact.safetensors, evaluation.json, summary.json, report.html (a page that shows
it all) and checkpoints; several budgets have a folder each in budgets/. Ctrl-C stops after a checkpoint;
--resume goes on and gives the same result as a run that was never stopped; --redo does a part anew, by
other values.

FLOPs are multiply-adds counted once. Paths in a configuration are relative to the current folder.

Examples:
  spvit run --weights deit_small_patch16_224.pth --data imagenet --budget 60%
  spvit predict runs/run-0/compact.safetensors photos/
  spvit run --config configs/demo.toml --out runs/demo
  spvit run --config configs/demo.toml --set search.budget=0.5 --seed 1
  spvit run --resume runs/demo
  spvit run --config configs/demo.toml --budgets 80%,60%,40% --out runs/front
  spvit derive runs/demo --budget 55%
  spvit measure configs/demo.toml --batch 8 --out latency.json
  spvit run --config configs/demo.toml --budget '60% ms' --latency-table latency.json
  spvit watch runs/demo
  spvit report runs/demo runs/other --out both.html
  spvit profile runs/demo/architecture.json --measure";

/// Finds which attention layers of a vision transformer can become convolutions and which hidden
/// dimensions can go, at a FLOPs budget; prunes, fine-tunes and measures the result.
#[derive(Debug, Parser)]
#[command(name = "spvit", version, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a dense model from scratch: dense.safetensors
    Pretrain(RunArguments),
    /// Search from a dense model: searched.safetensors
    Search(RunArguments),
    /// Derive the architecture and prune the searched weights: architecture.json,
    /// pruned.safetensors
    Prune(RunArguments),
    /// Fine-tune the pruned model: compact.safetensors
    Finetune(RunArguments),
    /// Evaluate a run's models on the test split: summary.json, report.html; or, with --weights, any model on any
    /// images: top-1, top-5, by class
    Evaluate(EvaluateArguments),
    /// Classify images
    Predict(PredictArguments),
    /// Show what augmentation does to some images, on a contact sheet (.png)
    Preview(PreviewArguments),
    /// Search, prune, fine-tune and evaluate
    Run(RunArguments),
    /// Cut another budget from a run's finished search, in seconds and without training
    Derive(DeriveArguments),
    /// Write a run's page anew, report.html; of several runs one page that compares them
    Report(ReportArguments),
    /// Show a run in a browser while it goes on
    Watch(WatchArguments),
    /// Show what every block of a model costs
    Profile(ProfileArguments),
    /// Measure how long every operation, head count and FFN width of a model takes: latency.json
    Measure(MeasureArguments),
    /// Time models that standard input names, in the scale of a table
    #[command(hide = true)]
    Time(TimeArguments),
    /// Turn a model into another form: safetensors, the published code's, ONNX, an architecture
    Convert(ConvertArguments),
}

#[derive(Debug, Args)]
pub struct PredictArguments {
    /// A model of spvit or another program (.safetensors, .pth, .pt, .bin, or a folder with one)
    #[arg(value_name = "MODEL")]
    pub file: PathBuf,

    /// Images, or folders of images
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<PathBuf>,

    /// Likeliest classes to show
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    pub top: usize,

    /// Prints one JSON object a line for each image
    #[arg(long)]
    pub json: bool,

    /// Changes how images come to the model, such as data.transform.crop_pct=1.0; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,

    /// What computes: flex, ndarray, cuda, wgpu, vulkan or tch (libtorch's CPU)
    #[arg(long, default_value = DeviceName::DEFAULT)]
    pub device: DeviceName,

    #[command(flatten)]
    pub model: ModelArguments,
}

#[derive(Debug, Args)]
pub struct EvaluateArguments {
    #[command(flatten)]
    pub run: RunArguments,

    /// With --weights: the images to look at, train, validation or test
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    pub split: Split,

    /// With --weights: prints the figures as JSON
    #[arg(long)]
    pub json: bool,
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// what weights are trained on
    Train,
    /// what decisions are made on
    #[value(alias = "val")]
    Validation,
    /// what is reported on
    Test,
}

#[derive(Debug, Args)]
pub struct PreviewArguments {
    #[command(flatten)]
    pub values: ConfigArguments,

    /// The contact sheet to write (.png)
    #[arg(value_name = "FILE")]
    pub output: PathBuf,

    /// Images, each in a row
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub images: usize,

    /// Variants of each image
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub variants: usize,
}

#[derive(Debug, Args)]
pub struct DeriveArguments {
    /// The run, of one budget or of several
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    /// The budget: a share (55%), FLOPs (1.3G), parameters (12M params) or a time (1.8 ms, 60% ms)
    #[arg(long, value_name = "BUDGET")]
    pub budget: GivenBudget,

    /// What computes: flex, ndarray, cuda, wgpu, vulkan or tch (libtorch's CPU)
    #[arg(long, default_value = DeviceName::DEFAULT)]
    pub device: DeviceName,
}

#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Run folders
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,

    /// The page to write (.html) [default: report.html in the run folder; comparison.html for several]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct WatchArguments {
    /// The run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    /// Where this machine's browsers find the page, on 127.0.0.1
    #[arg(long, value_name = "N", default_value_t = 7878, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
}

#[derive(Debug, Args)]
pub struct ProfileArguments {
    /// A configuration (.toml), an architecture (.json) or a model of spvit or another program
    /// (.safetensors, .pth, .pt, .bin)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Writes a picture of the architecture
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Also measures the latency of this and of the dense model
    #[arg(long)]
    pub measure: bool,

    /// What computes, with --measure: flex, ndarray, cuda, wgpu, vulkan or tch (libtorch's CPU)
    #[arg(long, default_value = DeviceName::DEFAULT)]
    pub device: DeviceName,

    #[command(flatten)]
    pub model: ModelArguments,
}

#[derive(Debug, Args)]
pub struct MeasureArguments {
    /// A run's folder, a configuration (.toml), an architecture (.json) or a model of spvit or another
    /// program; what counts is the shape of its dense model
    #[arg(value_name = "SOURCE")]
    pub source: PathBuf,

    /// The table to write
    #[arg(long, value_name = "FILE", default_value = "latency.json")]
    pub out: PathBuf,

    /// Instead of writing a table, says what the model itself takes in the scale of this one, on its
    /// device, by its runtime and batch, timed in turn with the dense model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "batch", "runtime"])]
    pub against: Option<PathBuf>,

    /// Images of a pass
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub batch: usize,

    /// What computes: burn (spvit itself, on --device) or onnxruntime (on the processor; its library is
    /// named by ORT_DYLIB_PATH)
    #[arg(long, value_name = "NAME", default_value = "burn")]
    pub runtime: Runtime,

    /// With burn: flex, ndarray, cuda, wgpu, vulkan or tch (libtorch's CPU). RAYON_NUM_THREADS sets the
    /// number of threads, of onnxruntime too
    #[arg(long, default_value = DeviceName::DEFAULT)]
    pub device: DeviceName,

    /// Seconds after which no further round is begun; five rounds are done in any case
    #[arg(long, value_name = "N", default_value_t = 90)]
    pub seconds: u64,

    #[command(flatten)]
    pub model: ModelArguments,
}

#[derive(Debug, Args)]
pub struct TimeArguments {
    /// The table's device
    #[arg(long)]
    pub device: DeviceName,
}

#[derive(Debug, Args)]
pub struct ConvertArguments {
    /// A model of spvit, timm, DeiT, Hugging Face or the published code (.safetensors, .pth)
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,

    /// What to write: .safetensors, .onnx or .json, or with --form hub a folder
    #[arg(value_name = "OUTPUT")]
    pub output: PathBuf,

    /// The form to write [default: by OUTPUT's ending]
    #[arg(long)]
    pub form: Option<Form>,

    /// For ONNX: images of a pass, where a runtime wants that fixed [default: left open]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub batch: Option<usize>,

    /// For ONNX: weights and products in float16; norms and softmax stay in float32
    #[arg(long)]
    pub half: bool,

    /// For ONNX: takes bytes, [batch, height, width, channels], and normalises them inside
    #[arg(long)]
    pub fuse_preprocess: bool,

    /// What holds the model meanwhile
    #[arg(long)]
    pub device: Option<DeviceName>,

    #[command(flatten)]
    pub model: ModelArguments,
}

/// What `convert` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// timm's names where timm has the layer, the architecture in the metadata
    Safetensors,
    /// the same with the published code's split attn.qk and attn.v
    Published,
    /// ONNX, opset 17
    Onnx,
    /// a folder for transformers.js and optimum: configurations, ONNX in float32 and float16, a model card
    Hub,
    /// the architecture alone, as JSON
    Architecture,
}

/// Ends on arguments that cannot be read: one line on stderr; help and version go to stdout.
pub fn refuse(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;

    let text = error.to_string();
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Nobody is left to tell if this cannot be written.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    let words: Vec<&str> = text.lines().take_while(|line| !line.starts_with("Usage:")).collect();
    let words: Vec<&str> = words.iter().flat_map(|line| line.split_whitespace()).collect();
    tell(words.join(" ").replace(" For more information, try '--help'.", ""));
    ExitCode::from(2)
}
