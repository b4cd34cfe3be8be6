//! What a person types.

use std::{path::PathBuf, process::ExitCode, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use spvit_interchange::{
    ReadOptions,
    detect::{Pool, activation},
};
use spvit_layers::Activation;
use spvit_train::Part;

use crate::device::DeviceName;
use crate::output::tell;

const AFTER_HELP: &str = "\
Every command works on a run folder: config.toml (as resolved), metrics.jsonl, architecture.json,
compact.safetensors, summary.json and checkpoints. Ctrl-C stops after a checkpoint; --resume goes on
and gives the same result as a run that was never stopped; --redo does a part anew, by other values.

FLOPs are multiply-adds counted once. Paths in a configuration are relative to the current folder.

Examples:
  spvit run --config configs/demo.toml --out runs/demo
  spvit run --config configs/demo.toml --set search.budget=0.5 --seed 1
  spvit run --resume runs/demo
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
    /// Evaluate a run's models on the test split: summary.json
    Evaluate(RunArguments),
    /// Search, prune, fine-tune and evaluate
    Run(RunArguments),
    /// Show what every block of a model costs
    Profile(ProfileArguments),
    /// Turn a model into another form: safetensors, the published code's, ONNX, an architecture
    Convert(ConvertArguments),
}

/// What all commands that train or evaluate take.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Configuration to start from [default: the built-in values]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Changes one value of the configuration, such as search.budget=0.5; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,

    /// What computes: flex, ndarray, cuda, wgpu, vulkan or tch (libtorch's CPU)
    #[arg(long, default_value = DeviceName::DEFAULT)]
    pub device: DeviceName,

    /// Seed of every random decision [default: the configuration's]
    // A configuration's whole numbers end there.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,

    /// The run folder; pretrain, search and run want a new one, the others one that holds a run
    /// [default: runs/COMMAND-SEED]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,

    /// Goes on with the run in this folder, with its configuration
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub resume: Option<PathBuf>,

    /// Removes what this part of the run gave, and all that was computed from it, and does it anew,
    /// with --set by other values if need be
    #[arg(long, value_name = "PART")]
    pub redo: Option<Redo>,
}

/// A part of a run that can be done anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Redo {
    /// everything
    Pretrain,
    /// the search, the architecture and fine-tuning
    Search,
    /// the architecture and fine-tuning
    Prune,
    /// fine-tuning
    Finetune,
}

impl Redo {
    /// What is done anew.
    pub fn repeats(self) -> &'static str {
        match self {
            Self::Pretrain => "pretraining and all that follows it are done anew",
            Self::Search => "the search, the architecture and fine-tuning are done anew",
            Self::Prune => "the architecture and fine-tuning are done anew",
            Self::Finetune => "fine-tuning is done anew",
        }
    }

    /// As the run folder takes it.
    pub fn part(self) -> Part {
        match self {
            Self::Pretrain => Part::Pretrain,
            Self::Search => Part::Search,
            Self::Prune => Part::Prune,
            Self::Finetune => Part::Finetune,
        }
    }
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
pub struct ConvertArguments {
    /// A model of spvit, timm, DeiT, Hugging Face or the published code (.safetensors, .pth)
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,

    /// What to write: .safetensors, .onnx or .json
    #[arg(value_name = "OUTPUT")]
    pub output: PathBuf,

    /// The form to write [default: by OUTPUT's ending]
    #[arg(long)]
    pub form: Option<Form>,

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
    /// the architecture alone, as JSON
    Architecture,
}

/// What a file of another program may not say about its model.
#[derive(Debug, Args)]
#[command(next_help_heading = "What a file of another program does not say")]
pub struct ModelArguments {
    /// The entry of a training checkpoint that holds the weights, such as model_ema
    #[arg(long, value_name = "NAME")]
    pub entry: Option<String>,

    /// The name of timm's architecture, such as vit_base_patch16_clip_224
    #[arg(long, value_name = "NAME")]
    pub timm: Option<String>,

    /// Attention heads [default: what is known, or one for each 64 dimensions, which is said]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub heads: Option<usize>,

    /// What the classifier looks at: token, average or max
    #[arg(long, value_name = "POOL")]
    pub pool: Option<Pool>,

    /// Activation of the FFNs: gelu, gelu_tanh, quick_gelu, relu or silu
    #[arg(long, value_name = "NAME", value_parser = activation)]
    pub activation: Option<Activation>,

    /// ε of the layer norms
    #[arg(long, value_name = "NUMBER")]
    pub epsilon: Option<f64>,

    /// Rows of the position embedding that belong to class token, registers and the like
    #[arg(long, value_name = "N")]
    pub prefix_tokens: Option<usize>,

    /// Pixels of an image, as SIDE or HEIGHTxWIDTH; the position embedding is resized
    #[arg(long, value_name = "SIZE")]
    pub image_size: Option<ImageSize>,

    /// Number of classes; another one than the file's means a new head
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub classes: Option<usize>,

    /// An architecture that says which hidden dimensions a compact model kept
    #[arg(long, value_name = "FILE")]
    pub architecture: Option<PathBuf>,

    /// The operations (.json) of a search result of the published code
    #[arg(long, value_name = "FILE")]
    pub operations: Option<PathBuf>,

    /// Shortcuts add norm1(x), as in models that the published code fine-tuned
    #[arg(long)]
    pub shortcut_adds_norm: bool,
}

impl ModelArguments {
    /// As the reader takes them.
    pub fn options(&self) -> ReadOptions {
        ReadOptions {
            entry: self.entry.clone(),
            timm: self.timm.clone(),
            heads: self.heads,
            pool: self.pool,
            activation: self.activation,
            epsilon: self.epsilon,
            prefix_tokens: self.prefix_tokens,
            image_size: self.image_size.map(|size| size.0),
            classes: self.classes,
            architecture: self.architecture.clone(),
            shortcut_adds_norm: self.shortcut_adds_norm,
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or("expected a whole number from 1 on".into())
}

impl ModelArguments {
    /// The first option that was given, as it is typed.
    pub fn given(&self) -> Option<&'static str> {
        let all = [
            ("--entry", self.entry.is_some()),
            ("--heads", self.heads.is_some()),
            ("--image-size", self.image_size.is_some()),
            ("--classes", self.classes.is_some()),
            ("--architecture", self.architecture.is_some()),
            ("--operations", self.operations.is_some()),
            ("--shortcut-adds-norm", self.shortcut_adds_norm),
        ];
        all.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// Height and width in pixels.
#[derive(Debug, Clone, Copy)]
pub struct ImageSize(pub [usize; 2]);

impl FromStr for ImageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (height, width) = text.split_once('x').unwrap_or((text, text));
        match (height.parse(), width.parse()) {
            (Ok(height), Ok(width)) if height > 0 && width > 0 => Ok(Self([height, width])),
            _ => Err("expected SIDE or HEIGHTxWIDTH, such as 224 or 224x160".into()),
        }
    }
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
