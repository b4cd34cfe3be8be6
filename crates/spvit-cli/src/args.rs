//! What a person types.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::device::DeviceName;

const AFTER_HELP: &str = "\
Every command works on a run folder: config.toml (as resolved), metrics.jsonl, architecture.json,
compact.safetensors, summary.json and checkpoints. Ctrl-C stops after a checkpoint; --resume goes on
and gives the same result as a run that was never stopped.

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

    /// What computes: flex, ndarray, cuda, wgpu, vulkan or tch
    #[arg(long, default_value = DeviceName::DEFAULT)]
    pub device: DeviceName,

    /// Seed of every random decision [default: the configuration's]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// The run folder; pretrain, search and run want a new one, the others one that holds a run
    /// [default: runs/COMMAND-SEED]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,

    /// Goes on with the run in this folder, with its configuration
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub resume: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ProfileArguments {
    /// A configuration (.toml), an architecture (.json) or a model that spvit wrote (.safetensors)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Writes a picture of the architecture
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Also measures the latency of this and of the dense model
    #[arg(long)]
    pub measure: bool,

    /// What computes, with --measure: flex, ndarray, cuda, wgpu, vulkan or tch
    #[arg(long, default_value = DeviceName::DEFAULT)]
    pub device: DeviceName,
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
    eprintln!("{}", words.join(" ").replace(" For more information, try '--help'.", ""));
    ExitCode::from(2)
}
