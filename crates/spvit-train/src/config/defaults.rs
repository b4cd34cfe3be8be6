//! Built-in values.

use std::path::PathBuf;

use spvit_core::Precision;
use spvit_data::{AugmentConfig, ImageOptions};
use spvit_layers::{ModelConfig, VitConfig};
use spvit_search::CostModel;

use super::{
    BudgetUnit, DataConfig, DenseConfig, FinetuneConfig, InitialWeights, LoopConfig, RunConfig,
    ScheduleKind, SearchConfig, ThresholdStart, TrainingConfig, Unit,
};

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
            transfer: TrainingConfig::default(),
            search: SearchConfig::default(),
            finetune: FinetuneConfig::default(),
            run: LoopConfig::default(),
            latency: None,
        }
    }
}

/// The shape that fits 28×28 images of one channel and ten classes.
fn micro() -> ModelConfig {
    VitConfig::deit([28, 4, 1, 10, 64, 6, 4]).into()
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
            images: ImageOptions::default(),
            transform: None,
        }
    }
}

impl Default for DenseConfig {
    fn default() -> Self {
        Self { weights: PathBuf::new(), transfer: false }
    }
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_size: 64,
            accumulate: 1,
            learning_rate: 5e-4,
            min_learning_rate: 1e-5,
            schedule: ScheduleKind::Steps,
            warmup_epochs: 0.0,
            weight_decay: 0.05,
            clip_norm: 0.0,
            drop_path: 0.0,
            ema_decay: 0.0,
        }
    }
}

/// A phase's own values beside the built-in ones that all phases have.
macro_rules! beside_training {
    ($name:ident { $($field:ident: $value:expr,)* }) => {{
        let common = TrainingConfig::default();
        $name {
            epochs: common.epochs,
            batch_size: common.batch_size,
            accumulate: common.accumulate,
            learning_rate: common.learning_rate,
            min_learning_rate: common.min_learning_rate,
            schedule: common.schedule,
            warmup_epochs: common.warmup_epochs,
            weight_decay: common.weight_decay,
            clip_norm: common.clip_norm,
            drop_path: common.drop_path,
            $($field: $value,)*
        }
    }};
}

impl Default for SearchConfig {
    fn default() -> Self {
        beside_training!(SearchConfig {
            budget: 0.6,
            budget_unit: BudgetUnit::Flops,
            further_budgets: Vec::new(),
            budgets: Vec::new(),
            latency_table: PathBuf::new(),
            round: 1,
            cost_model: CostModel::Paper,
            from: PathBuf::new(),
            lambda: 30.0,
            unit: Unit::Dense,
            threshold_start: 1.5,
            threshold_learning_rate: 1e-3,
            start: ThresholdStart::Constant,
            start_images: 1024,
            trial_steps: 200,
            projected: false,
            budget_fall: 0.0,
            heads: false,
            ffn: true,
            hold_weights: false,
            operations: Vec::new(),
        })
    }
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        beside_training!(FinetuneConfig {
            ema_decay: 0.0,
            init: InitialWeights::Searched,
            distillation: 0.0,
            distillation_temperature: 0.0,
            refit: 0,
            teacher: PathBuf::new(),
            teacher_mean: Vec::new(),
            teacher_std: Vec::new(),
        })
    }
}

impl Default for LoopConfig {
    fn default() -> Self {
        Self {
            checkpoint_seconds: 60.0,
            evaluation_batch: 250,
            timing_seconds: 5.0,
            micro_batches: 1,
            precision: Precision::F32,
        }
    }
}
