//! Random decisions of training steps, drawn on the host from the seed and the step's number: a
//! resumed run has nothing to restore, and no backend or thread can change them.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use spvit_search::BlockUniforms;

use crate::Phase;

/// What the numbers are for; each has its own stream.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// Initial weights.
    Weights = 1,
    /// Gates of a search step.
    Gates = 2,
    /// Dropped paths.
    DropPath = 3,
    /// Order and augmentation of images while pretraining.
    PretrainData = 4,
    /// The same while searching.
    SearchData = 5,
    /// The same while fine-tuning.
    FinetuneData = 6,
    /// The same while a dense model gets a new head.
    TransferData = 7,
    /// Images that a dense model is measured on, and a compact one fitted to.
    Calibration = 8,
    /// Models that a table of latencies is held against.
    WholeModels = 9,
}

impl Purpose {
    /// Order and augmentation of a phase's images.
    pub fn data(phase: Phase) -> Self {
        match phase {
            Phase::Pretrain => Self::PretrainData,
            Phase::Transfer => Self::TransferData,
            Phase::Search => Self::SearchData,
            Phase::Finetune => Self::FinetuneData,
        }
    }
}

/// The generator of one purpose and step.
pub fn generator(seed: u64, purpose: Purpose, step: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ ((purpose as u64) << 56));
    rng.set_stream(step);
    rng
}

/// A seed for something that takes one.
pub fn seed(seed: u64, purpose: Purpose) -> u64 {
    generator(seed, purpose, 0).random()
}

/// A number in the open interval (0, 1), which `f32` holds exactly.
fn open_unit(rng: &mut ChaCha8Rng) -> f32 {
    let bits: u32 = rng.random();
    ((bits >> 9) as f32 + 0.5) / (1u32 << 23) as f32
}

/// Uniform draws for the gates of every block in one step; `draws` holds how many for its
/// operations, for its FFN and for its heads.
pub fn gate_uniforms(seed: u64, step: u64, draws: &[[usize; 3]]) -> Vec<BlockUniforms> {
    let mut rng = generator(seed, Purpose::Gates, step);
    let mut draw = |count: usize| (0..count).map(|_| open_unit(&mut rng)).collect::<Vec<_>>();
    let block = |&[operations, hidden, _]: &[usize; 3]| BlockUniforms {
        operations: draw(operations),
        ffn: draw(hidden),
        heads: Vec::new(),
    };
    let mut blocks: Vec<BlockUniforms> = draws.iter().map(block).collect();
    // After all others, which are the same with heads and without.
    for (block, &[.., heads]) in blocks.iter_mut().zip(draws) {
        block.heads = draw(heads);
    }
    blocks
}

/// Factors of the residual branches of one step, `[2·depth, batch]` row-major: 0 for a dropped
/// path, `1/(1 - rate)` otherwise, the rate rising linearly over the blocks to `rate`.
pub fn drop_path_factors(seed: u64, step: u64, rate: f64, depth: usize, batch: usize) -> Vec<f32> {
    let mut rng = generator(seed, Purpose::DropPath, step);
    let mut factors = Vec::with_capacity(2 * depth * batch);
    for row in 0..2 * depth {
        let share = (row / 2) as f64 / (depth.max(2) - 1) as f64;
        let rate = (rate * share) as f32;
        let kept = 1.0 / (1.0 - rate);
        factors.extend((0..batch).map(|_| if open_unit(&mut rng) < rate { 0.0 } else { kept }));
    }
    factors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_the_step_alone() {
        let a = gate_uniforms(3, 7, &[[3, 8, 0]; 2]);
        assert_eq!(a, gate_uniforms(3, 7, &[[3, 8, 0]; 2]));
        assert_ne!(a, gate_uniforms(3, 8, &[[3, 8, 0]; 2]));
        assert_ne!(a, gate_uniforms(4, 7, &[[3, 8, 0]; 2]));
        let heads = gate_uniforms(3, 7, &[[3, 8, 2]; 2]);
        assert!(a.iter().zip(&heads).all(|(a, b)| a.ffn == b.ffn && b.heads.len() == 2));
        let all = a.iter().flat_map(|block| block.operations.iter().chain(&block.ffn));
        assert!(all.clone().count() == 22 && all.clone().all(|&u| u > 0.0 && u < 1.0));
    }

    #[test]
    fn drop_path_keeps_the_expectation() {
        let factors = drop_path_factors(0, 0, 0.5, 3, 4000);
        assert!(factors[..8000].iter().all(|&f| f == 1.0), "the first block is never dropped");
        let last = &factors[16000..];
        let mean = last.iter().sum::<f32>() / last.len() as f32;
        assert!((mean - 1.0).abs() < 0.05, "mean factor {mean}");
        assert!(last.iter().all(|&f| f == 0.0 || f == 2.0));
    }
}
