//! From gates to the architecture that meets a budget.

use spvit_layers::{ModelConfig, Operation};

use crate::{
    Architecture, BlockArchitecture, BlockCost, BlockProbabilities, Budget, CostModel, CostTable,
    Limit, Limits, Unit, multiples::keep_to_multiples,
};

/// How far below the budget an architecture may stay before an operation is raised.
const SLACK: f64 = 0.005;

/// Budgets that no architecture meets.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DeriveError {
    /// A time, which no count gives.
    #[error("a budget in milliseconds needs a table of measured times")]
    Unmeasured,
    /// Even the cheapest operations without FFNs cost more, with the attention that a class token needs.
    #[error(
        "the budget of {budget} cannot be met: the smallest model (no FFN, every block's cheapest \
         operation{}) needs {}; raise the budget or choose a smaller dense model",
        match sighted {
            true => ", but for one attention, which tells the class token of the image",
            false => "",
        },
        Budget { target: *smallest, ..*budget }
    )]
    TooSmall {
        /// The budget.
        budget: Budget,
        /// Whether attention has to stay somewhere.
        sighted: bool,
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
    let table = CostTable::in_unit(config, model, budget.unit).ok_or(DeriveError::Unmeasured)?;
    derive_within(config, model, &Limits::one(table, budget.target), probabilities)
}

/// [`derive_blocks`] within these limits, whose single paths may leave out operations
/// ([`CostTable::among`]).
///
/// # Errors
/// [`DeriveError::TooSmall`] if nothing is cheap enough.
pub fn derive_within(
    config: &ModelConfig,
    model: CostModel,
    limits: &Limits,
    probabilities: &[BlockProbabilities],
) -> Result<Architecture, DeriveError> {
    let blocks = derive_blocks(config, limits, probabilities)?;
    let target = |unit: Unit| {
        let own = limits.iter().find(|limit| limit.table.unit == unit);
        own.map(|limit| limit.target)
    };
    let count = |unit: Unit| target(unit).map(|target| target as u64);
    let mut architecture = Architecture::new(config.clone(), model, blocks, count(Unit::Flops));
    architecture.target_parameters = count(Unit::Parameters);
    architecture.target_milliseconds = target(Unit::Milliseconds);
    Ok(architecture)
}

/// Picks the operations that the gates expect, then hidden dimensions, and heads where they have
/// gates, in order of gate probability over the whole network, so that no cost exceeds its budget and
/// one is within 0.5 % of it where the FFNs are fine enough.
///
/// If the operations alone cost too much, the open one with the least likely gate is lowered by
/// one; if whole FFNs cost too little, the closed one with the likeliest gate is raised. An FFN may
/// lose all its dimensions; attention that stays keeps its likeliest head. Where widths are kept to
/// multiples ([`Limits::in_multiples`]), they are then rounded down, and whole multiples fill what that
/// leaves, always the likeliest one that fits.
///
/// Where the classifier sees prefix tokens alone, attention stays after the last convolution that
/// mixes patches ([`sighted`]): if the gates expect none there, the likeliest is raised to it, and
/// steps that would leave none are stepped over.
///
/// # Errors
/// [`DeriveError::TooSmall`] if nothing is cheap enough.
pub fn derive_blocks(
    config: &ModelConfig,
    limits: &Limits,
    probabilities: &[BlockProbabilities],
) -> Result<Vec<BlockArchitecture>, DeriveError> {
    let paths = Paths::new(config, limits);
    let levels = operations_in_budget(&paths, probabilities)?;
    let operations: Vec<Operation> = paths.operations(&levels).collect();
    Ok(parts_in_budget(limits, probabilities, &operations, paths.bases(&levels)))
}

/// Whether a token that only attention shows the image to sees all that convolutions made of it:
/// attention follows the last convolution of more than one position, or is there at all.
pub fn sighted(operations: impl IntoIterator<Item = Operation>) -> bool {
    operations.into_iter().fold(false, |seen, operation| match operation {
        Operation::Msa => true,
        Operation::BConv(kernel) if kernel > 1 => false,
        Operation::BConv(_) | Operation::Shortcut => seen,
    })
}

/// The single path of every block, the shortcut first. An index into each is a *level*.
struct Paths<'a> {
    operations: Vec<Vec<Operation>>,
    /// Their costs, for every limit.
    costs: Vec<(&'a Limit, Vec<Vec<f64>>)>,
    needs_attention: bool,
    multiple: usize,
}

impl<'a> Paths<'a> {
    fn new(config: &ModelConfig, limits: &'a Limits) -> Self {
        let path = |block: &BlockCost| block.path().map(|(operation, _)| operation).collect();
        let costs = |block: &BlockCost| block.path().map(|(_, cost)| cost).collect();
        let of = |limit: &'a Limit| (limit, limit.table.blocks.iter().map(costs).collect());
        Self {
            operations: limits.first().table.blocks.iter().map(path).collect(),
            costs: limits.iter().map(of).collect(),
            needs_attention: config.sees_by_attention(),
            multiple: limits.multiple(),
        }
    }

    fn operations(&self, levels: &[usize]) -> impl Iterator<Item = Operation> {
        levels.iter().zip(&self.operations).map(|(&level, path)| path[level])
    }

    /// Costs outside the FFNs that have gates, with one head where heads have, for every limit.
    fn bases(&self, levels: &[usize]) -> Vec<f64> {
        let base = |(limit, paths): &(&Limit, Vec<Vec<f64>>)| {
            let table = &limit.table;
            let ungated: f64 = table.blocks.iter().map(BlockCost::ungated_ffn).sum();
            let operations = levels.iter().zip(paths).map(|(&level, path)| path[level]);
            table.fixed() + ungated + operations.sum::<f64>() - self.heads(table, levels)
        };
        self.costs.iter().map(base).collect()
    }

    /// Cost of all heads but one wherever they have gates.
    fn heads(&self, table: &CostTable, levels: &[usize]) -> f64 {
        let pairs = self.operations(levels).zip(&table.blocks);
        let attends = pairs.filter(|(operation, _)| *operation == Operation::Msa);
        attends.map(|(_, cost)| cost.head * cost.head_gates().saturating_sub(1) as f64).sum()
    }

    /// The first limit that the operations alone exceed, and what they cost.
    fn exceeded(&self, levels: &[usize]) -> Option<(&Limit, f64)> {
        let pairs = self.costs.iter().zip(self.bases(levels));
        let mut over = pairs.filter(|((limit, _), base)| *base > limit.target);
        over.next().map(|((limit, _), base)| (*limit, base))
    }

    /// Whether with whole FFNs and all heads every budget still has room.
    fn spare(&self, levels: &[usize]) -> bool {
        self.costs.iter().zip(self.bases(levels)).all(|((limit, _), base)| {
            let ffns = limit
                .table
                .blocks
                .iter()
                .map(|block| block.ffn(block.ffn_gates() / self.multiple * self.multiple));
            let all = base + ffns.sum::<f64>() + self.heads(&limit.table, levels);
            all < limit.target * (1.0 - SLACK)
        })
    }

    /// Whether the classifier sees the image.
    fn fit(&self, levels: &[usize]) -> bool {
        !self.needs_attention || sighted(self.operations(levels))
    }

    /// The levels with another one in a block: the first of `candidates` with which the classifier
    /// sees the image.
    fn moved(
        &self,
        levels: &[usize],
        block: usize,
        mut candidates: impl Iterator<Item = usize>,
    ) -> Option<Vec<usize>> {
        candidates.find_map(|level| {
            let mut levels = levels.to_vec();
            levels[block] = level;
            self.fit(&levels).then_some(levels)
        })
    }

    /// To what is cheaper: one head of attention may cost less than a convolution.
    fn lowered(&self, levels: &[usize], block: usize) -> Option<Vec<usize>> {
        let now = self.bases(levels);
        let cheaper = |&level: &usize| {
            let mut other = levels.to_vec();
            other[block] = level;
            let (other, now) = (self.bases(&other), &now);
            other.iter().zip(now).all(|(other, now)| other <= now) && other != *now
        };
        self.moved(levels, block, (0..levels[block]).rev().filter(cheaper))
    }

    fn raised(&self, levels: &[usize], block: usize) -> Option<Vec<usize>> {
        self.moved(levels, block, levels[block] + 1..self.operations[block].len())
    }

    /// The levels with attention where it is likeliest among the blocks where it would do.
    fn with_sight(&self, levels: Vec<usize>, probabilities: &[BlockProbabilities]) -> Vec<usize> {
        if self.fit(&levels) {
            return levels;
        }
        let attention = |block: &BlockProbabilities| block.operations.iter().product::<f32>();
        let able = (0..levels.len()).filter_map(|block| {
            let top = self.operations[block].len() - 1;
            Some((block, self.moved(&levels, block, std::iter::once(top))?))
        });
        let likeliest = able.max_by(|(i, _), (j, _)| {
            attention(&probabilities[*i]).total_cmp(&attention(&probabilities[*j]))
        });
        likeliest.map_or(levels, |(_, levels)| levels)
    }
}

/// A level for every block.
fn operations_in_budget(
    paths: &Paths,
    probabilities: &[BlockProbabilities],
) -> Result<Vec<usize>, DeriveError> {
    let expected = probabilities.iter().map(BlockProbabilities::level).collect();
    let mut levels = paths.with_sight(expected, probabilities);
    let p = |block: usize, level: usize| probabilities[block].operations[level - 1];

    while let Some((limit, smallest)) = paths.exceeded(&levels) {
        let able = (0..levels.len()).filter_map(|i| Some((i, paths.lowered(&levels, i)?)));
        let least = able.min_by(|(i, _), (j, _)| p(*i, levels[*i]).total_cmp(&p(*j, levels[*j])));
        let Some((_, lowered)) = least else {
            let (budget, sighted) = (limit.budget(), paths.needs_attention);
            return Err(DeriveError::TooSmall { budget, sighted, smallest });
        };
        levels = lowered;
    }

    while paths.spare(&levels) {
        let able = (0..levels.len()).filter_map(|i| Some((i, paths.raised(&levels, i)?)));
        let able = able.filter(|(_, raised)| paths.exceeded(raised).is_none());
        let likeliest =
            able.max_by(|(i, _), (j, _)| p(*i, levels[*i] + 1).total_cmp(&p(*j, levels[*j] + 1)));
        match likeliest {
            Some((_, raised)) => levels = raised,
            None => break,
        }
    }
    Ok(levels)
}

/// A hidden dimension or a head.
#[derive(Clone, Copy)]
enum Part {
    Dimension(usize),
    Head(usize),
}

/// The blocks with the likeliest hidden dimensions and heads that fit beside what the rest costs by
/// every limit.
fn parts_in_budget(
    limits: &Limits,
    probabilities: &[BlockProbabilities],
    operations: &[Operation],
    mut costs: Vec<f64>,
) -> Vec<BlockArchitecture> {
    let table = &limits.first().table;
    let p = |&(block, part): &(usize, Part)| match part {
        Part::Dimension(i) => probabilities[block].ffn[i],
        Part::Head(i) => probabilities[block].heads[i],
    };
    let mut all: Vec<(usize, Part)> = Vec::new();
    // An FFN without gates is whole.
    let mut kept: Vec<Vec<usize>> =
        table.blocks.iter().map(|block| (block.ffn_gates()..block.hidden).collect()).collect();
    let mut heads: Vec<Vec<usize>> = vec![Vec::new(); kept.len()];
    for (block, own) in probabilities.iter().enumerate() {
        all.extend((0..own.ffn.len()).map(|i| (block, Part::Dimension(i))));
        if operations[block] == Operation::Msa {
            let first = (0..own.heads.len())
                .max_by(|&a, &b| own.heads[a].total_cmp(&own.heads[b]).then(b.cmp(&a)));
            heads[block].extend(first);
            let others = (0..own.heads.len()).filter(|&i| Some(i) != first);
            all.extend(others.map(|i| (block, Part::Head(i))));
        }
    }
    all.sort_by(|a, b| p(b).total_cmp(&p(a)));

    for (block, part) in all {
        let more = |limit: &Limit| {
            let (own, width) = (&limit.table.blocks[block], kept[block].len());
            match part {
                Part::Dimension(_) => own.ffn(width + 1) - own.ffn(width),
                Part::Head(_) => own.head,
            }
        };
        let with: Vec<f64> =
            costs.iter().zip(limits.iter()).map(|(cost, limit)| cost + more(limit)).collect();
        if with.iter().zip(limits.iter()).all(|(cost, limit)| *cost <= limit.target) {
            costs = with;
            match part {
                Part::Dimension(i) => kept[block].push(i),
                Part::Head(i) => heads[block].push(i),
            }
        }
    }
    if limits.multiple() > 1 {
        keep_to_multiples(limits, probabilities, &mut kept, costs);
    }
    let blocks = operations.iter().zip(kept).zip(heads).zip(&table.blocks);
    blocks
        .map(|(((&operation, mut kept), mut heads), cost)| {
            kept.sort_unstable();
            heads.sort_unstable();
            if heads.len() == cost.heads {
                heads.clear();
            }
            BlockArchitecture { operation, kept, heads }
        })
        .collect()
}
