//! Configuration of a run: one TOML file, every value with a default.

mod budget;
mod costs;
mod defaults;
mod fit;
mod resolve;
mod text;
mod validate;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use budget::GivenBudget;
pub use resolve::{Given, Resolved, SET, other_order, taken_in_order};
use serde::{Deserialize, Serialize};
use spvit_core::Precision;
use spvit_data::{AugmentConfig, DatasetOptions, EvalTransform, ImageOptions};
use spvit_layers::{ModelConfig, Operation};
use spvit_search::{CostModel, LatencyTable};
pub use text::toml_string;

/// Everything that a run depends on besides its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of every random decision.
    pub seed: u64,
    /// Shape of the dense model.
    pub model: ModelConfig,
    /// Images.
    pub data: DataConfig,
    /// Augmentation of training images, in every phase.
    pub augment: AugmentConfig,
    /// The dense model that a search starts from.
    pub dense: DenseConfig,
    /// Training of a dense model from scratch.
    pub pretrain: PretrainConfig,
    /// Training of the dense model with a new head, where `dense.transfer` asks for it.
    pub transfer: TrainingConfig,
    /// The search.
    pub search: SearchConfig,
    /// Fine-tuning of the compact model.
    pub finetune: FinetuneConfig,
    /// Progress and checkpoints.
    pub run: LoopConfig,
    /// What the model's parts take, where a budget is one of time: no value of a file, but what
    /// [`Run`](crate::Run) finds or measures before anything else.
    #[serde(skip)]
    pub latency: Option<Arc<LatencyTable>>,
}

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// A folder of image files in folders of classes, a CSV list, tar shards, IDX or CIFAR files.
    pub folder: PathBuf,
    /// `auto`, `images`, `idx`, `cifar10` or `cifar100`.
    pub format: spvit_data::Format,
    /// Images at the end of the training files that are held out to choose checkpoints; of image
    /// files a share (`data.images.validation_share`).
    pub validation: usize,
    /// At most this many training images; 0 takes all.
    pub train_limit: usize,
    /// At most this many test images; 0 takes all.
    pub test_limit: usize,
    /// Background threads that prepare batches; the results do not depend on it.
    pub threads: usize,
    /// How image files are read and split; mean and standard deviation are for all formats.
    pub images: ImageOptions,
    /// How an image comes to the model's size where it is not cropped at random. Absent: it is resized
    /// in float32 whatever its aspect, as small images in memory are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<EvalTransform>,
}

/// The dense model that a search starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseConfig {
    /// Checkpoint of the dense model. Empty: `dense.safetensors` in the run folder.
    pub weights: PathBuf,
    /// Whether that model is first trained on the run's images, with a new head where its classes are
    /// others: the *transfer* phase, which gives `dense.safetensors` in the run folder.
    pub transfer: bool,
}

/// A phase's section: what all phases have, then its own values.
macro_rules! phase_config {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Passes over the training images.
            pub epochs: usize,
            /// Images of one step.
            pub batch_size: usize,
            /// Parts of a batch that are computed one after another, in the memory of one. Each has
            /// its own batch-norm statistics.
            pub accumulate: usize,
            /// Peak learning rate of the weights.
            pub learning_rate: f64,
            /// Learning rate at the end of the cosine.
            pub min_learning_rate: f64,
            /// When the learning rate changes: `steps` (with every step) or `epochs` (as in the
            /// published code, which begins to lower it after the second).
            pub schedule: ScheduleKind,
            /// Epochs (also parts of one) in which the learning rate rises linearly from 0.
            pub warmup_epochs: f64,
            /// AdamW's decoupled weight decay.
            pub weight_decay: f64,
            /// Largest joint norm of the gradients; 0 does not clip.
            pub clip_norm: f64,
            /// Chance that the last block's residual branches are dropped; earlier blocks' chances
            /// rise to it linearly.
            pub drop_path: f64,
            $($(#[$field_doc])* pub $field: $type,)*
        }
    };
}

/// What every phase has in its section.
pub type TrainingConfig = PretrainConfig;

phase_config! {
    /// Training of a dense model from scratch.
    PretrainConfig {
        /// Decay of the average over all steps that is validated and becomes the result; 0 keeps
        /// none.
        ema_decay: f64,
    }
}

phase_config! {
    /// The search.
    SearchConfig {
        /// The budget: up to 1 a share of what the dense model has, above 1 an amount; in milliseconds
        /// always an amount.
        budget: f64,
        /// What the budget counts: `flops`, `parameters`, `milliseconds`, or `latency`, which is a share
        /// of the dense model's milliseconds.
        budget_unit: BudgetUnit,
        /// Budgets that hold besides, each in another unit, such as `12M params`.
        further_budgets: Vec<GivenBudget>,
        /// Budgets of which each gets results of its own, in `budgets/` of the run folder, from one
        /// search: a front. Empty: `budget` alone.
        budgets: Vec<GivenBudget>,
        /// What the model's parts take in milliseconds, a file of `spvit measure`. Empty: where a budget
        /// is one of time, it is measured first.
        latency_table: PathBuf,
        /// Widths of the FFNs that a search cuts are multiples of this number.
        round: usize,
        /// `paper` or `macs`.
        cost_model: CostModel,
        /// A searched model to begin with in place of the dense one, `searched.safetensors` of another
        /// run; empty: the dense one.
        from: PathBuf,
        /// λ of the objective (Eq. 13).
        lambda: f64,
        /// Unit of the FLOPs in the objective: `dense` (the dense model's FLOPs) or `giga` (10⁹,
        /// as in the paper).
        unit: Unit,
        /// Thresholds θ at the start.
        threshold_start: f64,
        /// Learning rate of the thresholds, constant.
        threshold_learning_rate: f64,
        /// The order in which thresholds begin.
        start: ThresholdStart,
        /// Training images that `importance` is measured on.
        start_images: usize,
        /// Steps of fine-tuning after which the candidates that `importance` finds are compared; 0
        /// takes the one that follows the dense model best.
        trial_steps: usize,
        /// Whether the thresholds are moved together after every step, so that the expected cost is
        /// the budget's, in place of the objective's term.
        projected: bool,
        /// Share of the steps in which the budget falls from the dense model's cost.
        budget_fall: f64,
        /// Whether attention's heads have gates, too, an extension of the paper's search.
        heads: bool,
        /// Whether the FFNs' hidden dimensions have gates.
        ffn: bool,
        /// Whether the weights stay as they are.
        hold_weights: bool,
        /// What an attention layer may become, such as `shortcut|msa`: one entry for all blocks or one
        /// for each. Empty: everything that the model's shape allows.
        operations: Vec<String>,
    }
}

phase_config! {
    /// Fine-tuning of the compact model.
    FinetuneConfig {
        /// Decay of the average over all steps that is validated and becomes the result; 0 keeps
        /// none.
        ema_decay: f64,
        /// Weights to start from: `searched`, or `dense` (as the published code does).
        init: InitialWeights,
        /// Share of the loss that compares with the teacher's predictions; 0 does not distil.
        distillation: f64,
        /// Temperature at which predictions are compared as wholes (soft distillation); 0 compares
        /// with the likeliest class alone (hard distillation).
        distillation_temperature: f64,
        /// Training images on which the pruned model's last maps are fitted to the dense model
        /// ([`spvit_search::refit()`]); 0 leaves them as they are.
        refit: usize,
        /// The teacher: a model that spvit reads, or an ONNX network. Empty: the dense model.
        teacher: PathBuf,
        /// Mean of every channel that a named teacher was trained with, of values from 0 to 1.
        /// Empty: what its file says, or the run's.
        teacher_mean: Vec<f64>,
        /// Standard deviation of every channel that it was trained with.
        teacher_std: Vec<f64>,
    }
}

/// The values that all phases have.
macro_rules! training_of {
    ($config:expr, $ema_decay:expr) => {
        TrainingConfig {
            epochs: $config.epochs,
            batch_size: $config.batch_size,
            accumulate: $config.accumulate,
            learning_rate: $config.learning_rate,
            min_learning_rate: $config.min_learning_rate,
            schedule: $config.schedule,
            warmup_epochs: $config.warmup_epochs,
            weight_decay: $config.weight_decay,
            clip_norm: $config.clip_norm,
            drop_path: $config.drop_path,
            ema_decay: $ema_decay,
        }
    };
}

impl SearchConfig {
    /// The first budget.
    pub fn given_budget(&self) -> GivenBudget {
        GivenBudget { target: self.budget, unit: self.budget_unit }
    }

    /// The same for another budget alone.
    pub fn at_budget(&self, GivenBudget { target, unit }: GivenBudget) -> Self {
        Self { budget: target, budget_unit: unit, budgets: Vec::new(), ..self.clone() }
    }

    /// What every block's attention layer may become; nothing where all is allowed.
    pub(crate) fn operations_by_block(&self, depth: usize) -> Result<Vec<Vec<Operation>>, String> {
        let entry = |(index, entry): (usize, &String)| {
            let parts: Result<Vec<Operation>, String> =
                entry.split('|').map(|part| part.trim().parse()).collect();
            parts.map_err(|error| format!("search.operations[{index}]: {error}"))
        };
        let entries: Result<Vec<_>, String> =
            self.operations.iter().enumerate().map(entry).collect();
        match (entries?, self.operations.len()) {
            (entries, 1) => Ok(vec![entries[0].clone(); depth]),
            (entries, count) if count == 0 || count == depth => Ok(entries),
            (_, count) => Err(format!(
                "search.operations has {count} entries: expected one for all blocks or one for each \
                 of the {depth}"
            )),
        }
    }

    /// The values that all phases have. A search keeps no average of its weights: the architecture
    /// comes from the thresholds as they are, and the weights that go with them are those.
    pub fn training(&self) -> TrainingConfig {
        training_of!(self, 0.0)
    }
}

impl FinetuneConfig {
    /// The values that all phases have.
    pub fn training(&self) -> TrainingConfig {
        training_of!(self, self.ema_decay)
    }
}

/// When a learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// With every step.
    Steps,
    /// Between epochs, but for the first two.
    Epochs,
}

/// What a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BudgetUnit {
    /// Multiply-adds counted once.
    Flops,
    /// Trained values.
    Parameters,
    /// Milliseconds.
    Milliseconds,
    /// Milliseconds, as a share of the dense model's.
    Latency,
}

/// Unit of the FLOPs in the objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// The dense model's FLOPs.
    Dense,
    /// 10⁹ FLOPs.
    Giga,
}

/// The order in which a search's thresholds begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThresholdStart {
    /// All at `threshold_start` (the paper).
    Constant,
    /// By what the dense model's predictions lose without a part, for what the part costs.
    Importance,
    /// By the norms of an FFN's weights, attention before all.
    Magnitude,
    /// The same share of every FFN, by these norms.
    Uniform,
    /// Another random width for every FFN, attention in some blocks.
    Random,
}

/// Weights that fine-tuning starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitialWeights {
    /// Those of the search, pruned.
    Searched,
    /// The dense ones, cut to the architecture.
    Dense,
}

/// Checkpoints and evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoopConfig {
    /// Seconds between checkpoints; one is also written at the end of every epoch.
    pub checkpoint_seconds: f64,
    /// Images of one evaluation batch.
    pub evaluation_batch: usize,
    /// Seconds after which evaluation times the models no longer, of one image and of a batch each; three times at
    /// least.
    pub timing_seconds: f64,
    /// Parts of a batch that are computed at the same time on a CPU, each with its own batch-norm
    /// statistics. Results depend on it.
    #[serde(alias = "shards")]
    pub micro_batches: usize,
    /// The type of products' factors in training; all else is float32. Results depend on it.
    pub precision: Precision,
}

impl DataConfig {
    /// Options of the data set's reader, for images of so many channels. An index of many files is
    /// kept in `index`, if that is given.
    pub fn options(&self, channels: usize, index: Option<&Path>) -> DatasetOptions {
        let limit = |count: usize| (count > 0).then_some(count);
        let mut options = DatasetOptions::new(self.validation);
        options.format = self.format;
        options.train_limit = limit(self.train_limit);
        options.test_limit = limit(self.test_limit);
        options.images =
            ImageOptions { channels, index: index.map(Path::to_path_buf), ..self.images.clone() };
        options
    }
}
