//! SPViT's layers as Burn modules, and the vision transformers built from them.
//!
//! - [`Umsa`] and [`Uffn`] are the searched layers: they take gates as arguments and own none. Each
//!   is made from a [`BlockShape`] and a [`SearchSpace`] alone.
//! - [`VisionTransformer`] is the skeleton of every family around blocks of either kind:
//!   [`SearchVit`] of searched layers (the search form), [`Vit`] of plain attention, bottleneck
//!   convolutions and cut FFNs (the compact form; dense is the compact form that keeps
//!   everything).
//! - [`ModelConfig`] is a family with its shape: its [`blocks`](ModelConfig::blocks) are all that
//!   costs, gates and layers need of it.
//! - [`state`] turns a model into named tensors in PyTorch's layouts and back.
//!
//! FLOPs and thresholds live in `spvit-search`, files in `spvit-train`.

mod attention;
mod attention_pool;
mod batch_norm;
mod bconv;
mod block;
mod config;
mod context;
mod ffn;
mod init;
mod linear;
mod model;
mod msa;
mod norm;
mod operation;
mod patch_embed;
mod relative;
mod rope;
mod row_gates;
mod shape;
pub mod state;
mod umsa;
mod windows;

pub use attention_pool::AttentionPool;
pub use batch_norm::{BATCH_NORM_EPSILON, BatchNorm};
pub use bconv::{BottleneckConv, Convolution};
pub use block::{Block, BlockGates, Mixer, SearchBlock, Shortcut};
pub use config::{ConfigError, Family, ModelConfig, Pool, SwinConfig, VitConfig, presets};
pub use context::{BatchStatistics, DropPath, Mode, TrainContext, apply_batch_statistics};
pub use ffn::{Ffn, Uffn};
pub use init::Init;
pub use linear::Linear;
pub use model::{HeadLogits, SearchVit, VisionTransformer, Vit};
pub use msa::Msa;
pub use norm::{LayerScale, Norm};
pub use operation::Operation;
pub use patch_embed::{PatchEmbed, PatchMerging, PatchProjection};
pub use rope::{Rope, RopeKind};
pub use row_gates::RowGates;
pub use shape::{
    BlockConfig, BlockShape, BlockStyle, FfnKind, NormKind, QkvBias, SearchSpace, Window,
};
pub use spvit_core::Activation;
pub use umsa::{OperationGates, Umsa};

/// The READMEs' examples, so that they stay true.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct OwnReadme;
