//! From gates to the architecture that meets a budget.

use spvit_layers::ModelConfig;

use crate::{
    Architecture, BlockArchitecture, BlockCost, BlockProbabilities, Budget, CostModel, CostTable,
    Unit,
};

/// How far below the budget an architecture may stay before an operation is raised.
const SLACK: f64 = 0.005;

/// Budgets that no architecture meets.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DeriveError {
    /// A time, which no count gives.
    #[error("a budget in milliseconds needs a table of measured times")]
    Unmeasured,
    /// Even shortcuts without FFNs cost more.
    #[error(
        "the budget of {} {} cannot be met: the smallest model (all shortcuts, no FFN) needs \
         {smallest}; raise the budget or choose a smaller dense model",
        budget.target,
        budget.unit
    )]
    TooSmall {
        /// The budget.
        budget: Budget,
        /// The least that the model can cost.
        smallest: f64,
    },
}

/// [`derive_blocks`] for a budget of FLOPs, as an architecture.
///
/// # Errors
/// [`DeriveError::TooSmall`] if nothing is cheap enough.
pub fn derive(
    config: &ModelConfig,
    model: CostModel,
    probabilities: &[BlockProbabilities],
    target: u64,
) -> Result<Architecture, DeriveError> {
    derive_for(config, model, probabilities, Budget::flops(target))
}

/// [`derive_blocks`] for a budget of FLOPs or parameters, as an architecture that counts FLOPs by
/// `model`.
///
/// # Errors
/// [`DeriveError::TooSmall`] if nothing is cheap enough, [`DeriveError::Unmeasured`] for a time.
pub fn derive_for(
    config: &ModelConfig,
    model: CostModel,
    probabilities: &[BlockProbabilities],
    budget: Budget,
) -> Result<Architecture, DeriveError> {
    let table = CostTable::in_unit(config, model, budget.unit);
    let blocks = derive_blocks(&table.ok_or(DeriveError::Unmeasured)?, probabilities, budget)?;
    let target = budget.target as u64;
    let flops = (budget.unit == Unit::Flops).then_some(target);
    let mut architecture = Architecture::new(config.clone(), model, blocks, flops);
    architecture.target_parameters = (budget.unit == Unit::Parameters).then_some(target);
    Ok(architecture)
}

/// Picks the operations that the gates expect, then hidden dimensions in order of gate probability
/// over the whole network, so that the cost is at most the budget and within 0.5 % of it where the
/// FFNs are fine enough.
///
/// If the operations alone cost too much, the open one with the least likely gate is lowered by
/// one; if whole FFNs cost too little, the closed one with the likeliest gate is raised. An FFN may
/// lose all its dimensions.
///
/// # Errors
/// [`DeriveError::TooSmall`] if nothing is cheap enough.
pub fn derive_blocks(
    table: &CostTable,
    probabilities: &[BlockProbabilities],
    budget: Budget,
) -> Result<Vec<BlockArchitecture>, DeriveError> {
    let paths: Paths = table.blocks.iter().map(|block| block.path().collect()).collect();
    let levels = operations_in_budget(table, &paths, probabilities, budget)?;
    let spent = base(table, &paths, &levels);
    let kept = dimensions_in_budget(table, probabilities, spent, budget.target);
    let blocks = levels.iter().zip(&paths).zip(kept);
    Ok(blocks
        .map(|((&level, path), kept)| BlockArchitecture { operation: path[level].0, kept })
        .collect())
}

/// The single path of every block, the shortcut first.
type Paths = Vec<Vec<(spvit_layers::Operation, f64)>>;

/// Cost outside the FFNs that have gates.
fn base(table: &CostTable, paths: &Paths, levels: &[usize]) -> f64 {
    let ungated: f64 = table.blocks.iter().map(BlockCost::ungated_ffn).sum();
    let operations: f64 = levels.iter().zip(paths).map(|(&level, path)| path[level].1).sum();
    table.fixed() + ungated + operations
}

/// An index into the single path of every block.
fn operations_in_budget(
    table: &CostTable,
    paths: &Paths,
    probabilities: &[BlockProbabilities],
    budget: Budget,
) -> Result<Vec<usize>, DeriveError> {
    let mut levels: Vec<usize> = probabilities.iter().map(BlockProbabilities::level).collect();
    let whole: f64 = table.blocks.iter().map(|block| block.ffn(block.ffn_gates())).sum();

    while base(table, paths, &levels) > budget.target {
        let open = levels.iter().enumerate().filter(|(_, level)| **level > 0);
        let least = open.min_by(|(i, a), (j, b)| {
            let p = |block: usize, level: usize| probabilities[block].operations[level - 1];
            p(*i, **a).total_cmp(&p(*j, **b))
        });
        match least.map(|(i, _)| i) {
            Some(i) => levels[i] -= 1,
            None => {
                let smallest = base(table, paths, &levels);
                return Err(DeriveError::TooSmall { budget, smallest });
            }
        }
    }

    while base(table, paths, &levels) + whole < budget.target * (1.0 - SLACK) {
        let raised = |i: usize| {
            let mut levels = levels.clone();
            levels[i] += 1;
            levels
        };
        let closed = (0..levels.len()).filter(|&i| {
            levels[i] < probabilities[i].operations.len()
                && base(table, paths, &raised(i)) <= budget.target
        });
        let likeliest = closed.max_by(|&i, &j| {
            let p = |block: usize| probabilities[block].operations[levels[block]];
            p(i).total_cmp(&p(j))
        });
        match likeliest {
            Some(i) => levels = raised(i),
            None => break,
        }
    }
    Ok(levels)
}

/// The kept hidden dimensions of every block, ascending, given what the rest costs.
fn dimensions_in_budget(
    table: &CostTable,
    probabilities: &[BlockProbabilities],
    mut cost: f64,
    target: f64,
) -> Vec<Vec<usize>> {
    let mut all: Vec<(usize, usize)> = probabilities
        .iter()
        .enumerate()
        .flat_map(|(block, p)| (0..p.ffn.len()).map(move |dimension| (block, dimension)))
        .collect();
    let p = |&(block, dimension): &(usize, usize)| probabilities[block].ffn[dimension];
    all.sort_by(|a, b| p(b).total_cmp(&p(a)));

    // An FFN without gates is whole.
    let mut kept: Vec<Vec<usize>> =
        table.blocks.iter().map(|block| (block.ffn_gates()..block.hidden).collect()).collect();
    for (block, dimension) in all {
        let own = &table.blocks[block];
        let more = own.ffn(kept[block].len() + 1) - own.ffn(kept[block].len());
        if cost + more <= target {
            cost += more;
            kept[block].push(dimension);
        }
    }
    for dimensions in &mut kept {
        dimensions.sort_unstable();
    }
    kept
}
