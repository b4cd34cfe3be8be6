//! What the benchmarks measure: training steps and forward passes of whole models.

mod layer;
#[cfg(feature = "wgpu")]
mod trace;

use burn::module::AutodiffModule;
use burn::tensor::{Distribution, Tensor};
use spvit_core::{FusedOps, Precision, TrainBackend};
use spvit_data::Batch;
use spvit_layers::{Init, Mode, ModelConfig, Operation, Vit};
use spvit_search::{
    Architecture, BlockArchitecture, Budget, BudgetTerm, CostModel, CostTable, Gates, expand, prune,
};
use spvit_train::{
    Classification, Devices, SearchObjective, Searched, Uniforms,
    step::{Group, Replicas, StepOptions},
};

pub use layer::LayerLoad;
#[cfg(feature = "wgpu")]
pub use trace::traced;

/// The released DeiT-Ti architecture's mix of operations, shortened or lengthened to a depth: two
/// cheap convolutions first, attention in the middle, convolutions of both sizes at the end.
pub fn mixed_architecture(config: &ModelConfig) -> Architecture {
    let shapes = config.blocks();
    let block = |index: usize| {
        let operation = match index * 6 / shapes.len() {
            0 => Operation::BConv(1),
            1 | 4 => Operation::BConv(3),
            5 => Operation::Shortcut,
            _ => Operation::Msa,
        };
        BlockArchitecture {
            operation,
            kept: (0..shapes[index].hidden * 5 / 8).collect(),
            heads: vec![],
        }
    };
    let blocks = (0..shapes.len()).map(block).collect();
    Architecture::new(config.clone(), CostModel::Macs, blocks, None)
}

/// Why no step of these fails.
const ONE: &str = "one device exchanges nothing";

/// Models of one shape in training, and a batch. A step is the one that `spvit` takes, from the batch
/// on the host to the last parameter.
pub struct Workload<B: TrainBackend> {
    /// Shape of the models.
    pub config: ModelConfig,
    batch: Batch,
    images: Tensor<B::InnerBackend, 4>,
    dense: Replicas<B, Classification<B>>,
    search: Replicas<B, SearchObjective>,
    compact: Replicas<B, Classification<B>>,
    device: B::Device,
    number: u64,
}

impl<B: TrainBackend> Workload<B> {
    /// Fresh models and random images; products of training steps have factors of this type.
    pub fn new(
        config: ModelConfig,
        batch: usize,
        precision: Precision,
        device: &B::Device,
    ) -> Self {
        let mut init = Init::<B>::new(0, device);
        let dense = Vit::new(&config, &config.dense_blocks(), &mut init);
        let search = expand(&dense, &config, &mut init);
        let compact = prune(&search, &mixed_architecture(&config));
        let table = CostTable::new(&config, CostModel::Paper);
        let gates = Gates::new(&table, 1.5, device);
        let full = table.dense();
        let budget = Budget::flops((0.6 * full) as u64);
        let budget = BudgetTerm { table, budget, lambda: 30.0, scale: full };
        let depth = config.depth();
        let options = StepOptions { depth, precision, ..StepOptions::default() };
        let classify = |model: Vit<B>| {
            let objective = Classification { teacher: None };
            Replicas::new(objective, model, [Group::new(0.05)], options, &Devices::one(device))
        };
        let objective = SearchObjective::new(vec![budget], Uniforms::Seeded);
        let groups = [Group::new(0.05), Group::new(0.0)];
        let searched = Searched { model: search, gates };
        let [height, width] = config.image_size();
        let shape = [batch, config.channels(), height, width];
        let images = Tensor::random(shape, Distribution::Normal(0.0, 1.0), device);
        let batch = on_host(&images, config.classes());
        Self {
            images,
            dense: classify(dense),
            search: Replicas::new(objective, searched, groups, options, &Devices::one(device)),
            compact: classify(compact),
            device: device.clone(),
            number: 0,
            config,
            batch,
        }
    }

    /// A step of the dense model.
    pub fn dense_step(&mut self) {
        self.dense.step(&self.batch, 0, &[1e-4]).expect(ONE);
        self.finish();
    }

    /// A step of a compact model.
    pub fn finetune_step(&mut self) {
        self.compact.step(&self.batch, 0, &[1e-4]).expect(ONE);
        self.finish();
    }

    /// A search step with fresh gates.
    pub fn search_step(&mut self) {
        // A rate of 0 leaves the share of open gates as it is at the start of a search.
        self.search.step(&self.batch, self.number, &[1e-4, 0.0]).expect(ONE);
        self.number += 1;
        self.finish();
    }

    /// Evaluation of the dense model, to the logits on the host.
    pub fn dense_forward(&self) -> f32 {
        forward(&self.dense.model().valid(), self.images.clone())
    }

    /// Evaluation of the compact model.
    pub fn compact_forward(&self) -> f32 {
        forward(&self.compact.model().valid(), self.images.clone())
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

/// A batch of images `[batch, channels, height, width]`, of all classes in turn.
fn on_host<B: FusedOps>(images: &Tensor<B, 4>, classes: usize) -> Batch {
    let count = images.dims()[0];
    let label = |image: usize| image % classes;
    let targets = (0..count * classes).map(|i| f32::from(i % classes == label(i / classes)));
    Batch {
        index: 0,
        part: (0..count).collect(),
        shape: images.dims(),
        images: images.clone().into_data().iter::<f32>().collect(),
        labels: (0..count).map(|image| label(image) as u16).collect(),
        targets: targets.collect(),
        classes,
    }
}

fn forward<B: FusedOps>(model: &Vit<B>, images: Tensor<B, 4>) -> f32 {
    model.forward(images, &Mode::Evaluate).into_data().iter::<f32>().sum()
}
