//! Ranges of a configuration's values.

use super::{BudgetUnit, FinetuneConfig, RunConfig, ThresholdStart, TrainingConfig, Unit};
use spvit_interchange::memory;
use spvit_search::CostTable;

/// Most epochs of a phase.
const MOST: usize = 1_000_000;

impl RunConfig {
    /// Whether the values are in their ranges and fit each other; names the first that is not.
    pub(super) fn validate(&self) -> Result<(), String> {
        self.model.validate().map_err(|error| error.to_string())?;
        memory::check(&self.model)?;
        self.augment.validate(self.model.image_size()).map_err(|error| error.to_string())?;
        if let Some(transform) = &self.data.transform {
            transform.validate().map_err(|error| format!("data.transform: {error}"))?;
        }
        let phases = [
            ("pretrain", self.pretrain.clone()),
            ("transfer", self.transfer.clone()),
            ("search", self.search.training()),
            ("finetune", self.finetune.training()),
        ];
        for (name, phase) in phases {
            let least = usize::from(name != "search");
            phase.validate(least).map_err(|problem| format!("{name}.{problem}"))?;
            let (images, parts) = (phase.batch_size, self.run.micro_batches);
            if images < parts {
                let problem = "run.micro_batches must not exceed the batch size of";
                return Err(format!("{problem} {name}, {images}"));
            }
            if parts.checked_mul(phase.accumulate).is_none_or(|parts| images < parts) {
                return Err(format!(
                    "{name}.accumulate = {}, times run.micro_batches = {parts}, must not exceed \
                     {name}.batch_size = {images}: a part has at least one image",
                    phase.accumulate
                ));
            }
        }
        let s = &self.search;
        check(
            "search.budget",
            s.budget,
            s.budget > 0.0 && s.budget < 1e18,
            "above 0 and below 1e18: a share of the dense FLOPs up to 1, or FLOPs",
        )?;
        let firsts = match s.budgets.is_empty() {
            true => vec![s.budget_unit.unit()],
            false => s.budgets.iter().map(|given| given.unit.unit()).collect(),
        };
        for (number, given) in s.further_budgets.iter().enumerate() {
            let own = given.unit.unit();
            let mut others = s.further_budgets[..number].iter().map(|given| given.unit.unit());
            if firsts.contains(&own) || others.any(|unit| unit == own) {
                return Err(format!(
                    "search.further_budgets: \"{given}\" is in the unit of another budget; of two in \
                     one unit the smaller is enough"
                ));
            }
        }
        let mut names: Vec<String> = s.budgets.iter().map(|given| given.name()).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("search.budgets has {} twice", pair[0]));
        }
        if s.budget_unit == BudgetUnit::Latency && s.budget > 1.0 {
            return Err(format!(
                "search.budget = {}: expected, with search.budget_unit = \"latency\", a share of the \
                 dense model's time up to 1",
                s.budget
            ));
        }
        if self.has_time_budget() && s.unit == Unit::Giga {
            return Err(
                "search.unit = \"giga\" counts FLOPs, and a budget is one of time; set it to \
                        \"dense\""
                    .into(),
            );
        }
        let narrowest = self.model.blocks().iter().map(|shape| shape.hidden).min().unwrap_or(0);
        if s.round == 0 || s.round > narrowest {
            return Err(format!(
                "search.round = {}: expected a number from 1 to {narrowest}, the hidden dimensions of \
                 the narrowest FFN",
                s.round
            ));
        }
        check("search.lambda", s.lambda, s.lambda >= 0.0, "at least 0")?;
        let rate = s.threshold_learning_rate;
        check("search.threshold_learning_rate", rate, rate >= 0.0, "at least 0")?;
        check("search.threshold_start", s.threshold_start, true, "a number")?;
        check(
            "search.budget_fall",
            s.budget_fall,
            (0.0..=1.0).contains(&s.budget_fall),
            "from 0 to 1",
        )?;
        let among = s.operations_by_block(self.model.depth())?;
        for (block, (among, cost)) in
            among.iter().zip(&CostTable::parameters(&self.model).blocks).enumerate()
        {
            if cost.operations.iter().all(|(operation, _)| !among.contains(operation)) {
                return Err(format!(
                    "search.operations: block {block} can be none of them; it can be {}",
                    cost.operations
                        .iter()
                        .map(|(operation, _)| operation.to_string())
                        .collect::<Vec<_>>()
                        .join(", ")
                ));
            }
        }
        if s.start == ThresholdStart::Importance && s.start_images == 0 {
            return Err(
                "search.start_images = 0: importance is measured on at least one image".into()
            );
        }
        let fresh = s.from.as_os_str().is_empty();
        if s.epochs == 0 && s.start == ThresholdStart::Constant && fresh {
            return Err(
                "search.epochs = 0: without a step the thresholds stay as they begin; set \
                        search.start to importance, magnitude, uniform or random"
                    .into(),
            );
        }
        let share = self.finetune.distillation;
        check("finetune.distillation", share, (0.0..=1.0).contains(&share), "between 0 and 1")?;
        let heat = self.finetune.distillation_temperature;
        check("finetune.distillation_temperature", heat, heat >= 0.0, "at least 0")?;
        self.finetune.check_teacher(self.model.channels())?;
        for (name, seconds) in [
            ("run.checkpoint_seconds", self.run.checkpoint_seconds),
            ("run.timing_seconds", self.run.timing_seconds),
        ] {
            check(name, seconds, seconds >= 0.0, "at least 0")?;
        }
        if self.run.evaluation_batch == 0 || self.run.micro_batches == 0 {
            return Err("run.evaluation_batch and run.micro_batches must be at least 1".into());
        }
        Ok(())
    }
}

impl FinetuneConfig {
    fn check_teacher(&self, channels: usize) -> Result<(), String> {
        let Self { distillation, teacher, teacher_mean: mean, teacher_std: std, .. } = self;
        let named = !teacher.as_os_str().is_empty();
        if named && *distillation == 0.0 {
            return Err(format!(
                "finetune.teacher = {}: finetune.distillation = 0 follows no teacher; set it to the \
                 share of the loss that does (0.5 as published)",
                teacher.display()
            ));
        }
        let given = !mean.is_empty() || !std.is_empty();
        if given && !named {
            return Err("finetune.teacher_mean and finetune.teacher_std are those of \
                        finetune.teacher, which names no model"
                .into());
        }
        if mean.len() != std.len() || ![0, channels].contains(&mean.len()) {
            return Err(format!(
                "finetune.teacher_mean and finetune.teacher_std: expected {channels} numbers each, \
                 one for each channel, and found {} and {}",
                mean.len(),
                std.len()
            ));
        }
        for (&mean, &std) in mean.iter().zip(std) {
            check("finetune.teacher_mean", mean, true, "")?;
            check("finetune.teacher_std", std, std > 0.0, "above 0")?;
        }
        Ok(())
    }
}

impl TrainingConfig {
    fn validate(&self, epochs: usize) -> Result<(), String> {
        if self.epochs < epochs || self.batch_size == 0 {
            return Err("epochs and batch_size must be at least 1".into());
        }
        if !(1..=self.batch_size).contains(&self.accumulate) {
            return Err(format!(
                "accumulate = {}: expected a whole number of parts from 1 to batch_size, {}",
                self.accumulate, self.batch_size
            ));
        }
        if self.epochs > MOST {
            return Err(format!("epochs = {}: expected at most {MOST}", self.epochs));
        }
        check("learning_rate", self.learning_rate, self.learning_rate > 0.0, "above 0")?;
        let least = self.min_learning_rate;
        let limits = (0.0..=self.learning_rate).contains(&least);
        check("min_learning_rate", least, limits, "between 0 and learning_rate")?;
        check("warmup_epochs", self.warmup_epochs, self.warmup_epochs >= 0.0, "at least 0")?;
        check("weight_decay", self.weight_decay, self.weight_decay >= 0.0, "at least 0")?;
        check("clip_norm", self.clip_norm, self.clip_norm >= 0.0, "at least 0 (0: no clipping)")?;
        let decay = self.ema_decay;
        check("ema_decay", decay, (0.0..1.0).contains(&decay), "from 0 (off) to below 1")?;
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
        false => Err(format!("{name} = {}: expected a number {expected}", number(value))),
    }
}

/// A number in at most some twenty characters.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 | 1e-5..1e16 => value.to_string(),
        _ => format!("{value:e}"),
    }
}
