//! SPViT's operations on tensors, without parameters.
//!
//! "Eq. n" here and in the other crates is a number of `docs/method.md`.
//!
//! - [`gates`]: the straight-through sampled gate, the single path, the operations' coefficients and
//!   the expected gate (Eqs. 1, 2, 3 and 12).
//! - [`mixing`]: the columns of the head distribution `P` that a kernel size uses (Eq. 5).
//! - [`fused`]: layers' inner operations with their own backward pass, as a trait over
//!   [`burn::tensor::backend::Backend`] with a default in plain tensor operations.
//!
//! Nothing here knows about modules, files or configuration.
//!
//! Facts about Burn's backends (0.21) that the code here works around:
//!
//! - `detach` keeps a parameter's wish for a gradient: a value that must stay out of the graph goes
//!   through [`fused::constant`].
//! - GELU's backward pass in Burn is that of the tanh approximation; [`fused::activate`] has its own.
//! - The ndarray backend approximates reciprocals, and with them the gradients of quotients and
//!   logarithms, to 12 to 14 bits: a root by `powf_scalar(-0.5)` is exact everywhere.

pub mod fused;
pub mod gates;
pub mod mixing;
#[cfg(feature = "wgpu")]
mod wgsl;

#[cfg(feature = "wgpu")]
pub use wgsl::wgsl_device;

pub use fused::{
    Activation, AdamWStep, FusedOps, Grid, PoolOps, Precision, PrecisionOps, TokenMap, TrainBackend,
};

/// The README's example, so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
