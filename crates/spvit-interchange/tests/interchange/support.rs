//! Files of the tests, and logits to compare.

use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use spvit_formats::{HostTensor, StateDict};
use spvit_interchange::{Imported, ReadOptions, read};
use spvit_layers::{Mode, ModelConfig, Vit, VitConfig};

pub type B = Flex;

/// A file that tests/interop/small_models.py made.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A file of the published code's values for a DeiT.
pub fn golden(name: &str) -> PathBuf {
    golden_of("deit_finetune", name)
}

/// A file of the published code's values.
pub fn golden_of(cases: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../spvit-search/tests/golden")
        .join(cases)
        .join(name)
}

/// The shape of the small models.
pub fn small_vit() -> VitConfig {
    VitConfig { hidden: 64, ..VitConfig::deit([16, 8, 3, 5, 32, 2, 2]) }
}

/// The same as a model's.
pub fn small() -> ModelConfig {
    small_vit().into()
}

/// The options for what the small models' tensors do not tell.
pub fn two_heads() -> ReadOptions {
    ReadOptions { heads: Some(2), ..ReadOptions::default() }
}

pub fn tensors(path: &Path) -> StateDict {
    spvit_formats::read(path).unwrap_or_else(|e| panic!("{e}")).tensors
}

pub fn imported(path: &Path, options: &ReadOptions) -> Imported<B> {
    read(path, options, 0, &Default::default()).unwrap_or_else(|e| panic!("{e}"))
}

pub fn tensor<const D: usize>(tensor: &HostTensor) -> Tensor<B, D> {
    let data = TensorData::new(tensor.data.clone(), tensor.shape.clone());
    Tensor::from_data(data, &Default::default())
}

/// The largest difference between a model's logits and those in a file of inputs and logits.
pub fn off_by(model: &Vit<B>, io: &Path, logits: &str) -> f32 {
    let io = tensors(io);
    let found = model.forward(tensor(&io["input"]), &Mode::Evaluate);
    let expected = &io[logits];
    assert_eq!(found.dims().to_vec(), expected.shape);
    difference(&found.into_data().iter::<f32>().collect::<Vec<_>>(), &expected.data)
}

pub fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    // max() would pass over a NaN.
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |max, x| if x.is_nan() { x } else { x.max(max) })
}

/// Whether a note holds these words.
pub fn noted(notes: &[String], words: &str) -> bool {
    notes.iter().any(|note| note.contains(words))
}
