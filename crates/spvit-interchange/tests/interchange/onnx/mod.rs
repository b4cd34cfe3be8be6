//! Every model that the compact form can be, exported: the graph's logits are the model's.

#[path = "../../../../spvit-formats/src/onnx/tests/eval.rs"]
mod eval;
#[path = "../../../../spvit-formats/src/onnx/proto.rs"]
#[allow(dead_code)]
mod proto;

mod styles;
mod swin;
mod vit;

use burn::tensor::{Tensor, TensorData};
use prost::Message;
use spvit_interchange::{Target, weights, write};
use spvit_layers::{BlockConfig, Init, Mode, ModelConfig, Operation, Vit, VitConfig, state};
use spvit_search::{Architecture, BlockArchitecture, CostModel};

use crate::support::{B, difference};
use eval::Array;

/// Numbers that look random and are the same in every run.
pub struct Numbers(pub u64);

impl Numbers {
    /// Uniform on [-1, 1].
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn take(&mut self, count: usize, centre: f32, spread: f32) -> Vec<f32> {
        (0..count).map(|_| centre + spread * self.next()).collect()
    }
}

/// Weights of which none has its default, so that none can be left out unseen.
pub fn randomised(model: Vit<B>) -> Vit<B> {
    let mut numbers = Numbers(7);
    let mut tensors = state::export(&model);
    for (name, data) in &mut tensors {
        let shape = data.shape.to_vec();
        let count: usize = shape.iter().product();
        let fan_in = count / shape[0].max(1);
        let (centre, spread) = match (shape.len(), name.as_str()) {
            (1, name) if name.ends_with("bias") || name.ends_with("mean") => (0.0, 0.5),
            (1, _) => (1.0, 0.5),
            (_, name) if name.ends_with("weight") => (0.0, 2.0 / (fan_in as f32).sqrt()),
            _ => (0.0, 1.0),
        };
        *data = TensorData::new(numbers.take(count, centre, spread), shape);
    }
    state::import(model, &tensors).unwrap()
}

/// The architecture of these blocks; FFNs keep their first dimensions.
fn architecture(config: &ModelConfig, blocks: &[BlockConfig]) -> Architecture {
    let blocks = blocks.iter().map(BlockArchitecture::first).collect();
    let architecture = Architecture::new(config.clone(), CostModel::Macs, blocks, None);
    architecture.validate().unwrap();
    architecture
}

fn block(operation: Operation, hidden: usize) -> BlockConfig {
    BlockConfig { operation, hidden, heads: None }
}

/// Writes a model and reads the file.
fn exported(model: &Vit<B>, architecture: &Architecture) -> proto::Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    write(&path, Target::Onnx, model, architecture, &Default::default())
        .unwrap_or_else(|e| panic!("{e}"));
    proto::Model::decode(std::fs::read(&path).unwrap().as_slice()).unwrap()
}

/// The largest difference between the exported graph's logits and the model's, of two images.
fn off_by(model: &Vit<B>, architecture: &Architecture) -> f32 {
    let [height, width] = architecture.model.image_size();
    let shape = [2, architecture.model.channels(), height, width];
    let input = Numbers(3).take(shape.iter().product(), 0.0, 1.5);
    let images = Tensor::from_data(TensorData::new(input.clone(), shape), &Default::default());
    let expected = model.forward(images, &Mode::Evaluate).into_data();
    let found = eval::run(&exported(model, architecture), Array::new(&shape, input));
    assert_eq!(found.shape, expected.shape.to_vec());
    let expected: Vec<f32> = expected.iter::<f32>().collect();
    let spread = expected.iter().fold(0.0f32, |most, x| most.max((x - expected[0]).abs()));
    assert!(spread > 0.1, "logits that differ by {spread} only show little");
    difference(&found.data, &expected)
}

/// Exports these blocks of a shape with randomised weights, and compares.
#[track_caller]
fn check(what: &str, config: impl Into<ModelConfig>, blocks: &[BlockConfig]) {
    let config = config.into();
    let model = randomised(Vit::new(&config, blocks, &mut Init::new(0, &Default::default())));
    let off = off_by(&model, &architecture(&config, blocks));
    assert!(off < 1e-4, "{what}: off by {off}");
    println!("{what}: off by {off:.1e}");
}

#[track_caller]
fn check_dense(what: &str, config: impl Into<ModelConfig>) {
    let config = config.into();
    let blocks = config.dense_blocks();
    check(what, config, &blocks);
}

/// Exports a shape with every operation, cut FFNs and one without dimensions, where its blocks can be
/// that, and compares.
#[track_caller]
fn check_compact(what: &str, vit: VitConfig) {
    use Operation::{BConv, Msa, Shortcut};
    let vit = VitConfig { depth: 5, ..vit };
    let shape = vit.block();
    let choices = [(Msa, 5), (BConv(3), 0), (Shortcut, 7), (Msa, 0), (BConv(1), vit.hidden)];
    let blocks = choices.map(|(operation, hidden)| BlockConfig {
        operation: if shape.searches_attention() { operation } else { Msa },
        hidden: if shape.searches_ffn() { hidden } else { vit.hidden },
        heads: (operation == Msa && shape.searches_attention()).then_some(shape.heads - 1),
    });
    check(&format!("{what}, compact"), vit, &blocks);
}

/// The model with zeros in the tensors of which `cleared` names the ends.
fn with_zeros(model: Vit<B>, cleared: &[&str]) -> Vit<B> {
    let mut tensors = weights::to_host(state::export(&model));
    for (name, tensor) in &mut tensors {
        if cleared.iter().any(|end| name.ends_with(end)) {
            tensor.data.fill(0.0);
        }
    }
    state::import(model, &weights::from_host(tensors)).unwrap()
}

/// Exports blocks of which the `gone`, by name, add nothing, and compares; none of these leaves a
/// node or weight.
#[track_caller]
fn check_gone(config: impl Into<ModelConfig>, blocks: &[BlockConfig], gone: &[&str]) {
    let config = config.into();
    let model = randomised(Vit::new(&config, blocks, &mut Init::new(0, &Default::default())));
    let cleared: Vec<String> = gone.iter().map(|name| format!("{name}.mlp.bias")).collect();
    let model = with_zeros(model, &cleared.iter().map(String::as_str).collect::<Vec<_>>());
    let architecture = architecture(&config, blocks);
    let off = off_by(&model, &architecture);
    assert!(off < 1e-4, "off by {off}");
    let graph = exported(&model, &architecture).graph.unwrap();
    let nodes = graph.node.iter().map(|node| &node.name);
    for name in nodes.chain(graph.initializer.iter().map(|tensor| &tensor.name)) {
        assert!(!gone.iter().any(|block| name.contains(&format!("{block}."))), "{name}");
    }
}
