//! Inner operations of the layers with their own backward pass.
//!
//! A folder holds one kind of operation: its trait over [`Backend`] and the functions on
//! [`Tensor`]s that layers call (`mod.rs`), the default in plain tensor operations (`plain.rs`), one
//! node of an autodiff graph for each forward and backward pair (`graph.rs`), kernels over slices
//! for the backends on a CPU (`host.rs`), kernels of CubeCL for those on GPUs (`cube.rs`), and tests that
//! hold them against each other. `pool.rs` says on which threads work runs that calls many of them,
//! `memory.rs` what a device holds.
//!
//! [`FusedOps`] is their sum. A backend without kernels of its own is a line in this file, and runs
//! the defaults. A method and its `_backward` are overridden together. In the traits' docs, leading
//! dimensions are written `..` where any number of them is accepted.

mod activation;
mod attention;
mod batch_norm;
mod bottleneck;
mod coefficients;
mod cross_entropy;
#[cfg(feature = "cube")]
mod cube;
mod distribution;
mod gates;
mod graph;
#[cfg(feature = "host")]
mod host;
mod linear;
mod memory;
mod norm;
mod plain;
mod pool;
mod precision;
mod shift;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod testing;
mod tokens;
mod update;

pub use activation::{Activation, ActivationOps, activate, gelu};
pub use attention::{AttentionOps, AttentionState, self_attention, value_part};
pub use batch_norm::{BatchNormOps, NormParameters, batch_norm_relu};
pub use bottleneck::{Bottleneck, BottleneckOps, bottleneck};
pub use coefficients::{
    CoefficientOps, constant, gated_rows, squared_norms, with_coefficient_grads,
};
pub use cross_entropy::{CrossEntropyOps, cross_entropy};
pub use distribution::{DistributionOps, head_distribution, head_sum};
pub use gates::GateOps;
pub use linear::{LinearOps, affine, sum};
pub use memory::MemoryOps;
pub use norm::{NormOps, layer_norm, rms_norm};
pub use pool::PoolOps;
pub use precision::{Precision, PrecisionOps};
pub use shift::{Grid, ShiftOps, mix_shift, shift_sum};
pub use tokens::{TokenMap, TokenOps, gather_tokens, patch_rows, tokens, with_prefix};
pub use update::{AdamWParameter, AdamWStep, Clip, UpdateOps, adamw_update, averages};

use burn::tensor::{
    Tensor, TensorPrimitive,
    backend::{AutodiffBackend, Backend},
    ops::FloatTensor,
};

/// All operations with their own backward pass: what a layer asks of its backend.
pub trait FusedOps:
    ActivationOps
    + AttentionOps
    + BatchNormOps
    + BottleneckOps
    + CoefficientOps
    + CrossEntropyOps
    + DistributionOps
    + GateOps
    + LinearOps
    + MemoryOps
    + NormOps
    + PoolOps
    + PrecisionOps
    + ShiftOps
    + TokenOps
    + UpdateOps
{
}

impl<B> FusedOps for B where
    B: ActivationOps
        + AttentionOps
        + BatchNormOps
        + BottleneckOps
        + CoefficientOps
        + CrossEntropyOps
        + DistributionOps
        + GateOps
        + LinearOps
        + MemoryOps
        + NormOps
        + PoolOps
        + PrecisionOps
        + ShiftOps
        + TokenOps
        + UpdateOps
{
}

/// A backend to train on: autodiff, with fused operations with and without a graph.
pub trait TrainBackend: AutodiffBackend<InnerBackend: FusedOps> + FusedOps {}

impl<B> TrainBackend for B where B: AutodiffBackend<InnerBackend: FusedOps> + FusedOps {}

/// Backends that run the defaults.
#[cfg(feature = "tch")]
macro_rules! run_the_defaults {
    ($($backend:ty),* $(,)?) => {
        $(
            impl ActivationOps for $backend {}
            impl AttentionOps for $backend {}
            impl BatchNormOps for $backend {}
            impl BottleneckOps for $backend {}
            impl CoefficientOps for $backend {}
            impl CrossEntropyOps for $backend {}
            impl DistributionOps for $backend {}
            impl GateOps for $backend {}
            impl LinearOps for $backend {}
            impl MemoryOps for $backend {}
            impl NormOps for $backend {}
            impl PoolOps for $backend {}
            impl PrecisionOps for $backend {}
            impl ShiftOps for $backend {}
            impl TokenOps for $backend {}
            impl UpdateOps for $backend {}
        )*
    };
}

#[cfg(feature = "tch")]
run_the_defaults!(burn::backend::LibTorch);

pub(crate) fn raw<B: Backend, const D: usize>(x: Tensor<B, D>) -> FloatTensor<B> {
    x.into_primitive().tensor()
}

pub(crate) fn wrap<B: Backend, const D: usize>(x: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}
