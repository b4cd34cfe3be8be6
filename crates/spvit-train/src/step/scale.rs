//! The factor of a loss whose gradients float16 would round to zero.

use burn::tensor::TensorData;

/// Steps without an overflow after which the factor is doubled.
const PATIENCE: u32 = 2000;
/// Where it begins, and the most that it becomes.
const FIRST: f64 = 65536.0;
const MOST: f64 = 16_777_216.0;

/// Doubled where gradients have long been finite, halved where they are not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScale {
    pub(super) factor: f64,
    /// Steps since it changed.
    steps: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { factor: FIRST, steps: 0 }
    }
}

impl LossScale {
    /// After gradients that are finite, or are not.
    pub(super) fn after(self, finite: bool) -> Self {
        match (finite, self.steps + 1) {
            (false, _) => Self { factor: (self.factor / 2.0).max(1.0), steps: 0 },
            (true, PATIENCE) => Self { factor: (self.factor * 2.0).min(MOST), steps: 0 },
            (true, steps) => Self { steps, ..self },
        }
    }

    /// For a checkpoint, `[2]`.
    pub(crate) fn state(self) -> TensorData {
        TensorData::new(vec![self.factor as f32, self.steps as f32], [2])
    }

    /// What a checkpoint holds.
    pub(crate) fn of_state(data: &TensorData) -> Self {
        let mut values = data.iter::<f64>();
        let first = Self::default();
        let factor = values.next().unwrap_or(first.factor);
        Self { factor, steps: values.next().map_or(0, |steps| steps as u32) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_at_an_overflow_and_doubles_after_long() {
        let mut scale = LossScale::default().after(true).after(false);
        assert_eq!(scale, LossScale { factor: FIRST / 2.0, steps: 0 });
        for _ in 0..PATIENCE - 1 {
            scale = scale.after(true);
        }
        assert_eq!(scale.factor, FIRST / 2.0);
        assert_eq!(LossScale::of_state(&scale.state()), scale);
        assert_eq!(scale.after(true), LossScale { factor: FIRST, steps: 0 });
        let least = (0..100).fold(scale, |scale, _| scale.after(false));
        assert_eq!(least.factor, 1.0);
        let most = LossScale { factor: MOST, steps: PATIENCE - 1 };
        assert_eq!(most.after(true).factor, MOST);
    }
}
