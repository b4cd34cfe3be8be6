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

#[cfg(feature = "tch")]
impl MemoryOps for burn::backend::LibTorch {}

/// Backends of CubeCL, which gives no buffer that is larger than a page of its memory.
macro_rules! by_page {
    ($($(#[$feature:meta])* $backend:ty => $runtime:ty),* $(,)?) => {
        $(
            $(#[$feature])* impl MemoryOps for $backend {
                fn largest_piece(device: &Self::Device) -> Option<u64> {
                    use burn::cubecl::Runtime;
                    Some(<$runtime>::client(device).properties().memory.max_page_size)
                }

                fn reserved(device: &Self::Device) -> Option<u64> {
                    use burn::cubecl::Runtime;
                    let usage = <$runtime>::client(device).memory_usage();
                    usage.ok().map(|usage| usage.bytes_reserved)
                }
            }
        )*
    };
}

by_page!(
    #[cfg(feature = "cuda")]
    burn::backend::Cuda => burn::cubecl::cuda::CudaRuntime,
    #[cfg(feature = "cuda")]
    burn::backend::Cuda<burn::tensor::bf16> => burn::cubecl::cuda::CudaRuntime,
    #[cfg(feature = "wgpu")]
    burn::backend::Wgpu => burn::cubecl::wgpu::WgpuRuntime,
    #[cfg(feature = "vulkan")]
    burn::backend::Vulkan => burn::cubecl::wgpu::WgpuRuntime,
);
