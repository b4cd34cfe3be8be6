//! What a search gives to everything later.

use serde::{Deserialize, Serialize};
use spvit_layers::{BlockConfig, BlockShape, ConfigError, ModelConfig, Operation};

use crate::{
    Budget, CostModel, CostTable,
    json::{lines, with_lines},
    sighted,
};

/// One block of an architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockArchitecture {
    /// What the attention layer becomes.
    pub operation: Operation,
    /// Indices of the kept hidden dimensions of the FFN, ascending.
    pub kept: Vec<usize>,
    /// Indices of the kept heads of attention, ascending; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<usize>,
}

impl BlockArchitecture {
    /// A block of a compact model whose FFN has kept its first dimensions, and attention its first
    /// heads.
    pub fn first(block: &BlockConfig) -> Self {
        Self {
            operation: block.operation,
            kept: (0..block.hidden).collect(),
            heads: block.heads.map_or_else(Vec::new, |heads| (0..heads).collect()),
        }
    }
}

/// A searched architecture, in a file that a person can read and edit: the figures are computed
/// anew when it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Shape of the dense model.
    pub model: ModelConfig,
    /// How FLOPs are counted.
    pub cost_model: CostModel,
    /// The budget that it was derived for, in FLOPs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_flops: Option<u64>,
    /// The budget that it was derived for, in parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_parameters: Option<u64>,
    /// The budget that it was derived for, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_milliseconds: Option<f64>,
    /// FLOPs (multiply-adds counted once) by `cost_model`.
    #[serde(default)]
    pub flops: u64,
    /// FLOPs of the dense model by `cost_model`.
    #[serde(default)]
    pub dense_flops: u64,
    /// The blocks.
    pub blocks: Vec<BlockArchitecture>,
}

/// An architecture that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchitectureError {
    /// Not JSON of the expected form.
    #[error("not an architecture: {0}")]
    Json(#[from] serde_json::Error),
    /// A block that is not of the expected form.
    #[error("{place}: {source}")]
    Block {
        /// Block and, where it can be told, field.
        place: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The model's shape is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Not one block for each of the model's.
    #[error("{found} blocks, but the model has {expected}")]
    Depth {
        /// Blocks of the model.
        expected: usize,
        /// Blocks in the file.
        found: usize,
    },
    /// An operation that the model does not list.
    #[error("blocks[{block}].operation is {operation}, which model.kernels does not list")]
    Operation {
        /// Index of the block.
        block: usize,
        /// The operation.
        operation: Operation,
    },
    /// Another operation than attention where it stays as it is.
    #[error(
        "blocks[{block}].operation is {operation}, but with model.attn_norm attention has no other \
         form; set it to msa"
    )]
    Attention {
        /// Index of the block.
        block: usize,
        /// The operation.
        operation: Operation,
    },
    /// Kept heads that are not ascending indices of attention's.
    #[error(
        "blocks[{block}].heads must hold ascending indices below attention's {heads} heads, and none \
         where the operation is not msa; {problem}"
    )]
    Heads {
        /// Index of the block.
        block: usize,
        /// Heads of the dense attention.
        heads: usize,
        /// What is wrong.
        problem: String,
    },
    /// Kept dimensions that are not ascending indices of the FFN.
    #[error(
        "blocks[{block}].kept must hold ascending indices below the FFN's {hidden} hidden \
         dimensions; {problem}"
    )]
    Kept {
        /// Index of the block.
        block: usize,
        /// Hidden dimensions of the dense FFN.
        hidden: usize,
        /// What is wrong.
        problem: String,
    },
}

impl Architecture {
    /// An architecture with its figures. The blocks must fit the model; see
    /// [`Architecture::from_json`] for a checked way in.
    pub fn new(
        model: ModelConfig,
        cost_model: CostModel,
        blocks: Vec<BlockArchitecture>,
        target_flops: Option<u64>,
    ) -> Self {
        let (target_parameters, target_milliseconds) = (None, None);
        let mut architecture = Self {
            model,
            cost_model,
            target_flops,
            target_parameters,
            target_milliseconds,
            flops: 0,
            dense_flops: 0,
            blocks,
        };
        architecture.compute_figures();
        architecture
    }

    /// The dense model as an architecture: attention everywhere, whole FFNs.
    pub fn dense(model: ModelConfig, cost_model: CostModel) -> Self {
        let block = |shape: &BlockShape| BlockArchitecture {
            operation: Operation::Msa,
            kept: (0..shape.hidden).collect(),
            heads: Vec::new(),
        };
        let blocks = model.blocks().iter().map(block).collect();
        Self::new(model, cost_model, blocks, None)
    }

    /// The same with another block in the place of one, which must fit the model.
    pub fn with_block(mut self, index: usize, block: BlockArchitecture) -> Self {
        self.blocks[index] = block;
        self.compute_figures();
        self
    }

    fn compute_figures(&mut self) {
        self.flops = self.flops_by(self.cost_model);
        self.dense_flops = CostTable::new(&self.model, self.cost_model).dense() as u64;
    }

    /// FLOPs by either cost model; [`u64::MAX`] if the blocks do not fit the model.
    pub fn flops_by(&self, cost_model: CostModel) -> u64 {
        self.cost(&CostTable::new(&self.model, cost_model)).map_or(u64::MAX, |cost| cost as u64)
    }

    /// The budgets that it was derived for, in the order of their units; none, if it was not.
    pub fn budgets(&self) -> Vec<Budget> {
        let flops = self.target_flops.map(Budget::flops);
        let parameters = self.target_parameters.map(Budget::parameters);
        let times = self.target_milliseconds.map(Budget::milliseconds);
        flops.into_iter().chain(parameters).chain(times).collect()
    }

    /// A line where the classifier sees nothing, or not all, of what the blocks make of an image.
    pub fn blind(&self) -> Option<&'static str> {
        let operations = self.blocks.iter().map(|block| block.operation);
        (self.model.sees_by_attention() && !sighted(operations)).then_some(
            "the classifier looks at the class token, which no attention after the last convolution \
             tells of the image; set a later block's operation to msa",
        )
    }

    /// Cost by a table of the model; `None` if the blocks do not fit it.
    pub fn cost(&self, table: &CostTable) -> Option<f64> {
        table.total(&self.block_configs())
    }

    /// The blocks of the compact model.
    pub fn block_configs(&self) -> Vec<BlockConfig> {
        let config = |block: &BlockArchitecture| BlockConfig {
            operation: block.operation,
            hidden: block.kept.len(),
            heads: (!block.heads.is_empty()).then_some(block.heads.len()),
        };
        self.blocks.iter().map(config).collect()
    }

    /// JSON with one line for each block.
    ///
    /// # Errors
    /// [`ArchitectureError::Json`] if a number has no JSON form.
    pub fn to_json(&self) -> Result<String, ArchitectureError> {
        Ok(with_lines(self, &[("blocks", lines(&self.blocks)?)])?)
    }

    /// Reads an architecture and computes its figures.
    ///
    /// # Errors
    /// [`ArchitectureError`], naming the block and field.
    pub fn from_json(text: &str) -> Result<Self, ArchitectureError> {
        let mut architecture: Self = serde_json::from_str(text)
            .map_err(|error| faulty_block(text).unwrap_or(ArchitectureError::Json(error)))?;
        architecture.validate()?;
        architecture.compute_figures();
        Ok(architecture)
    }

    /// Checks that the blocks fit the model.
    ///
    /// # Errors
    /// [`ArchitectureError`], naming the block and field.
    pub fn validate(&self) -> Result<(), ArchitectureError> {
        self.model.validate()?;
        let shapes = self.model.blocks();
        if self.blocks.len() != shapes.len() {
            let (expected, found) = (shapes.len(), self.blocks.len());
            return Err(ArchitectureError::Depth { expected, found });
        }
        for (block, (own, shape)) in self.blocks.iter().zip(&shapes).enumerate() {
            let BlockArchitecture { operation, kept, heads } = own;
            let hidden = shape.hidden;
            if let Operation::BConv(k) = operation
                && !self.model.space.kernels.contains(k)
            {
                return Err(ArchitectureError::Operation { block, operation: *operation });
            }
            if *operation != Operation::Msa && !shape.searches_attention() {
                return Err(ArchitectureError::Attention { block, operation: *operation });
            }
            let problem = if let Some(pair) = heads.windows(2).find(|pair| pair[0] >= pair[1]) {
                Some(format!("{} follows {}", pair[1], pair[0]))
            } else if let Some(&last) = heads.last().filter(|&&last| last >= shape.heads) {
                Some(format!("{last} is too large"))
            } else if *operation != Operation::Msa && !heads.is_empty() {
                Some(format!("the operation is {operation}"))
            } else if !heads.is_empty() && !shape.searches_attention() {
                Some("with model.attn_norm all of them are kept".into())
            } else {
                None
            };
            if let Some(problem) = problem {
                return Err(ArchitectureError::Heads { block, heads: shape.heads, problem });
            }
            let problem = if let Some(pair) = kept.windows(2).find(|pair| pair[0] >= pair[1]) {
                format!("{} follows {}", pair[1], pair[0])
            } else if let Some(&last) = kept.last().filter(|&&last| last >= hidden) {
                format!("{last} is too large")
            } else if kept.len() < hidden && !shape.searches_ffn() {
                "with model.mlp_norm all of them are kept".into()
            } else {
                continue;
            };
            return Err(ArchitectureError::Kept { block, hidden, problem });
        }
        Ok(())
    }
}

/// The first block that is not of the expected form: serde_json itself names lines, not places.
fn faulty_block(text: &str) -> Option<ArchitectureError> {
    let file: serde_json::Value = serde_json::from_str(text).ok()?;
    file.get("blocks")?.as_array()?.iter().enumerate().find_map(|(i, block)| {
        let operation = block.get("operation").and_then(|v| Operation::deserialize(v).err());
        let kept = block.get("kept").and_then(|v| Vec::<usize>::deserialize(v).err());
        let whole = BlockArchitecture::deserialize(block).err();
        let heads = block.get("heads").and_then(|v| Vec::<usize>::deserialize(v).err());
        let faults = [(".operation", operation), (".kept", kept), (".heads", heads), ("", whole)];
        let (field, source) = faults.into_iter().find_map(|(field, e)| Some((field, e?)))?;
        Some(ArchitectureError::Block { place: format!("blocks[{i}]{field}"), source })
    })
}
