//! SPViT's layers as Burn modules, and the vision transformers built from them.
//!
//! - [`Umsa`] and [`Uffn`] are the searched layers: they take gates as arguments and own none.
//! - [`SearchVit`] is a vision transformer of those (the search form), [`Vit`] one of plain
//!   attention, bottleneck convolutions and cut FFNs (the compact form; dense is the compact form
//!   that keeps everything).
//! - [`state`] turns a model into named tensors in PyTorch's layouts and back.
//!
//! FLOPs and thresholds live in `spvit-search`, files in `spvit-train`.

mod batch_norm;
mod bconv;
mod config;
mod context;
mod ffn;
mod init;
mod linear;
mod msa;
mod norm;
mod patch_embed;
mod search_vit;
pub mod state;
mod umsa;
mod vit;

pub use batch_norm::BatchNorm;
pub use bconv::BottleneckConv;
pub use config::{BlockConfig, ConfigError, Operation, PRESETS, VitConfig};
pub use context::{BatchStatistics, DropPath, Mode, TrainContext, apply_batch_statistics};
pub use ffn::{Ffn, Uffn};
pub use init::Init;
pub use linear::Linear;
pub use msa::Msa;
pub use norm::LayerNorm;
pub use patch_embed::PatchEmbed;
pub use search_vit::{BlockGates, SearchBlock, SearchVit};
pub use umsa::{OperationGates, Umsa};
pub use vit::{Block, Mixer, Vit};

/// The README's example, so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
