//! One attention layer, or the convolution in its place, over a map of patches.

use burn::module::AutodiffModule;
use burn::tensor::{Distribution, Tensor};
use spvit_core::TrainBackend;
use spvit_layers::{BlockShape, BottleneckConv, Init, Mode, Msa, Operation, TrainContext};

/// A layer and its input, `[batch, 1 + patches, dim]`.
pub struct LayerLoad<B: TrainBackend> {
    layer: Layer<B>,
    x: Tensor<B, 3>,
    device: B::Device,
}

// There is one of them.
#[allow(clippy::large_enum_variant)]
enum Layer<B: TrainBackend> {
    Msa(Msa<B>),
    BConv(BottleneckConv<B>),
}

impl<B: TrainBackend> LayerLoad<B> {
    /// A fresh layer and random tokens; `None` for a shortcut, which computes nothing.
    pub fn new(
        block: &BlockShape,
        operation: Operation,
        batch: usize,
        device: &B::Device,
    ) -> Option<Self> {
        let mut init = Init::new(0, device);
        let shape = [batch, block.tokens(), block.dim];
        let layer = match operation {
            Operation::BConv(kernel) => Layer::BConv(BottleneckConv::new(block, kernel, &mut init)),
            Operation::Msa => Layer::Msa(Msa::new(block, &mut init)),
            Operation::Shortcut => return None,
        };
        let x = Tensor::random(shape, Distribution::Normal(0.0, 1.0), device).require_grad();
        Some(Self { layer, x, device: device.clone() })
    }

    /// A forward pass without a graph.
    pub fn forward(&self) {
        let x = self.x.clone().inner();
        let y = match &self.layer {
            Layer::Msa(msa) => msa.valid().forward(x),
            Layer::BConv(bconv) => bconv.valid().forward(x, &Mode::Evaluate),
        };
        drop(y.into_data());
    }

    /// A forward and a backward pass.
    pub fn train(&self) {
        let context = TrainContext::new();
        let y = match &self.layer {
            Layer::Msa(msa) => msa.forward(self.x.clone()),
            Layer::BConv(bconv) => bconv.forward(self.x.clone(), &Mode::Train(&context)),
        };
        drop(y.sum().backward());
        let _ = B::sync(&self.device);
    }
}
