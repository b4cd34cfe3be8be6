//! From gates to the architecture that meets a budget.

use spvit_layers::VitConfig;

use crate::{Architecture, BlockArchitecture, BlockProbabilities, CostModel, CostTable};

/// How far below the budget an architecture may stay before an operation is raised.
const SLACK: f64 = 0.005;

/// Budgets that no architecture meets.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DeriveError {
    /// Even shortcuts and one hidden dimension per FFN cost more.
    #[error(
        "the budget of {target} FLOPs cannot be met: the smallest model (all shortcuts, one hidden \
         dimension per FFN) needs {smallest}; raise the budget or choose a smaller dense model"
    )]
    TooSmall {
        /// The budget.
        target: u64,
        /// The least that the model can cost.
        smallest: u64,
    },
}

/// Picks the operations that the gates expect, then hidden dimensions in order of gate probability
/// over the whole network, so that the cost is at most `target` FLOPs and within 0.5 % of it where
/// the FFNs are fine enough.
///
/// Every FFN keeps its likeliest dimension. If even that costs too much, the open operation with
/// the least likely gate is lowered by one; if whole FFNs cost too little, the closed operation
/// with the likeliest gate is raised.
///
/// # Errors
/// [`DeriveError::TooSmall`] if nothing is cheap enough.
pub fn derive(
    config: &VitConfig,
    model: CostModel,
    probabilities: &[BlockProbabilities],
    target: u64,
) -> Result<Architecture, DeriveError> {
    let table = CostTable::new(config, model);
    let levels = operations_in_budget(&table, probabilities, target)?;
    let kept = dimensions_in_budget(&table, probabilities, &levels, target);
    let blocks = levels
        .iter()
        .zip(kept)
        .map(|(&level, kept)| BlockArchitecture { operation: table.operation(level), kept });
    Ok(Architecture::new(config.clone(), model, blocks.collect(), Some(target)))
}

/// FLOPs outside the FFNs.
fn base(table: &CostTable, levels: &[usize]) -> u64 {
    let operations = levels.iter().zip(&table.blocks).map(|(&level, cost)| cost.operations[level]);
    table.fixed + operations.sum::<u64>()
}

/// An index into the operations of every block.
fn operations_in_budget(
    table: &CostTable,
    probabilities: &[BlockProbabilities],
    target: u64,
) -> Result<Vec<usize>, DeriveError> {
    let open =
        |block: &BlockProbabilities| block.operations.iter().take_while(|&&p| p > 0.5).count();
    let mut levels: Vec<usize> = probabilities.iter().map(open).collect();
    let smallest: u64 = table.blocks.iter().map(|block| block.hidden_dimension).sum();
    let whole: u64 = table
        .blocks
        .iter()
        .zip(probabilities)
        .map(|(cost, block)| cost.hidden_dimension * block.ffn.len() as u64)
        .sum();

    while base(table, &levels) + smallest > target {
        let open = levels.iter().enumerate().filter(|(_, level)| **level > 0);
        let least = open.min_by(|(i, a), (j, b)| {
            let p = |block: usize, level: usize| probabilities[block].operations[level - 1];
            p(*i, **a).total_cmp(&p(*j, **b))
        });
        match least.map(|(i, _)| i) {
            Some(i) => levels[i] -= 1,
            None => {
                let smallest = base(table, &levels) + smallest;
                return Err(DeriveError::TooSmall { target, smallest });
            }
        }
    }

    while ((base(table, &levels) + whole) as f64) < target as f64 * (1.0 - SLACK) {
        let raised = |i: usize| {
            let mut levels = levels.clone();
            levels[i] += 1;
            levels
        };
        let closed = (0..levels.len()).filter(|&i| {
            levels[i] < probabilities[i].operations.len()
                && base(table, &raised(i)) + smallest <= target
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

/// The kept hidden dimensions of every block, ascending.
fn dimensions_in_budget(
    table: &CostTable,
    probabilities: &[BlockProbabilities],
    levels: &[usize],
    target: u64,
) -> Vec<Vec<usize>> {
    let mut all: Vec<(usize, usize)> = probabilities
        .iter()
        .enumerate()
        .flat_map(|(block, p)| (0..p.ffn.len()).map(move |dimension| (block, dimension)))
        .collect();
    let p = |&(block, dimension): &(usize, usize)| probabilities[block].ffn[dimension];
    all.sort_by(|a, b| p(b).total_cmp(&p(a)));

    let mut kept: Vec<Vec<usize>> = vec![Vec::new(); levels.len()];
    let mut cost = base(table, levels);
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for choice in all {
        match kept[choice.0].is_empty() {
            true => {
                kept[choice.0].push(choice.1);
                first.push(choice);
            }
            false => rest.push(choice),
        }
    }
    cost += first.iter().map(|&(block, _)| table.blocks[block].hidden_dimension).sum::<u64>();
    for (block, dimension) in rest {
        let more = table.blocks[block].hidden_dimension;
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
