//! The thresholds.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData, Transaction, activation::sigmoid, backend::Backend};
use spvit_core::{FusedOps, gates};
use spvit_layers::{BlockGates, Operation, OperationGates, RowGates};

use crate::{BlockScores, CostTable, Limit, Limits};

/// Uniform draws of one block in one step, each in `(0, 1)`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockUniforms {
    /// One for each gated operation.
    pub operations: Vec<f32>,
    /// One for each hidden dimension of the FFN.
    pub ffn: Vec<f32>,
    /// One for each head that has a gate.
    pub heads: Vec<f32>,
}

/// Gate probabilities `σ(θ)` of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockProbabilities {
    /// Of each gated operation, cheapest first.
    pub operations: Vec<f32>,
    /// Of each hidden dimension of the FFN.
    pub ffn: Vec<f32>,
    /// Of each head of attention that has a gate.
    pub heads: Vec<f32>,
}

impl BlockProbabilities {
    /// Number of gates that are open from the cheapest operation on: an index into
    /// [`BlockCost::path`](crate::BlockCost::path), 0 being the shortcut.
    pub fn level(&self) -> usize {
        self.operations.iter().take_while(|&&p| p > 0.5).count()
    }

    /// Numbers of open gates of the FFN and of the heads.
    pub fn open(&self) -> [usize; 2] {
        [&self.ffn, &self.heads].map(|gates| gates.iter().filter(|&&p| p > 0.5).count())
    }
}

/// The gates of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct GateLayout {
    /// What is there with all operation gates closed: the shortcut, or attention where a search
    /// leaves it as it is.
    pub least: Operation,
    /// What the operation gates open, cheapest first.
    pub operations: Arc<[Operation]>,
    /// Gated hidden dimensions of the FFN.
    pub hidden: usize,
    /// Gated heads of attention.
    pub heads: usize,
}

/// Thresholds θ of every gate of a model.
///
/// They lie in three tensors, so that sampling all gates of a model is a handful of operations.
/// Blocks may differ in their number of operations and of hidden dimensions.
#[derive(Module, Debug)]
pub struct Gates<B: Backend> {
    /// Block by block, in each the cheapest operation first.
    pub operations: Param<Tensor<B, 1>>,
    /// Of the hidden dimensions, block by block.
    pub ffn: Param<Tensor<B, 1>>,
    /// Of the heads, block by block; empty where a search leaves them as they are.
    pub heads: Param<Tensor<B, 1>>,
    #[module(skip)]
    layout: Vec<GateLayout>,
}

/// Neighbouring blocks with the same number of operations.
struct Stretch {
    blocks: usize,
    operations: usize,
}

impl<B: Backend> Gates<B> {
    /// Gates for the single paths of a table, every threshold at `start` (1.5 in the paper:
    /// σ = 0.818).
    pub fn new(table: &CostTable, start: f64, device: &B::Device) -> Self {
        let layout = table.blocks.iter().map(|block| {
            let mut path = block.path().map(|(operation, _)| operation);
            GateLayout {
                least: path.next().unwrap_or(Operation::Shortcut),
                operations: path.collect(),
                hidden: block.ffn_gates(),
                heads: block.head_gates(),
            }
        });
        Self::of(layout.collect(), start, device)
    }

    /// Gates of these blocks, every threshold at `start`.
    pub fn of(layout: Vec<GateLayout>, start: f64, device: &B::Device) -> Self {
        let filled = |count: usize| {
            Param::from_data(TensorData::new(vec![start as f32; count], [count]), device)
        };
        Self {
            operations: filled(layout.iter().map(|block| block.operations.len()).sum()),
            ffn: filled(layout.iter().map(|block| block.hidden).sum()),
            heads: filled(layout.iter().map(|block| block.heads).sum()),
            layout,
        }
    }

    /// Gates for the single paths of a table, their thresholds in the order of `scores`, one entry
    /// for each block. All operations of a path have attention's threshold.
    pub fn ranked(table: &CostTable, scores: &[BlockScores], device: &B::Device) -> Self {
        let mut gates = Self::new(table, 0.0, device);
        let thresholds = BlockScores::thresholds(scores);
        let pairs = || gates.layout.iter().zip(&thresholds);
        let operations =
            pairs().flat_map(|(own, block)| vec![block.attention as f32; own.operations.len()]);
        let of = |part: fn(&BlockScores) -> &Vec<f64>| {
            pairs().flat_map(|(_, block)| part(block).iter().map(|&score| score as f32)).collect()
        };
        let all = [operations.collect(), of(|block| &block.ffn), of(|block| &block.heads)];
        let [operations, ffn, heads] = all.map(|values: Vec<f32>| {
            let count = values.len();
            Param::from_data(TensorData::new(values, [count]), device)
        });
        (gates.operations, gates.ffn, gates.heads) = (operations, ffn, heads);
        gates
    }

    /// The gates with one number added to every threshold, so that a cost at the expected gates comes
    /// as near to its budget as it can without exceeding it, or any other's.
    pub fn projected(mut self, limits: &Limits) -> Self {
        let [operations, ffn, heads] = host(self.thresholds());
        let fits = |shift: f32| {
            let open = |threshold: &f32| threshold + shift > 0.0;
            let blocks = self.blocks(|block, [operation, hidden, head]| {
                let own = &operations[operation..operation + block.operations.len()];
                let level = own.iter().take_while(|threshold| open(threshold)).count();
                let count = |own: &[f32]| own.iter().filter(|threshold| open(threshold)).count();
                let own = [&ffn[hidden..hidden + block.hidden], &heads[head..head + block.heads]];
                (level, own.map(count))
            });
            limits.iter().all(|Limit { table, target }| {
                let pairs = blocks.iter().zip(&table.blocks);
                let sum: f64 = pairs.map(|(&(level, kept), cost)| cost.at(level, kept)).sum();
                table.fixed() + sum <= *target
            })
        };
        let all = || operations.iter().chain(&ffn).chain(&heads);
        let mut low = -all().copied().fold(f32::MIN, f32::max) - 1e-3;
        let mut high = -all().copied().fold(f32::MAX, f32::min) + 1e-3;
        if all().next().is_none() {
            return self;
        }
        if fits(high) {
            low = high;
        }
        for _ in 0..48 {
            let middle = low + (high - low) / 2.0;
            match fits(middle) {
                true => low = middle,
                false => high = middle,
            }
        }
        let device = self.ffn.device();
        for (param, values) in
            [(&mut self.operations, operations), (&mut self.ffn, ffn), (&mut self.heads, heads)]
        {
            let values: Vec<f32> = values.into_iter().map(|threshold| threshold + low).collect();
            let count = values.len();
            let moved =
                |_| Tensor::from_data(TensorData::new(values, [count]), &device).require_grad();
            *param = param.clone().map(moved);
        }
        self
    }

    /// The gates of every block.
    pub fn layout(&self) -> &[GateLayout] {
        &self.layout
    }

    /// Number of uniform draws of every block: for its operations, its FFN and its heads.
    pub fn draws(&self) -> Vec<[usize; 3]> {
        let draws = |block: &GateLayout| [block.operations.len(), block.hidden, block.heads];
        self.layout.iter().map(draws).collect()
    }

    fn stretches(&self) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for block in &self.layout {
            let operations = block.operations.len();
            match stretches.last_mut().filter(|last| last.operations == operations) {
                Some(last) => last.blocks += 1,
                None => stretches.push(Stretch { blocks: 1, operations }),
            }
        }
        stretches
    }

    /// A function of `[blocks, operations]`, and of where they begin, on every stretch of a flat tensor.
    fn by_block(
        &self,
        own: Tensor<B, 1>,
        function: impl Fn(Tensor<B, 2>, usize) -> Tensor<B, 2>,
    ) -> Tensor<B, 1> {
        let mut start = 0;
        let stretches = self.stretches().into_iter().filter(|stretch| stretch.operations > 0);
        let parts = stretches.map(|Stretch { blocks, operations }| {
            let count = blocks * operations;
            let part = within(own.clone(), start, count).reshape([blocks, operations]);
            start += count;
            function(part, start - count).reshape([count])
        });
        joined(parts.collect()).unwrap_or(own)
    }

    /// Deterministic gates of evaluation.
    pub fn deterministic(&self) -> Vec<BlockGates<B>> {
        let ffn = gates::deterministic(self.ffn.val());
        let some = self.layout.iter().any(|block| block.heads > 0);
        let heads = some.then(|| gates::deterministic(self.heads.val()));
        let mut probabilities = self.probabilities().into_iter();
        self.blocks(|block, [_, hidden, head]| {
            let level = probabilities.next().map_or(0, |block| block.level());
            let open = level.checked_sub(1).map(|index| block.operations[index]);
            BlockGates {
                operation: OperationGates::Fixed(open.unwrap_or(block.least)),
                ffn: row_gates(Some(&ffn), hidden, block.hidden),
                heads: row_gates(heads.as_ref(), head, block.heads),
            }
        })
    }

    /// Probabilities `σ(θ)` of all gates, block by block.
    pub fn probabilities(&self) -> Vec<BlockProbabilities> {
        let [all, ffn, heads] = host(self.thresholds().map(sigmoid));
        self.blocks(|block, [operation, hidden, head]| BlockProbabilities {
            operations: all[operation..operation + block.operations.len()].to_vec(),
            ffn: ffn[hidden..hidden + block.hidden].to_vec(),
            heads: heads[head..head + block.heads].to_vec(),
        })
    }

    fn thresholds(&self) -> [Tensor<B, 1>; 3] {
        [&self.operations, &self.ffn, &self.heads].map(|param| param.val().detach())
    }

    /// Something for every block, given where its operations, hidden dimensions and heads begin.
    fn blocks<T>(&self, mut make: impl FnMut(&GateLayout, [usize; 3]) -> T) -> Vec<T> {
        let mut at = [0; 3];
        let block = |block: &GateLayout| {
            let made = make(block, at);
            at = [at[0] + block.operations.len(), at[1] + block.hidden, at[2] + block.heads];
            made
        };
        self.layout.iter().map(block).collect()
    }
}

impl<B: FusedOps> Gates<B> {
    /// Sampled gates of a training step (Eqs. 1 to 3), one draw per layer, shared by the batch.
    /// Reads the operation gates back to the host once.
    pub fn sample(&self, uniforms: &[BlockUniforms]) -> Vec<BlockGates<B>> {
        let own =
            self.operation_gates(uniforms).map_or_else(Vec::new, |own| host([own])[0].clone());
        let open: Vec<bool> = own.iter().map(|&gate| gate > 0.5).collect();
        self.sample_opened(uniforms, &open)
    }

    /// The sampled gates of the operations, block by block, 0 or 1; none where there are no such gates.
    pub fn operation_gates(&self, uniforms: &[BlockUniforms]) -> Option<Tensor<B, 1>> {
        let some = self.layout.iter().any(|block| !block.operations.is_empty());
        some.then(|| {
            gates::sample(self.operations.val(), self.drawn(uniforms, |block| &block.operations))
        })
    }

    fn drawn(
        &self,
        uniforms: &[BlockUniforms],
        part: fn(&BlockUniforms) -> &Vec<f32>,
    ) -> Tensor<B, 1> {
        let values: Vec<f32> =
            uniforms.iter().flat_map(|block| part(block).iter().copied()).collect();
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [count]), &self.ffn.device())
    }

    /// [`Gates::sample`] where it is known which of [`Gates::operation_gates`] are 1: nothing is read.
    ///
    /// # Panics
    /// If `open` is not one for each of them.
    pub fn sample_opened(&self, uniforms: &[BlockUniforms], open: &[bool]) -> Vec<BlockGates<B>> {
        let flat = |part: fn(&BlockUniforms) -> &Vec<f32>| self.drawn(uniforms, part);
        let own = gates::sample(self.operations.val(), flat(|block| &block.operations));
        let coefficients = self.by_block(own, |own, start| {
            let count = own.shape().num_elements();
            gates::coefficients(own, &open[start..start + count])
        });
        let ffn = gates::sample(self.ffn.val(), flat(|block| &block.ffn));
        let some = !uniforms.iter().all(|block| block.heads.is_empty());
        let heads = some.then(|| gates::sample(self.heads.val(), flat(|block| &block.heads)));
        self.blocks(|block, [operation, hidden, head]| {
            let (first, count) = (operation, block.operations.len());
            BlockGates {
                operation: match count {
                    0 => OperationGates::Fixed(block.least),
                    _ => OperationGates::Sampled {
                        coefficients: coefficients.clone(),
                        first,
                        open: open[first..first + count].to_vec(),
                        operations: block.operations.clone(),
                    },
                },
                ffn: row_gates(Some(&ffn), hidden, block.hidden),
                heads: row_gates(heads.as_ref(), head, block.heads),
            }
        })
    }

    /// Expected cumulative gates of the operations and expected gates of the FFNs (Eq. 12), laid
    /// out as the thresholds.
    pub fn expected(&self) -> (Tensor<B, 1>, Tensor<B, 1>) {
        let own = gates::expected(self.operations.val());
        (self.by_block(own, |own, _| gates::single_path(own)), gates::expected(self.ffn.val()))
    }
}

/// A block's gates among those of all.
fn row_gates<B: Backend>(
    all: Option<&Tensor<B, 1>>,
    first: usize,
    count: usize,
) -> Option<RowGates<B>> {
    all.filter(|_| count > 0).map(|all| RowGates::new(all.clone(), first, count))
}

/// A part of a tensor, which is no slice where it is the whole: on a device each costs a copy, and two
/// more in the backward pass.
pub(crate) fn within<B: Backend>(x: Tensor<B, 1>, start: usize, count: usize) -> Tensor<B, 1> {
    match x.dims() == [count] {
        true => x,
        false => x.narrow(0, start, count),
    }
}

/// Parts one after another, none of nothing.
pub(crate) fn joined<B: Backend>(mut parts: Vec<Tensor<B, 1>>) -> Option<Tensor<B, 1>> {
    match parts.len() {
        0 | 1 => parts.pop(),
        _ => Some(Tensor::cat(parts, 0)),
    }
}

/// Tensors' values on the host, read at once: each reading waits for the device.
fn host<B: Backend, const N: usize>(tensors: [Tensor<B, 1>; N]) -> [Vec<f32>; N] {
    let there = tensors.each_ref().map(|tensor| tensor.dims()[0] > 0);
    let some = tensors.into_iter().filter(|tensor| tensor.dims()[0] > 0);
    let all = some.fold(None, |all: Option<Transaction<B>>, tensor| {
        Some(all.unwrap_or_default().register(tensor))
    });
    let mut read = all.map_or_else(Vec::new, Transaction::execute).into_iter();
    there.map(|there| {
        let data = if there { read.next() } else { None };
        data.map_or_else(Vec::new, |data| data.iter().collect())
    })
}
