//! Learning rates.

use crate::config::TrainingConfig;

/// Linear warm-up, then a cosine to the smallest rate, step by step.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    peak: f64,
    least: f64,
    warmup: f64,
    total: f64,
}

impl Schedule {
    /// The schedule of a phase with this many steps in an epoch.
    pub fn new(config: &TrainingConfig, steps_per_epoch: usize) -> Self {
        Self {
            peak: config.learning_rate,
            least: config.min_learning_rate,
            warmup: config.warmup_epochs * steps_per_epoch as f64,
            total: (config.epochs * steps_per_epoch) as f64,
        }
    }

    /// The rate of a step, counted from 0.
    pub fn at(&self, step: usize) -> f64 {
        let step = step as f64;
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
