//! Random numbers without state: every decision has its own stream, found from what the decision is about.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream decides. Streams of different purposes are independent.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// The order of an epoch's images.
    Order = 1,
    /// One image's crop, flip and erasing.
    Image = 2,
    /// How one batch is mixed.
    Mix = 3,
    /// Which images of a class belong to which split.
    Split = 16,
}

/// A stream of random numbers.
///
/// The distributions are written out here, since those of `rand` may give other values in another release, and a run
/// must be repeatable.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of the decision on `purpose` for item `index` of `epoch`.
    pub(crate) fn new(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> Self {
        Self::repeated(seed, purpose, epoch, index, 0)
    }

    /// The same for an item that comes more than once in an epoch; the first `repeat` is 0.
    pub(crate) fn repeated(
        seed: u64,
        purpose: Purpose,
        epoch: u64,
        index: u64,
        repeat: u32,
    ) -> Self {
        // These numbers are the cipher's key: no two decisions share one, and nothing is mixed or lost.
        let purpose = purpose as u64 | u64::from(repeat) << 32;
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose, epoch, index]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `[low, high)`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform among `0..count`; 0 if `count` is.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        // The bias is below count / 2^64, which no run can see.
        ((u128::from(self.0.next_u64()) * count as u128) >> 64) as usize
    }

    /// A random order of `0..count`.
    pub(crate) fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }

    /// From Beta(α, α), with α above 0.
    pub(crate) fn symmetric_beta(&mut self, alpha: f64) -> f64 {
        // As a ratio of two Gamma variables, in logarithms: for a small α both may be too small for a float.
        let (a, b) = (self.log_gamma_variate(alpha), self.log_gamma_variate(alpha));
        1.0 / (1.0 + (b - a).exp())
    }

    /// The logarithm of a variable from Gamma(shape, 1).
    fn log_gamma_variate(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // Gamma(shape) is Gamma(shape + 1) · U^(1 / shape).
            let uniform = 1.0 - self.unit();
            return self.log_gamma_variate(shape + 1.0) + uniform.ln() / shape;
        }
        // Marsaglia and Tsang, A simple method for generating gamma variables, 2000.
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            let uniform = 1.0 - self.unit();
            if v > 0.0 && uniform.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return (d * v).ln();
            }
        }
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Standard normal values, two at a time.
    pub(crate) fn fill_normal(&mut self, values: &mut [f32]) {
        for pair in values.chunks_mut(2) {
            let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * self.unit()).sin_cos();
            pair.iter_mut()
                .zip([radius * cos, radius * sin])
                .for_each(|(to, from)| *to = from as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(draw: impl FnMut() -> f64) -> (f64, f64) {
        let values: Vec<f64> = std::iter::repeat_with(draw).take(20_000).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance =
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance)
    }

    #[test]
    fn each_decision_has_a_stream_of_its_own() {
        let first =
            |seed, purpose, epoch, index| Stream::new(seed, purpose, epoch, index).0.next_u64();
        let reference = first(1, Purpose::Image, 2, 3);
        assert_eq!(reference, first(1, Purpose::Image, 2, 3));
        assert_ne!(reference, first(2, Purpose::Image, 2, 3));
        assert_ne!(reference, first(1, Purpose::Mix, 2, 3));
        assert_ne!(reference, first(1, Purpose::Image, 3, 3));
        assert_ne!(reference, first(1, Purpose::Image, 2, 4));
        let repeat = |repeat| Stream::repeated(1, Purpose::Image, 2, 3, repeat).0.next_u64();
        assert_eq!(reference, repeat(0));
        assert_ne!(reference, repeat(1));
        assert_ne!(repeat(1), repeat(2));
    }

    #[test]
    fn a_permutation_holds_everything_once() {
        let mut order = Stream::new(5, Purpose::Order, 0, 0).permutation(1000);
        assert!(order.iter().enumerate().any(|(place, &item)| place != item));
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn below_is_uniform() {
        let mut stream = Stream::new(0, Purpose::Image, 0, 0);
        let mut counts = [0; 5];
        (0..20_000).for_each(|_| counts[stream.below(5)] += 1);
        assert!(counts.iter().all(|&count| (3800..4200).contains(&count)), "{counts:?}");
    }

    #[test]
    fn beta_has_its_mean_and_variance() {
        for alpha in [0.05, 0.2, 0.8, 1.0, 4.0] {
            let mut stream = Stream::new(9, Purpose::Mix, 0, 0);
            let (mean, variance) = moments(|| stream.symmetric_beta(alpha));
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 0.015, "α {alpha}: mean {mean}");
            assert!(
                (variance - expected).abs() < 0.01,
                "α {alpha}: variance {variance}, expected {expected}"
            );
        }
    }
}
