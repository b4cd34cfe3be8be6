//! Kernels by way of WGSL.

use std::sync::LazyLock;

use burn::backend::wgpu::{
    RuntimeOptions, WgpuDevice,
    graphics::{AutoGraphicsApi, GraphicsApi, WebGpu},
    init_device, init_setup,
};

/// The default device of wgpu under another name, for which kernels are compiled to WGSL, whatever else is
/// compiled in: where the `vulkan` feature is, the default device has them compiled to SPIR-V.
///
/// To be called before anything is computed on the default device.
pub fn wgsl_device() -> WgpuDevice {
    static WGSL: LazyLock<WgpuDevice> = LazyLock::new(|| {
        let mut setup =
            init_setup::<AutoGraphicsApi>(&WgpuDevice::default(), RuntimeOptions::default());
        setup.backend = WebGpu::backend();
        init_device(setup, RuntimeOptions::default())
    });
    WGSL.clone()
}
