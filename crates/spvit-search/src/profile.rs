//! What every part of an architecture costs.

use spvit_layers::{Operation, VitConfig};

use crate::{Architecture, CostModel, CostTable};

/// The cost of one part of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// FLOPs by [`CostModel::Paper`].
    pub paper: u64,
    /// FLOPs by [`CostModel::Macs`].
    pub macs: u64,
    /// Trained values.
    pub parameters: u64,
}

/// The cost of one block: its operation and its FFN, each with the norm before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockProfile {
    /// What the attention layer became.
    pub operation: Operation,
    /// Hidden dimensions that were kept.
    pub hidden: usize,
    /// The operation's cost.
    pub mixer: Cost,
    /// The FFN's cost.
    pub ffn: Cost,
}

/// The costs of a whole model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Embedding of the patches, class token and positions.
    pub embedding: Cost,
    /// The blocks.
    pub blocks: Vec<BlockProfile>,
    /// Final norm and classifier.
    pub head: Cost,
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            paper: self.paper + other.paper,
            macs: self.macs + other.macs,
            parameters: self.parameters + other.parameters,
        }
    }
}

impl Cost {
    /// FLOPs by a cost model.
    pub fn flops(&self, model: CostModel) -> u64 {
        match model {
            CostModel::Paper => self.paper,
            CostModel::Macs => self.macs,
        }
    }
}

impl BlockProfile {
    /// Operation and FFN.
    pub fn total(&self) -> Cost {
        self.mixer + self.ffn
    }
}

impl Profile {
    /// The profile of an architecture whose blocks fit its model.
    pub fn new(architecture: &Architecture) -> Self {
        let config = &architecture.model;
        let [paper, macs] =
            [CostModel::Paper, CostModel::Macs].map(|model| CostTable::new(config, model));
        let [n, d, depth] = [config.patches(), config.dim, config.depth].map(|x| x as u64);
        let (classes, tokens) = (config.classes as u64, n + 1);
        let patch = (config.channels * config.patch_size.pow(2)) as u64;

        let head = Cost {
            paper: d * classes,
            macs: d + d * classes,
            parameters: 2 * d + (d + 1) * classes,
        };
        let embed = n * d * patch;
        let embedding =
            Cost { paper: embed, macs: embed, parameters: d * (patch + 1) + d + tokens * d };
        // What the tables call fixed is embedding, head, and norms, which belong to the blocks.
        let norms = |table: &CostTable, head: u64| (table.fixed - embed - head) / depth;
        let (paper_norms, macs_norm) = (norms(&paper, head.paper), norms(&macs, head.macs));
        let block = |(index, block): (usize, spvit_layers::BlockConfig)| {
            let [paper_mixer, paper_ffn] = paper.block(index, &block).unwrap_or_default();
            let [macs_mixer, macs_ffn] = macs.block(index, &block).unwrap_or_default();
            let hidden = block.hidden as u64;
            BlockProfile {
                operation: block.operation,
                hidden: block.hidden,
                mixer: Cost {
                    paper: paper_mixer + paper_norms / 2,
                    macs: macs_mixer,
                    parameters: 2 * d + operation_parameters(config, block.operation),
                },
                ffn: Cost {
                    paper: paper_ffn + paper_norms / 2,
                    macs: macs_ffn + macs_norm,
                    parameters: 2 * d + 2 * d * hidden + hidden + d,
                },
            }
        };
        let blocks = architecture.block_configs().into_iter().enumerate().map(block).collect();
        Self { embedding, blocks, head }
    }

    /// The whole model.
    pub fn total(&self) -> Cost {
        let blocks = self.blocks.iter().map(BlockProfile::total);
        blocks.fold(self.embedding + self.head, std::ops::Add::add)
    }
}

fn operation_parameters(config: &VitConfig, operation: Operation) -> u64 {
    let [d, h] = [config.dim, config.head_dim()].map(|x| x as u64);
    match operation {
        Operation::Shortcut => 0,
        // Convolution, batch norm, projection.
        Operation::BConv(k) => (d * (k * k) as u64 + 1) * h + 2 * h + (h + 1) * d,
        Operation::Msa => 4 * d * (d + 1),
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use spvit_layers::{Init, Vit, state::parameter_count};

    use super::*;
    use crate::BlockArchitecture;

    #[test]
    fn sums_are_the_cost_tables_and_the_models() {
        let mut model = VitConfig::preset("vit_mini").unwrap();
        model.kernels = vec![1, 3, 5];
        let operations = [
            Operation::Shortcut,
            Operation::BConv(1),
            Operation::BConv(3),
            Operation::BConv(5),
            Operation::Msa,
            Operation::Msa,
        ];
        let block =
            |(i, operation)| BlockArchitecture { operation, kept: (0..10 * i + 1).collect() };
        let blocks = operations.into_iter().enumerate().map(block).collect();
        let mixed = Architecture::new(model.clone(), CostModel::Paper, blocks, None);
        for architecture in [mixed, Architecture::dense(model, CostModel::Macs)] {
            let total = Profile::new(&architecture).total();
            for model in [CostModel::Paper, CostModel::Macs] {
                assert_eq!(total.flops(model), architecture.flops_by(model), "{model}");
            }
            let mut init = Init::<Flex>::new(0, &Default::default());
            let vit = Vit::new(&architecture.model, &architecture.block_configs(), &mut init);
            assert_eq!(total.parameters, parameter_count(&vit) as u64);
        }
    }
}
