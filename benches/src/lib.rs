//! What the benchmarks measure: training steps and forward passes of whole models.

mod layer;

use burn::module::AutodiffModule;
use burn::tensor::{Distribution, Tensor, TensorData, activation::log_softmax};
use spvit_core::{FusedOps, TrainBackend};
use spvit_layers::{Init, Mode, Operation, SearchVit, TrainContext, Vit, VitConfig};
use spvit_search::{
    Architecture, BlockArchitecture, BudgetTerm, CostModel, CostTable, Gates, expand, prune,
};
use spvit_train::{
    optim::{AdamW, AdamWConfig, Gradients},
    random::gate_uniforms,
};

pub use layer::LayerLoad;

/// The released DeiT-Ti architecture's mix of operations, shortened or lengthened to a depth: two
/// cheap convolutions first, attention in the middle, convolutions of both sizes at the end.
pub fn mixed_architecture(config: &VitConfig) -> Architecture {
    let block = |index: usize| {
        let operation = match index * 6 / config.depth {
            0 => Operation::BConv(1),
            1 | 4 => Operation::BConv(3),
            5 => Operation::Shortcut,
            _ => Operation::Msa,
        };
        BlockArchitecture { operation, kept: (0..config.hidden * 5 / 8).collect() }
    };
    let blocks = (0..config.depth).map(block).collect();
    Architecture::new(config.clone(), CostModel::Macs, blocks, None)
}

/// Models of one shape with their optimisers, and a batch.
pub struct Workload<B: TrainBackend> {
    /// Shape of the models.
    pub config: VitConfig,
    /// Images of a batch.
    pub batch: usize,
    device: B::Device,
    images: Tensor<B, 4>,
    dense: Vit<B>,
    search: SearchVit<B>,
    compact: Vit<B>,
    gates: Gates<B>,
    budget: BudgetTerm,
    // Of the dense, search and compact weights, and of the thresholds.
    optimisers: [AdamW<B::InnerBackend>; 4],
    step: u64,
}

impl<B: TrainBackend> Workload<B> {
    /// Fresh models and random images.
    pub fn new(config: VitConfig, batch: usize, device: &B::Device) -> Self {
        let mut init = Init::<B>::new(0, device);
        let dense = Vit::new(&config, &config.dense_blocks(), &mut init);
        let search = expand(&dense, &config, &mut init);
        let compact = prune(&search, &mixed_architecture(&config));
        let [height, width] = config.image_size;
        let table = CostTable::new(&config, CostModel::Paper);
        let full = table.total(&config.dense_blocks()).unwrap_or_default() as f64;
        let shape = [batch, config.channels, height, width];
        Self {
            images: Tensor::random(shape, Distribution::Normal(0.0, 1.0), device),
            gates: Gates::new(&config, 1.5, device),
            budget: BudgetTerm { table, target: 0.6 * full, lambda: 30.0, unit: full },
            optimisers: [0.05, 0.05, 0.05, 0.0].map(|decay| AdamW::new(AdamWConfig::new(decay))),
            device: device.clone(),
            step: 0,
            config,
            batch,
            dense,
            search,
            compact,
        }
    }

    fn loss(&self, logits: Tensor<B, 2>) -> Tensor<B, 1> {
        let classes = logits.dims()[1];
        let targets: Vec<f32> = (0..self.batch * classes)
            .map(|i| if i % classes == (i / classes) % classes { 1.0 } else { 0.0 })
            .collect();
        let targets = TensorData::new(targets, [self.batch, classes]);
        let targets = Tensor::from_data(targets, &self.device);
        (log_softmax(logits, 1) * targets).sum() / -(self.batch as f64)
    }

    /// Forward, backward and AdamW of the dense model.
    pub fn dense_step(&mut self) {
        let context = TrainContext::new();
        let loss = self.loss(self.dense.forward(self.images.clone(), &Mode::Train(&context)));
        let mut gradients = loss.backward();
        let gradients = Gradients::of::<B, _>(&self.dense, &mut gradients);
        self.dense = self.optimisers[0].step::<B, _>(self.dense.clone(), &gradients, 1e-4);
        self.finish();
    }

    /// The same of a compact model.
    pub fn finetune_step(&mut self) {
        let context = TrainContext::new();
        let loss = self.loss(self.compact.forward(self.images.clone(), &Mode::Train(&context)));
        let mut gradients = loss.backward();
        let gradients = Gradients::of::<B, _>(&self.compact, &mut gradients);
        self.compact = self.optimisers[2].step::<B, _>(self.compact.clone(), &gradients, 1e-4);
        self.finish();
    }

    /// A search step with fresh gates: forward, one backward, both optimisers.
    pub fn search_step(&mut self) {
        let context = TrainContext::new();
        let draws = self.gates.draws();
        let uniforms = gate_uniforms(0, self.step, self.config.depth, draws);
        self.step += 1;
        let sampled = self.gates.sample(&uniforms);
        let logits = self.search.forward(self.images.clone(), &sampled, &Mode::Train(&context));
        let loss = self.loss(logits) + self.budget.loss(&self.gates);
        let mut gradients = loss.backward();
        let for_weights = Gradients::of::<B, _>(&self.search, &mut gradients);
        let for_gates = Gradients::of::<B, _>(&self.gates, &mut gradients);
        self.search = self.optimisers[1].step::<B, _>(self.search.clone(), &for_weights, 1e-4);
        // A rate of 0 leaves the share of open gates as it is at the start of a search.
        self.gates = self.optimisers[3].step::<B, _>(self.gates.clone(), &for_gates, 0.0);
        self.finish();
    }

    /// Evaluation of the dense model, to the logits on the host.
    pub fn dense_forward(&self) -> f32 {
        forward(&self.dense.valid(), self.images.clone().inner())
    }

    /// Evaluation of the compact model.
    pub fn compact_forward(&self) -> f32 {
        forward(&self.compact.valid(), self.images.clone().inner())
    }

    /// Share of the dense model's FLOPs (by the `macs` model) that the compact one has.
    pub fn compact_share(&self) -> f64 {
        let architecture = mixed_architecture(&self.config);
        architecture.flops as f64 / architecture.dense_flops as f64
    }

    /// Waits for the device.
    fn finish(&self) {
        let _ = B::sync(&self.device);
    }
}

fn forward<B: FusedOps>(model: &Vit<B>, images: Tensor<B, 4>) -> f32 {
    model.forward(images, &Mode::Evaluate).into_data().iter::<f32>().sum()
}
