//! What every choice costs, in one unit.

mod count;
mod limits;
mod measured;
mod unit;

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData, backend::Backend};
pub use limits::{Limit, Limits};
use spvit_layers::{BlockConfig, ModelConfig, Operation};

pub use measured::{
    Choice, Correction, Entry, FitError, LatencyError, LatencyTable, OperationTime, Place, Probe,
    ShapeFit, Timing, WholeModel, probes,
};
pub use unit::{Budget, CostModel, Unit};

use crate::gates::{joined, within};

/// Costs of the choices of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockCost {
    /// Of the shortcut, every kernel in ascending order and MSA; of MSA alone where a search
    /// leaves attention as it is.
    pub operations: Vec<(Operation, f64)>,
    /// What no choice changes, besides the operation and besides the FFN: norms, mostly.
    pub fixed: [f64; 2],
    /// Of one hidden dimension of the FFN.
    pub hidden_dimension: f64,
    /// Of an FFN besides its hidden dimensions, where there are any.
    pub ffn_fixed: f64,
    /// Number of hidden dimensions of the dense FFN.
    pub hidden: usize,
    /// Whether they have gates.
    pub searches_ffn: bool,
    /// Of one head of attention; 0 where heads stay.
    pub head: f64,
    /// Number of heads of the dense attention.
    pub heads: usize,
    /// Whether they have gates.
    pub searches_heads: bool,
}

impl BlockCost {
    /// The single path: the operations and their costs, the shortcut first, without those that are
    /// dominated: dearer than a larger one.
    pub fn path(&self) -> impl Iterator<Item = (Operation, f64)> + '_ {
        self.operations.iter().enumerate().filter_map(|(i, &(operation, cost))| {
            let later = &self.operations[i + 1..];
            later.iter().all(|&(_, other)| other >= cost).then_some((operation, cost))
        })
    }

    /// Number of gates of the FFN.
    pub fn ffn_gates(&self) -> usize {
        if self.searches_ffn { self.hidden } else { 0 }
    }

    /// Of the whole FFN where it has no gates, else 0.
    pub fn ungated_ffn(&self) -> f64 {
        if self.searches_ffn { 0.0 } else { self.ffn(self.hidden) }
    }

    /// Of the FFN with so many open gates, which do not say whether any of its dimensions is left.
    pub fn gated_ffn(&self, open: usize) -> f64 {
        match self.searches_ffn {
            true => self.ffn_fixed + self.hidden_dimension * open as f64,
            false => self.ungated_ffn(),
        }
    }

    /// Number of gates of heads.
    pub fn head_gates(&self) -> usize {
        let attends = self.operation(Operation::Msa).is_some();
        if self.searches_heads && self.head > 0.0 && attends { self.heads } else { 0 }
    }

    /// Of the `level`-th operation of the path and the FFN with so many open gates of the FFN and of
    /// heads, of which attention has at least one.
    pub fn at(&self, level: usize, [open, heads]: [usize; 2]) -> f64 {
        let Some((operation, cost)) = self.path().nth(level) else { return self.gated_ffn(open) };
        let gone = match operation {
            Operation::Msa if self.head_gates() > 0 => self.heads - heads.max(1),
            _ => 0,
        };
        cost - self.head * gone as f64 + self.gated_ffn(open)
    }

    /// The operations that the single path leaves out.
    pub fn dominated(&self) -> impl Iterator<Item = Operation> + '_ {
        let kept: Vec<Operation> = self.path().map(|(operation, _)| operation).collect();
        let all = self.operations.iter().map(|&(operation, _)| operation);
        all.filter(move |operation| !kept.contains(operation))
    }

    /// Of an operation; `None` if the block does not have it.
    pub fn operation(&self, operation: Operation) -> Option<f64> {
        let found = self.operations.iter().find(|(own, _)| *own == operation);
        found.map(|&(_, cost)| cost)
    }

    /// Of an FFN of this width.
    pub fn ffn(&self, hidden: usize) -> f64 {
        match hidden {
            0 => 0.0,
            _ => self.ffn_fixed + self.hidden_dimension * hidden as f64,
        }
    }
}

/// Costs of every choice of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct CostTable {
    /// What all costs are in.
    pub unit: Unit,
    /// Of the embedding of patches, prefix tokens and positions.
    pub embedding: f64,
    /// Of all mergings between stages.
    pub merging: f64,
    /// Of the final norm and classifier.
    pub head: f64,
    /// The blocks.
    pub blocks: Vec<BlockCost>,
}

impl CostTable {
    /// FLOPs of a model's shape.
    pub fn new(config: &ModelConfig, model: CostModel) -> Self {
        match model {
            CostModel::Paper => count::paper(config),
            CostModel::Macs => count::macs(config),
        }
    }

    /// Costs of a model's shape in a budget's unit; `None` for a time, which has to be measured.
    pub fn in_unit(config: &ModelConfig, model: CostModel, unit: Unit) -> Option<Self> {
        match unit {
            Unit::Flops => Some(Self::new(config, model)),
            Unit::Parameters => Some(Self::parameters(config)),
            Unit::Milliseconds => None,
        }
    }

    /// Times of a model of which nothing was measured: no budget is met.
    pub fn unmeasured(config: &ModelConfig) -> Self {
        let counted = count::parameters(config);
        Self { unit: Unit::Milliseconds, embedding: f64::INFINITY, ..counted }
    }

    /// Trained values of a model's shape.
    pub fn parameters(config: &ModelConfig) -> Self {
        count::parameters(config)
    }

    /// The table with gates for attention's heads.
    pub fn with_heads(mut self) -> Self {
        for block in &mut self.blocks {
            block.searches_heads = true;
        }
        self
    }

    /// The table without gates for hidden dimensions.
    pub fn with_whole_ffns(mut self) -> Self {
        for block in &mut self.blocks {
            block.searches_ffn = false;
        }
        self
    }

    /// The table with these operations alone, one entry for each block; a block of which none is
    /// left stays as it is.
    pub fn among(mut self, operations: &[Vec<Operation>]) -> Self {
        for (block, among) in self.blocks.iter_mut().zip(operations) {
            let mut left = block.operations.clone();
            left.retain(|(operation, _)| among.contains(operation));
            if !left.is_empty() {
                block.operations = left;
            }
        }
        self
    }

    /// Every cost, to be changed.
    fn costs_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        let blocks = self.blocks.iter_mut().flat_map(|block| {
            let operations = block.operations.iter_mut().map(|(_, cost)| cost);
            let others = [&mut block.hidden_dimension, &mut block.ffn_fixed, &mut block.head];
            operations.chain(&mut block.fixed).chain(others)
        });
        [&mut self.embedding, &mut self.merging, &mut self.head].into_iter().chain(blocks)
    }

    /// The table with every cost times a factor.
    fn scaled(&self, factor: f64) -> Self {
        let mut table = self.clone();
        table.costs_mut().for_each(|cost| *cost *= factor);
        table
    }

    /// Adds the costs of a table of the same choices, each times a factor.
    fn add(&mut self, other: &Self, factor: f64) {
        let mut other = other.scaled(factor);
        for (own, other) in self.costs_mut().zip(other.costs_mut()) {
            *own += *other;
        }
    }

    /// What no choice changes: embedding, mergings, head, and what every block has.
    pub fn fixed(&self) -> f64 {
        let blocks = self.blocks.iter().map(|block| block.fixed.iter().sum::<f64>());
        self.embedding + self.merging + self.head + blocks.sum::<f64>()
    }

    /// Costs of one block, without what is in [`CostTable::fixed`]: operation and FFN. `None` for
    /// an operation that the table does not have.
    pub fn block(&self, index: usize, block: &BlockConfig) -> Option<[f64; 2]> {
        let cost = self.blocks.get(index)?;
        let gone = block.heads.map_or(0, |heads| cost.heads.saturating_sub(heads));
        let operation = cost.operation(block.operation)? - cost.head * gone as f64;
        Some([operation, cost.ffn(block.hidden)])
    }

    /// Cost of a whole compact model; `None` if a block has an operation that the table lacks.
    pub fn total(&self, blocks: &[BlockConfig]) -> Option<f64> {
        let parts = blocks
            .iter()
            .enumerate()
            .map(|(i, block)| self.block(i, block).map(|[operation, ffn]| operation + ffn));
        parts.sum::<Option<f64>>().map(|sum| sum + self.fixed())
    }

    /// Cost of the dense model.
    pub fn dense(&self) -> f64 {
        let blocks = self.blocks.iter().map(|block| {
            let attention = block.operations.last().map_or(0.0, |&(_, cost)| cost);
            attention + block.ffn(block.hidden)
        });
        self.fixed() + blocks.sum::<f64>()
    }

    /// A line on the operations that the single paths leave out, because a larger one is cheaper.
    pub fn dominated(&self) -> Option<String> {
        let parts = self.by_name(|block| block.dominated().collect());
        let unit = self.unit;
        parts
            .map(|parts| format!("not searched, as a larger operation costs fewer {unit}: {parts}"))
    }

    /// A line on the layers that a search leaves as they are, because a norm stands before their
    /// last map.
    pub fn left_dense(&self) -> Option<String> {
        let parts = self.by_name(|block| {
            let attention = (block.operations.len() == 1).then_some("attention");
            let ffn = (!block.searches_ffn).then_some("the FFN");
            attention.into_iter().chain(ffn).collect()
        });
        parts.map(|parts| {
            format!("left dense, as a norm before its last map allows no other form: {parts}")
        })
    }

    /// What every block names, with the blocks that do.
    fn by_name<T: Ord + std::fmt::Display>(
        &self,
        named: impl Fn(&BlockCost) -> Vec<T>,
    ) -> Option<String> {
        let mut blocks: BTreeMap<T, Vec<String>> = BTreeMap::new();
        for (index, block) in self.blocks.iter().enumerate() {
            for name in named(block) {
                blocks.entry(name).or_default().push(index.to_string());
            }
        }
        let parts = blocks.into_iter().map(|(name, blocks)| match blocks.len() {
            all if all == self.blocks.len() => format!("{name} in every block"),
            _ => format!("{name} in blocks {}", blocks.join(", ")),
        });
        let parts: Vec<String> = parts.collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Cost at the expected gates, divided by `scale`, with the gradient of Eq. 12.
    ///
    /// # Shapes
    /// - operations: cumulative gates of all single paths, ffn: gates of all hidden dimensions, as
    ///   [`Gates::expected`](crate::Gates::expected) gives them; output: `[1]`.
    pub fn expected<B: Backend>(
        &self,
        operations: Tensor<B, 1>,
        ffn: Tensor<B, 1>,
        scale: f64,
    ) -> Tensor<B, 1> {
        let device = ffn.device();
        let upload = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<B, 1>::from_data(TensorData::new(values, [count]), &device)
        };
        let scaled = |cost: f64| (cost / scale) as f32;
        let mut fixed = self.fixed();
        let mut steps = Vec::new();
        for block in &self.blocks {
            let costs: Vec<f64> = block.path().map(|(_, cost)| cost).collect();
            fixed += costs.first().unwrap_or(&0.0) + block.gated_ffn(0);
            steps.extend(costs.windows(2).map(|pair| scaled(pair[1] - pair[0])));
        }
        // Gates are 0 or 1, so that counting them first is exact in float32, and what is left is a
        // sum of few terms: the budget term squares its small difference to the target.
        let gated = || self.blocks.iter().filter(|block| block.ffn_gates() > 0);
        let hidden: Vec<usize> = gated().map(|block| block.hidden).collect();
        let mut start = 0;
        // Neighbours of one width together.
        let counts = hidden.chunk_by(|a, b| a == b).map(|alike| {
            let (blocks, hidden) = (alike.len(), alike[0]);
            let gates = within(ffn.clone(), start, blocks * hidden).reshape([blocks, hidden]);
            start += blocks * hidden;
            gates.sum_dim(1).reshape([blocks])
        });
        let counts: Vec<Tensor<B, 1>> = counts.collect();
        let dims = gated().map(|block| scaled(block.hidden_dimension)).collect();
        let chosen = (!steps.is_empty()).then(|| (operations * upload(steps)).sum());
        let kept = joined(counts).map(|counts| (counts * upload(dims)).sum());
        let sum = chosen.into_iter().chain(kept).reduce(|a, b| a + b);
        // Not zeros and what is fixed: of those, Burn's fusion on a GPU reads what nobody wrote.
        sum.map_or_else(|| upload(vec![scaled(fixed)]), |sum| sum + f64::from(scaled(fixed)))
    }
}
