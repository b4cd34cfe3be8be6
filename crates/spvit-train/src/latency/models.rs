//! Whole models to hold a table against.

use rand::RngExt;
use spvit_layers::{BlockConfig, BlockShape, ModelConfig, Operation};

use crate::random::{Purpose, generator};

/// Whole models of a table: half to fit its correction on, half to find its error.
pub const WHOLE_MODELS: usize = 16;

/// Always the same random models, from small to nearly dense: every block has another operation, other
/// heads and another width.
pub fn whole_models(model: &ModelConfig) -> Vec<Vec<BlockConfig>> {
    let mut rng = generator(0, Purpose::WholeModels, 0);
    let shapes = model.blocks();
    // Neighbours are of nearly one size, and one of them fits while the other checks.
    let size = |number: usize| (number / 2 + 1) as f64 / (WHOLE_MODELS / 2) as f64;
    let mut block = |shape: &BlockShape, size: f64| {
        let operations: Vec<Operation> =
            [Operation::Shortcut].into_iter().chain(model.operations()).collect();
        let attends = rng.random_bool(size) || !shape.searches_attention();
        let other = operations[rng.random_range(0..operations.len())];
        let operation = if attends { Operation::Msa } else { other };
        let few = operation == Operation::Msa && shape.searches_attention() && rng.random_bool(0.5);
        let heads = few.then(|| rng.random_range(1..=shape.heads));
        // Twice the size at most, so that the mean is about the size.
        let most = (shape.hidden as f64 * (2.0 * size).min(1.0)) as usize;
        let hidden = if shape.searches_ffn() { rng.random_range(0..=most) } else { shape.hidden };
        BlockConfig { operation, hidden, heads: heads.filter(|&heads| heads < shape.heads) }
    };
    (0..WHOLE_MODELS)
        .map(|number| shapes.iter().map(|shape| block(shape, size(number))).collect())
        .collect()
}
