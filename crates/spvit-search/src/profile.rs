//! What every part of an architecture costs.

use spvit_layers::Operation;

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
    /// Heads of attention that were kept; `None` for all.
    pub heads: Option<usize>,
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
    /// Mergings between stages.
    pub merging: Cost,
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
        let tables = [paper, macs, CostTable::parameters(config)];
        let cost = |part: &dyn Fn(&CostTable) -> f64| {
            let [paper, macs, parameters] = tables.each_ref().map(|table| part(table) as u64);
            Cost { paper, macs, parameters }
        };
        let block = |(index, block): (usize, spvit_layers::BlockConfig)| {
            let part = |which: usize| {
                cost(&|table| {
                    let chosen = table.block(index, &block).unwrap_or_default();
                    chosen[which] + table.blocks[index].fixed[which]
                })
            };
            let (mixer, ffn) = (part(0), part(1));
            let spvit_layers::BlockConfig { operation, hidden, heads } = block;
            BlockProfile { operation, hidden, heads, mixer, ffn }
        };
        let blocks = architecture.block_configs().into_iter().enumerate().map(block).collect();
        Self {
            embedding: cost(&|table| table.embedding),
            blocks,
            merging: cost(&|table| table.merging),
            head: cost(&|table| table.head),
        }
    }

    /// The whole model.
    pub fn total(&self) -> Cost {
        let blocks = self.blocks.iter().map(BlockProfile::total);
        blocks.fold(self.embedding + self.merging + self.head, std::ops::Add::add)
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use spvit_layers::{Init, ModelConfig, Vit, state::parameter_count};

    use super::*;
    use crate::BlockArchitecture;

    #[test]
    fn sums_are_the_cost_tables_and_the_models() {
        let mut model = ModelConfig::preset("vit_mini").unwrap();
        model.space.kernels = vec![1, 3, 5];
        let operations = [
            Operation::Shortcut,
            Operation::BConv(1),
            Operation::BConv(3),
            Operation::BConv(5),
            Operation::Msa,
            Operation::Msa,
        ];
        let block = |(i, operation)| BlockArchitecture {
            operation,
            kept: (0..10 * i).collect(),
            heads: if i == 5 { vec![0, 2] } else { vec![] },
        };
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
