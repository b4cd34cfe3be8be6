//! Models in files: spvit's own, those that other programs wrote, and models for other programs.
//!
//! - [`weights`] has the files of a run: a model with its architecture.
//! - [`read_dense`] makes a dense model of a given shape from the weights of timm, DeiT or Hugging
//!   Face, with another head or resolution if the shape asks for it.
//! - [`read`] makes a model of whatever shape the file has: dense, compact, or in the forms of the
//!   published code.
//! - [`read_search_result`] makes an [`Architecture`] from a search result of the published code.
//! - [`write()`] writes a model for other programs, [`write_onnx`] for runtimes that want it in another form,
//!   [`write_folder`] a folder for transformers.js and optimum.
//!
//! What was done to the weights on the way comes back as notes for the person who asked for it.

mod asked;
pub mod detect;
mod error;
mod fit;
mod hub;
mod infer;
mod input;
pub mod memory;
mod names;
mod network;
mod published;
mod read;
mod resize;
pub mod weights;
mod write;

use std::path::PathBuf;

use burn::tensor::backend::Backend;
use spvit_layers::Vit;
use spvit_search::Architecture;

pub use error::InterchangeError;
pub use hub::write_folder;
pub use input::{INPUT, Input};
pub use network::network;
pub use published::{read_operations, read_search_result, search_result_shape};
pub use read::{describe, examine, read, read_dense, weights_file};
pub use spvit_formats::onnx::{Form, Normal};
pub use write::{Target, write, write_onnx};

/// What a file does not say about its model.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The entry of a training checkpoint that holds the weights, such as `model_ema`.
    pub entry: Option<String>,
    /// The name of timm's architecture, which tells what tensors do not.
    pub timm: Option<String>,
    /// Attention heads; otherwise one for each 64 dimensions, where nothing tells.
    pub heads: Option<usize>,
    /// What the classifier looks at; otherwise by what is there.
    pub pool: Option<detect::Pool>,
    /// Activation of the FFNs; otherwise exact GELU.
    pub activation: Option<spvit_layers::Activation>,
    /// ε of the norms; otherwise that of the file's origin.
    pub epsilon: Option<f64>,
    /// Rows of the position embedding that belong to prefix tokens.
    pub prefix_tokens: Option<usize>,
    /// Height and width of an image in pixels; otherwise those of the file, as a square. The
    /// position embedding is resized to it.
    pub image_size: Option<[usize; 2]>,
    /// Number of classes; otherwise that of the file. Another one means a new head.
    pub classes: Option<usize>,
    /// An architecture file, for a compact model whose file does not say which hidden dimensions
    /// it kept.
    pub architecture: Option<PathBuf>,
    /// Whether shortcuts add norm1(x), as they do in models that the published code fine-tuned.
    pub shortcut_adds_norm: bool,
    /// α of head distributions in models that the published code fine-tuned; otherwise that of the
    /// released ones: 0.01, and 100 of a Swin.
    pub alpha: Option<f64>,
}

/// A model of whatever shape its file has.
#[derive(Debug)]
pub struct Imported<B: Backend> {
    /// The model in compact form.
    pub model: Vit<B>,
    /// Its architecture.
    pub architecture: Architecture,
    /// How images come to it, as far as its file says.
    pub input: Input,
    /// What was assumed and changed, one sentence each.
    pub notes: Vec<String>,
}

/// What a file says of its model.
#[derive(Debug, Clone)]
pub struct Description {
    /// The model's architecture.
    pub architecture: Architecture,
    /// Whether the file has a classifier; the architecture has one in any case.
    pub head: bool,
    /// How images come to it, as far as its file says.
    pub input: Input,
    /// What was assumed, one sentence each.
    pub notes: Vec<String>,
}

/// A dense model of a given shape.
#[derive(Debug)]
pub struct Dense<B: Backend> {
    /// The model.
    pub model: Vit<B>,
    /// Whether its head is new, so that its logits mean nothing yet.
    pub new_head: bool,
    /// What was assumed and changed, one sentence each.
    pub notes: Vec<String>,
}

/// The README's example, so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
