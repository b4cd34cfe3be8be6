//! SPViT's operations on tensors, without parameters.
//!
//! - [`gates`]: the straight-through sampled gate, the expected gate and the single path
//!   (Eqs. 1, 2 and 12 of the method).
//! - [`mixing`]: the head distribution `P` and the columns of it that a kernel size uses (Eq. 5).
//! - [`fused`]: layers' inner operations with their own backward pass, as a trait over
//!   [`burn::tensor::backend::Backend`] with a default in plain tensor operations.
//!
//! Nothing here knows about modules, files or configuration.

pub mod fused;
pub mod gates;
pub mod mixing;

pub use fused::{Activation, AdamWStep, FusedOps, Grid, TokenMap, TrainBackend};
