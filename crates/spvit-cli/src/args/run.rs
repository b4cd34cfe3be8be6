//! What commands take that work on a run.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use spvit_train::{Part, config::GivenBudget};

use crate::{
    device::{DeviceList, DeviceName},
    model_arguments::at_least_one,
};

/// What a run is made of.
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// The dense model's weights, of timm, DeiT, Microsoft's Swin, Hugging Face or spvit. They give the
    /// model's shape and its preprocessing, unless a configuration has its own
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,

    /// Images: folders of classes (in train, val and test, or not), a CSV of paths and labels, tar
    /// shards, IDX or CIFAR files
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,

    /// The budget: a share (60%), FLOPs (1.3G), parameters (12M params) or a time (1.8 ms, or 60% ms of
    /// the dense model's); given more than once, in different units, all of them are met
    #[arg(long, value_name = "BUDGET")]
    pub budget: Vec<GivenBudget>,

    /// Several budgets, such as 80%,60%,40%: each gets a compact model of its own from one search
    #[arg(long, value_name = "BUDGETS", value_delimiter = ',', conflicts_with = "budget")]
    pub budgets: Vec<GivenBudget>,

    /// For a budget of time: what the model's parts take, a file of `spvit measure` [default: measured
    /// first, on --device, one image at a time]
    #[arg(long, value_name = "FILE")]
    pub latency_table: Option<PathBuf>,

    /// Keeps the widths of FFNs that are cut to multiples of this number
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub round: Option<usize>,

    /// The name of timm's architecture, where the weights' file does not say enough
    #[arg(long, value_name = "NAME")]
    pub timm: Option<String>,

    /// Configuration to start from, which may hold only what differs [default: the built-in values]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Changes one value of the configuration, such as search.epochs=5; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,

    /// Seed of every random decision [default: the configuration's]
    // A configuration's whole numbers end there.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
}

/// What all commands that train or evaluate take.
#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    pub values: ConfigArguments,

    /// What computes: flex, ndarray, cuda, wgpu, vulkan or tch (libtorch's CPU)
    #[arg(long, default_value = DeviceName::DEFAULT)]
    pub device: DeviceName,

    /// Devices that share every batch, such as cuda:0,cuda:1 or flex,flex; or one of several, such as
    /// cuda:1. A batch norm sees a device's part alone. Processes that mpirun starts on a machine share
    /// them equally
    #[arg(long, value_name = "LIST", conflicts_with = "device")]
    pub devices: Option<DeviceList>,

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

    /// Checks data, weights, disk and memory, times some steps, prints the plan, and writes nothing
    #[arg(long, conflicts_with_all = ["resume", "redo"])]
    pub dry_run: bool,
}

impl RunArguments {
    /// What computes, by either option.
    pub fn devices(&self) -> DeviceList {
        self.devices.clone().unwrap_or_else(|| DeviceList::one(self.device))
    }
}

/// A part of a run that can be done anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Redo {
    /// everything
    Pretrain,
    /// the dense model's new head, and all that follows it
    Transfer,
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
            Self::Transfer => "the transfer and all that follows it are done anew",
            Self::Search => "the search, the architecture and fine-tuning are done anew",
            Self::Prune => "the architecture and fine-tuning are done anew",
            Self::Finetune => "fine-tuning is done anew",
        }
    }

    /// As the run folder takes it.
    pub fn part(self) -> Part {
        match self {
            Self::Pretrain => Part::Pretrain,
            Self::Transfer => Part::Transfer,
            Self::Search => Part::Search,
            Self::Prune => Part::Prune,
            Self::Finetune => Part::Finetune,
        }
    }
}
