//! Configuration of a run: one TOML file, every value with a default.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spvit_data::{AugmentConfig, DatasetOptions};
use spvit_layers::VitConfig;
use spvit_search::{CostModel, CostTable};

use crate::TrainError;

/// Everything that a run depends on besides its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of every random decision.
    pub seed: u64,
    /// Shape of the dense model.
    pub model: VitConfig,
    /// Images.
    pub data: DataConfig,
    /// Augmentation of training images, in every stage.
    pub augment: AugmentConfig,
    /// The dense model that a search starts from.
    pub dense: DenseConfig,
    /// Training of a dense model from scratch.
    pub pretrain: PretrainConfig,
    /// The search.
    pub search: SearchConfig,
    /// Fine-tuning of the compact model.
    pub finetune: FinetuneConfig,
    /// Progress and checkpoints.
    pub run: LoopConfig,
}

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Folder with IDX or CIFAR files.
    pub folder: PathBuf,
    /// `auto`, `idx`, `cifar10` or `cifar100`.
    pub format: spvit_data::Format,
    /// Images at the end of the training files that are held out to choose checkpoints.
    pub validation: usize,
    /// At most this many training images; 0 takes all.
    pub train_limit: usize,
    /// At most this many test images; 0 takes all.
    pub test_limit: usize,
    /// Background threads that prepare batches; the results do not depend on it.
    pub threads: usize,
}

/// The dense model that a search starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseConfig {
    /// Checkpoint of the dense model. Empty: `dense.safetensors` in the run folder.
    pub weights: PathBuf,
}

/// A stage's section: what all stages have, then its own values.
macro_rules! stage_config {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Passes over the training images.
            pub epochs: usize,
            /// Images of one step.
            pub batch_size: usize,
            /// Peak learning rate of the weights.
            pub learning_rate: f64,
            /// Learning rate at the end of the cosine.
            pub min_learning_rate: f64,
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

/// What every stage has in its section.
pub type TrainingConfig = PretrainConfig;

stage_config! {
    /// Training of a dense model from scratch.
    PretrainConfig {}
}

stage_config! {
    /// The search.
    SearchConfig {
        /// The budget: up to 1 a share of the dense model's FLOPs, above 1 FLOPs.
        budget: f64,
        /// `paper` or `macs`.
        cost_model: CostModel,
        /// λ of the objective (Eq. 13).
        lambda: f64,
        /// Unit of the FLOPs in the objective: `dense` (the dense model's FLOPs) or `giga` (10⁹,
        /// as in the paper).
        unit: Unit,
        /// Thresholds θ at the start.
        threshold_start: f64,
        /// Learning rate of the thresholds, constant.
        threshold_learning_rate: f64,
    }
}

stage_config! {
    /// Fine-tuning of the compact model.
    FinetuneConfig {
        /// Weights to start from: `searched`, or `dense` (as the published code does).
        init: InitialWeights,
        /// Share of the loss that compares with the dense model's predictions (hard
        /// distillation); 0 does not distil.
        distillation: f64,
    }
}

/// The values that all stages have.
macro_rules! training_of {
    ($config:expr) => {
        TrainingConfig {
            epochs: $config.epochs,
            batch_size: $config.batch_size,
            learning_rate: $config.learning_rate,
            min_learning_rate: $config.min_learning_rate,
            warmup_epochs: $config.warmup_epochs,
            weight_decay: $config.weight_decay,
            clip_norm: $config.clip_norm,
            drop_path: $config.drop_path,
        }
    };
}

impl SearchConfig {
    /// The values that all stages have.
    pub fn training(&self) -> TrainingConfig {
        training_of!(self)
    }
}

impl FinetuneConfig {
    /// The values that all stages have.
    pub fn training(&self) -> TrainingConfig {
        training_of!(self)
    }
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
    /// Parts of a batch that are computed at the same time on a CPU, each with its own batch-norm
    /// statistics. Results depend on it.
    pub shards: usize,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            model: micro(),
            data: DataConfig::default(),
            augment: AugmentConfig::default(),
            dense: DenseConfig::default(),
            pretrain: TrainingConfig {
                epochs: 20,
                learning_rate: 1e-3,
                warmup_epochs: 1.0,
                ..TrainingConfig::default()
            },
            search: SearchConfig::default(),
            finetune: FinetuneConfig::default(),
            run: LoopConfig::default(),
        }
    }
}

/// The shape that fits 28×28 images of one channel and ten classes.
fn micro() -> VitConfig {
    VitConfig {
        image_size: [28, 28],
        patch_size: 4,
        channels: 1,
        classes: 10,
        dim: 64,
        depth: 6,
        heads: 4,
        hidden: 256,
        kernels: vec![1, 3],
        alpha: 0.01,
        layer_norm_epsilon: 1e-6,
        shortcut_adds_norm: false,
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("data/fashion-mnist-mini"),
            format: spvit_data::Format::Auto,
            validation: 1000,
            train_limit: 0,
            test_limit: 0,
            threads: 1,
        }
    }
}

impl Default for DenseConfig {
    fn default() -> Self {
        Self { weights: PathBuf::new() }
    }
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_size: 64,
            learning_rate: 5e-4,
            min_learning_rate: 1e-5,
            warmup_epochs: 0.0,
            weight_decay: 0.05,
            clip_norm: 0.0,
            drop_path: 0.0,
        }
    }
}

impl Default for SearchConfig {
    fn default() -> Self {
        let common = TrainingConfig::default();
        Self {
            epochs: common.epochs,
            batch_size: common.batch_size,
            learning_rate: common.learning_rate,
            min_learning_rate: common.min_learning_rate,
            warmup_epochs: common.warmup_epochs,
            weight_decay: common.weight_decay,
            clip_norm: common.clip_norm,
            drop_path: common.drop_path,
            budget: 0.6,
            cost_model: CostModel::Paper,
            lambda: 30.0,
            unit: Unit::Dense,
            threshold_start: 1.5,
            threshold_learning_rate: 1e-3,
        }
    }
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        let common = TrainingConfig::default();
        Self {
            epochs: common.epochs,
            batch_size: common.batch_size,
            learning_rate: common.learning_rate,
            min_learning_rate: common.min_learning_rate,
            warmup_epochs: common.warmup_epochs,
            weight_decay: common.weight_decay,
            clip_norm: common.clip_norm,
            drop_path: common.drop_path,
            init: InitialWeights::Searched,
            distillation: 0.0,
        }
    }
}

impl Default for LoopConfig {
    fn default() -> Self {
        Self { checkpoint_seconds: 60.0, evaluation_batch: 250, shards: 1 }
    }
}

impl DataConfig {
    /// Options of the data set's reader.
    pub fn options(&self) -> DatasetOptions {
        let limit = |count: usize| (count > 0).then_some(count);
        let mut options = DatasetOptions::new(self.validation);
        options.format = self.format;
        options.train_limit = limit(self.train_limit);
        options.test_limit = limit(self.test_limit);
        options
    }
}

impl RunConfig {
    /// Reads a configuration file and applies `key=value` settings over it.
    ///
    /// # Errors
    /// [`TrainError::Config`] naming the file or setting.
    pub fn read(path: &Path, settings: &[String]) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(|error| TrainError::io(path, error))?;
        Self::parse(&text, &path.display().to_string(), settings)
    }

    /// A configuration from TOML text; `source` names it in errors.
    ///
    /// # Errors
    /// [`TrainError::Config`] naming the source or setting.
    pub fn parse(text: &str, source: &str, settings: &[String]) -> Result<Self, TrainError> {
        let failed = |problem: String| TrainError::Config { source_name: source.into(), problem };
        let mut table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| failed(one_line(&error)))?;
        // Checked before settings are applied, so that an error names the file it is in.
        let plain: Result<Self, _> = table.clone().try_into();
        plain.map_err(|error| failed(one_line(&error)))?;
        for setting in settings {
            apply(&mut table, setting)?;
        }
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            TrainError::Config { source_name: "--set".into(), problem: one_line(&error) }
        })?;
        config.validate().map_err(failed)?;
        Ok(config)
    }

    /// The configuration as TOML with every value.
    ///
    /// # Errors
    /// [`TrainError::Config`] if a value has no TOML form.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|error| TrainError::Config {
            source_name: "configuration".into(),
            problem: error.to_string(),
        })
    }

    /// The search's budget in FLOPs.
    pub fn target_flops(&self) -> u64 {
        let dense = self.dense_flops();
        match self.search.budget <= 1.0 {
            true => (dense as f64 * self.search.budget) as u64,
            false => self.search.budget as u64,
        }
    }

    /// FLOPs of the dense model by the search's cost model.
    pub fn dense_flops(&self) -> u64 {
        let table = CostTable::new(&self.model, self.search.cost_model);
        table.total(&self.model.dense_blocks()).unwrap_or_default()
    }

    fn validate(&self) -> Result<(), String> {
        self.model.validate().map_err(|error| error.to_string())?;
        self.augment.validate(self.model.image_size).map_err(|error| error.to_string())?;
        let stages = [
            ("pretrain", self.pretrain.clone()),
            ("search", self.search.training()),
            ("finetune", self.finetune.training()),
        ];
        for (name, stage) in stages {
            stage.validate().map_err(|problem| format!("{name}.{problem}"))?;
            if stage.batch_size < self.run.shards {
                let problem = "run.shards must not exceed the batch size of";
                return Err(format!("{problem} {name}, {}", stage.batch_size));
            }
        }
        let s = &self.search;
        check(
            "search.budget",
            s.budget,
            s.budget > 0.0,
            "above 0: a share of the dense FLOPs up to 1, or FLOPs",
        )?;
        check("search.lambda", s.lambda, s.lambda >= 0.0, "at least 0")?;
        let rate = s.threshold_learning_rate;
        check("search.threshold_learning_rate", rate, rate >= 0.0, "at least 0")?;
        check("search.threshold_start", s.threshold_start, true, "a number")?;
        let share = self.finetune.distillation;
        check("finetune.distillation", share, (0.0..=1.0).contains(&share), "between 0 and 1")?;
        let seconds = self.run.checkpoint_seconds;
        check("run.checkpoint_seconds", seconds, seconds >= 0.0, "at least 0")?;
        if self.run.evaluation_batch == 0 || self.run.shards == 0 {
            return Err("run.evaluation_batch and run.shards must be at least 1".into());
        }
        Ok(())
    }
}

impl TrainingConfig {
    fn validate(&self) -> Result<(), String> {
        if self.epochs == 0 || self.batch_size == 0 {
            return Err("epochs and batch_size must be at least 1".into());
        }
        check("learning_rate", self.learning_rate, self.learning_rate > 0.0, "above 0")?;
        let least = self.min_learning_rate;
        let limits = (0.0..=self.learning_rate).contains(&least);
        check("min_learning_rate", least, limits, "between 0 and learning_rate")?;
        check("warmup_epochs", self.warmup_epochs, self.warmup_epochs >= 0.0, "at least 0")?;
        check("weight_decay", self.weight_decay, self.weight_decay >= 0.0, "at least 0")?;
        check("clip_norm", self.clip_norm, self.clip_norm >= 0.0, "at least 0 (0: no clipping)")?;
        check(
            "drop_path",
            self.drop_path,
            (0.0..1.0).contains(&self.drop_path),
            "from 0 to below 1",
        )
    }
}

fn check(name: &str, value: f64, holds: bool, expected: &str) -> Result<(), String> {
    match holds && value.is_finite() {
        true => Ok(()),
        false => Err(format!("{name} = {value}: expected a number {expected}")),
    }
}

/// An error's message without line breaks, with the line it points at.
fn one_line(error: &toml::de::Error) -> String {
    error
        .to_string()
        .split('\n')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Applies `a.b=value`, where the value is TOML or, failing that, a string.
fn apply(table: &mut toml::Table, setting: &str) -> Result<(), TrainError> {
    let failed =
        |problem: String| TrainError::Config { source_name: format!("--set {setting}"), problem };
    let Some((path, text)) = setting.split_once('=') else {
        return Err(failed("expected key=value, such as search.budget=0.5".into()));
    };
    let value = match format!("value = {text}").parse::<toml::Table>() {
        Ok(mut parsed) => parsed.remove("value"),
        Err(_) => None,
    };
    let value = value.unwrap_or_else(|| toml::Value::String(text.trim().to_string()));
    let mut keys: Vec<&str> = path.split('.').map(str::trim).collect();
    let last = keys.pop().filter(|key| !key.is_empty());
    let Some(last) = last else { return Err(failed("the key is empty".into())) };
    let mut inner = table;
    for key in keys {
        let entry = inner.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let Some(next) = entry.as_table_mut() else {
            return Err(failed(format!("'{key}' is a value, not a section")));
        };
        inner = next;
    }
    // An integer is taken where a number with a fraction is expected.
    inner.insert(last.to_string(), value);
    Ok(())
}
