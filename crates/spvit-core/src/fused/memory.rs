//! What a device holds, and can hold.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::backend::Backend;

/// Questions about a device's memory.
pub trait MemoryOps: Backend {
    /// Bytes of the largest tensor, which lies in one piece; nothing where memory alone ends it.
    fn largest_piece(_device: &Self::Device) -> Option<u64> {
        None
    }

    /// Bytes that this process has reserved on a device; nothing where they are main memory.
    fn reserved(_device: &Self::Device) -> Option<u64> {
        None
    }
}

impl<B: MemoryOps, C: CheckpointStrategy> MemoryOps for Autodiff<B, C> {
    fn largest_piece(device: &Self::Device) -> Option<u64> {
        B::largest_piece(device)
    }

    fn reserved(device: &Self::Device) -> Option<u64> {
        B::reserved(device)
    }
}

#[cfg(feature = "host")]
impl<B: super::host::HostAccess> MemoryOps for B {}
