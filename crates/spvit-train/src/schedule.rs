//! Learning rates.

use crate::config::{ScheduleKind, TrainingConfig};

/// Linear warm-up, then a cosine to the smallest rate, step by step or epoch by epoch.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    peak: f64,
    least: f64,
    warmup: f64,
    total: f64,
    /// Steps that share a rate.
    stride: usize,
}

impl Schedule {
    /// The schedule of a phase with this many steps in an epoch.
    pub fn new(config: &TrainingConfig, steps_per_epoch: usize) -> Self {
        Self {
            peak: config.learning_rate,
            least: config.min_learning_rate,
            warmup: config.warmup_epochs * steps_per_epoch as f64,
            total: (config.epochs * steps_per_epoch) as f64,
            stride: match config.schedule {
                ScheduleKind::Steps => 1,
                ScheduleKind::Epochs => steps_per_epoch.max(1),
            },
        }
    }

    /// The rate of a step, counted from 0.
    pub fn at(&self, step: usize) -> f64 {
        // The published code moves its schedule after an epoch, by the number of that epoch.
        let step = match self.stride {
            1 => step,
            stride => (step / stride).saturating_sub(1) * stride,
        } as f64;
        if step < self.warmup {
            return self.peak * (step + 1.0) / (self.warmup + 1.0);
        }
        let length = (self.total - self.warmup).max(1.0);
        let progress = ((step - self.warmup) / length).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.least + (self.peak - self.least) * cosine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_epochs_it_is_the_published_schedule() {
        let values = include_str!("../tests/data/schedules_deit.json");
        let values: serde_json::Value = serde_json::from_str(values).unwrap();
        for (name, learning_rate, min_learning_rate) in [
            ("deit_search_base_lr(all sizes, scaled 5e-5*1024/512)", 1e-4, 1e-4),
            ("deit_finetune_lr_130", 1e-4, 1e-5),
            ("deit_finetune_dist_lr_200", 1e-4, 1e-5),
        ] {
            let rates: Vec<f64> = serde_json::from_value(values[name].clone()).unwrap();
            let config = TrainingConfig {
                epochs: rates.len(),
                learning_rate,
                min_learning_rate,
                schedule: ScheduleKind::Epochs,
                ..TrainingConfig::default()
            };
            let schedule = Schedule::new(&config, 7);
            for (epoch, rate) in rates.into_iter().enumerate() {
                for step in [0, 6] {
                    let found = schedule.at(7 * epoch + step);
                    assert!((found - rate).abs() < 1e-12, "{name} {epoch}: {found}, not {rate}");
                }
            }
        }
    }

    #[test]
    fn rises_then_falls_to_the_least() {
        let config = TrainingConfig {
            epochs: 10,
            learning_rate: 1.0,
            min_learning_rate: 0.1,
            warmup_epochs: 1.0,
            ..TrainingConfig::default()
        };
        let schedule = Schedule::new(&config, 10);
        assert!(schedule.at(0) < schedule.at(5) && schedule.at(5) < schedule.at(10));
        assert!((schedule.at(10) - 1.0).abs() < 1e-12);
        assert!((schedule.at(55) - 0.55).abs() < 1e-12);
        assert!((schedule.at(100) - 0.1).abs() < 1e-12);
    }
}
