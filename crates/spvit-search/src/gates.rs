//! The thresholds.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData, activation::sigmoid, backend::Backend};
use spvit_core::gates;
use spvit_layers::{BlockGates, Operation, OperationGates, VitConfig};

/// Uniform draws of one block in one step, each in `(0, 1)`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockUniforms {
    /// One for each gated operation.
    pub operations: Vec<f32>,
    /// One for each hidden dimension of the FFN.
    pub ffn: Vec<f32>,
}

/// Gate probabilities `σ(θ)` of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockProbabilities {
    /// Of each gated operation, cheapest first.
    pub operations: Vec<f32>,
    /// Of each hidden dimension of the FFN.
    pub ffn: Vec<f32>,
}

/// Thresholds θ of every gate of a model.
///
/// They lie in two tensors, so that sampling all gates of a model is a handful of operations.
#[derive(Module, Debug)]
pub struct Gates<B: Backend> {
    /// `[blocks, operations]`, cheapest operation first.
    pub operations: Param<Tensor<B, 2>>,
    /// `[blocks·hidden]`, block by block.
    pub ffn: Param<Tensor<B, 1>>,
    #[module(skip)]
    choices: Vec<Operation>,
}

impl<B: Backend> Gates<B> {
    /// Every threshold at `start` (1.5 in the paper: σ = 0.818).
    pub fn new(config: &VitConfig, start: f64, device: &B::Device) -> Self {
        let choices = config.operations();
        let filled = |count: usize| vec![start as f32; count];
        let operations = filled(config.depth * choices.len());
        let ffn = filled(config.depth * config.hidden);
        let shape = [config.depth, choices.len()];
        Self {
            operations: Param::from_data(TensorData::new(operations, shape), device),
            ffn: Param::from_data(TensorData::new(ffn, [config.depth * config.hidden]), device),
            choices,
        }
    }

    /// Number of blocks and of gated operations of each.
    fn layout(&self) -> [usize; 3] {
        let [blocks, operations] = self.operations.dims();
        [blocks, operations, self.ffn.dims()[0] / blocks.max(1)]
    }

    /// Number of uniform draws of a block: for operations and for its FFN.
    pub fn draws(&self) -> [usize; 2] {
        let [_, operations, hidden] = self.layout();
        [operations, hidden]
    }

    /// Sampled gates of a training step (Eqs. 1 to 3), one draw per layer, shared by the batch.
    /// Reads the operation gates back to the host once.
    pub fn sample(&self, uniforms: &[BlockUniforms]) -> Vec<BlockGates<B>> {
        let [blocks, operations, hidden] = self.layout();
        let device = self.ffn.device();
        let upload = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<B, 1>::from_data(TensorData::new(values, [count]), &device)
        };
        let flat = |part: fn(&BlockUniforms) -> &Vec<f32>| {
            upload(uniforms.iter().flat_map(|block| part(block).iter().copied()).collect())
        };
        let theta = self.operations.val().reshape([blocks * operations]);
        let own = gates::sample(theta, flat(|block| &block.operations));
        let open: Vec<bool> = host(own.clone()).into_iter().map(|gate| gate > 0.5).collect();
        let coefficients = gates::coefficients(own.reshape([blocks, operations]));
        let ffn = gates::sample(self.ffn.val(), flat(|block| &block.ffn));
        (0..blocks)
            .map(|block| BlockGates {
                operation: OperationGates::Sampled {
                    coefficients: coefficients.clone().narrow(0, block, 1).squeeze_dim(0),
                    open: open[block * operations..(block + 1) * operations].to_vec(),
                },
                ffn: Some(ffn.clone().narrow(0, block * hidden, hidden)),
            })
            .collect()
    }

    /// Deterministic gates of evaluation.
    pub fn deterministic(&self) -> Vec<BlockGates<B>> {
        let [blocks, _, hidden] = self.layout();
        let ffn = gates::deterministic(self.ffn.val());
        let probabilities = self.probabilities();
        (0..blocks)
            .map(|block| {
                let own = &probabilities[block].operations;
                let level = own.iter().take_while(|&&p| p > 0.5).count();
                let operation = match level.checked_sub(1) {
                    Some(index) => self.choices[index],
                    None => Operation::Shortcut,
                };
                BlockGates {
                    operation: OperationGates::Fixed(operation),
                    ffn: Some(ffn.clone().narrow(0, block * hidden, hidden)),
                }
            })
            .collect()
    }

    /// Expected cumulative gates of the operations, `[blocks, operations]`, and expected gates of
    /// the FFNs, `[blocks·hidden]` (Eq. 12).
    pub fn expected(&self) -> (Tensor<B, 2>, Tensor<B, 1>) {
        let [blocks, operations, _] = self.layout();
        let theta = self.operations.val().reshape([blocks * operations]);
        let own = gates::expected(theta).reshape([blocks, operations]);
        (gates::single_path(own), gates::expected(self.ffn.val()))
    }

    /// Probabilities `σ(θ)` of all gates, block by block.
    pub fn probabilities(&self) -> Vec<BlockProbabilities> {
        let [blocks, operations, hidden] = self.layout();
        let all = host(sigmoid(self.operations.val().detach()).reshape([blocks * operations]));
        let ffn = host(sigmoid(self.ffn.val().detach()));
        (0..blocks)
            .map(|block| BlockProbabilities {
                operations: all[block * operations..(block + 1) * operations].to_vec(),
                ffn: ffn[block * hidden..(block + 1) * hidden].to_vec(),
            })
            .collect()
    }
}

/// A tensor's values on the host.
fn host<B: Backend>(tensor: Tensor<B, 1>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
