//! FLOPs of every choice. FLOPs are multiply-adds counted once, as in the paper.

mod swin;

pub use swin::SwinShape;

use burn::tensor::{Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};
use spvit_layers::{BlockConfig, Operation, VitConfig};

/// How FLOPs are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CostModel {
    /// Eq. 14, to the last multiply-add of the published code: FFNs and convolutions count N
    /// tokens, attention N + 1, and the final norm is left out.
    Paper,
    /// A true count of the compact model: every product of a matrix or convolution (padding
    /// counted), and one multiply-add per element of a normalisation.
    Macs,
}

impl std::fmt::Display for CostModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Paper => "paper",
            Self::Macs => "macs",
        })
    }
}

/// FLOPs of the choices of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockCost {
    /// Of the shortcut, every kernel and MSA, in order of [`VitConfig::operations`].
    pub operations: Vec<u64>,
    /// Of one hidden dimension of the FFN.
    pub hidden_dimension: u64,
}

/// FLOPs of every choice of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostTable {
    /// What no choice changes: embedding, norms, head.
    pub fixed: u64,
    /// The blocks.
    pub blocks: Vec<BlockCost>,
    choices: Vec<Operation>,
}

impl CostTable {
    /// The table of a model's shape.
    pub fn new(config: &VitConfig, model: CostModel) -> Self {
        let [n, d, h] = [config.patches(), config.dim, config.head_dim()].map(|x| x as u64);
        let (classes, depth) = (config.classes as u64, config.depth as u64);
        let patch = (config.channels * config.patch_size.pow(2)) as u64;
        let t = n + 1;
        let embed = n * d * patch;
        let kernels = config.kernels.iter().map(|&k| (k * k) as u64);
        let attention = 4 * t * d * d + 2 * d * t * t;
        let (fixed, operations, hidden_dimension): (u64, Vec<u64>, u64) = match model {
            CostModel::Paper => {
                let convolutions = kernels.map(|area| (area + 1) * d * h * n);
                let operations = [0].into_iter().chain(convolutions).chain([attention]);
                (embed + d * classes + depth * 2 * d * t, operations.collect(), 2 * n * d)
            }
            CostModel::Macs => {
                // norm1 belongs to the operation: a shortcut needs none.
                let norm = d * t;
                let convolutions = kernels.map(|area| norm + (area + 1) * d * h * n + h * n);
                let operations = [0].into_iter().chain(convolutions).chain([norm + attention]);
                let fixed = embed + d + d * classes + depth * norm;
                (fixed, operations.collect(), 2 * t * d)
            }
        };
        let block = BlockCost { operations, hidden_dimension };
        Self { fixed, blocks: vec![block; config.depth], choices: config.operations() }
    }

    /// Index of an operation in [`BlockCost::operations`]; `None` if the model's configuration
    /// does not list it.
    pub fn level(&self, operation: Operation) -> Option<usize> {
        match operation {
            Operation::Shortcut => Some(0),
            _ => self.choices.iter().position(|&choice| choice == operation).map(|i| i + 1),
        }
    }

    /// The operation at an index of [`BlockCost::operations`].
    pub fn operation(&self, level: usize) -> Operation {
        match level.checked_sub(1) {
            Some(index) => self.choices[index],
            None => Operation::Shortcut,
        }
    }

    /// FLOPs of one block, without the norms in [`CostTable::fixed`]: operation and FFN. `None`
    /// for an operation that the table does not have.
    pub fn block(&self, index: usize, block: &BlockConfig) -> Option<[u64; 2]> {
        let cost = self.blocks.get(index)?;
        let operation = *cost.operations.get(self.level(block.operation)?)?;
        Some([operation, cost.hidden_dimension * block.hidden as u64])
    }

    /// FLOPs of a whole compact model; `None` if a block has an operation that the table lacks.
    pub fn total(&self, blocks: &[BlockConfig]) -> Option<u64> {
        let parts = blocks
            .iter()
            .enumerate()
            .map(|(i, block)| self.block(i, block).map(|[operation, ffn]| operation + ffn));
        parts.sum::<Option<u64>>().map(|sum| sum + self.fixed)
    }

    /// FLOPs at the expected gates, divided by `unit`, with the gradient of Eq. 12.
    ///
    /// # Shapes
    /// - operations: cumulative gates `[blocks, operations]`, ffn: `[blocks·hidden]`, output: `[1]`.
    pub fn expected<B: Backend>(
        &self,
        operations: Tensor<B, 2>,
        ffn: Tensor<B, 1>,
        unit: f64,
    ) -> Tensor<B, 1> {
        let [blocks, choices] = operations.dims();
        let hidden = ffn.dims()[0] / blocks.max(1);
        let device = ffn.device();
        let scaled = |flops: u64| (flops as f64 / unit) as f32;
        let steps = self.blocks.iter().flat_map(|block| {
            block.operations.windows(2).map(move |pair| scaled(pair[1] - pair[0]))
        });
        let steps = TensorData::new(steps.collect::<Vec<_>>(), [blocks, choices]);
        // Gates are 0 or 1, so that counting them first is exact in float32, and what is left is a
        // sum of few terms: the budget term squares its small difference to the target.
        let counts = ffn.reshape([blocks, hidden]).sum_dim(1).reshape([blocks]);
        let dims = self.blocks.iter().map(|block| scaled(block.hidden_dimension));
        let dims = TensorData::new(dims.collect::<Vec<_>>(), [blocks]);
        (operations * Tensor::from_data(steps, &device)).sum()
            + (counts * Tensor::from_data(dims, &device)).sum()
            + f64::from(scaled(self.fixed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A convolution's cost must not fall below a smaller one's, nor attention's below any: the
    /// single path orders operations by cost.
    #[test]
    fn presets_order_operations_by_cost() {
        for (name, _) in spvit_layers::PRESETS {
            let config = VitConfig::preset(name).unwrap();
            for model in [CostModel::Paper, CostModel::Macs] {
                let table = CostTable::new(&config, model);
                assert!(table.blocks[0].operations.is_sorted(), "{name} {model}");
            }
        }
    }
}
