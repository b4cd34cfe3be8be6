//! A device whose commands wgpu writes down.

use std::{error::Error, path::Path};

use burn::{
    backend::wgpu::{
        RuntimeOptions, WgpuDevice, WgpuSetup,
        graphics::{AutoGraphicsApi, GraphicsApi, WebGpu},
        init_device,
    },
    tensor::try_read_sync,
};
use wgpu::{DeviceDescriptor, Features, Instance, InstanceDescriptor, MemoryHints, Trace};

/// The machine's best GPU, or the program that stands for one; `trace.ron` in the folder names every buffer that a
/// kernel is bound to.
///
/// # Errors
/// None is there, or it cannot be opened.
pub fn traced(folder: &Path) -> Result<WgpuDevice, Box<dyn Error>> {
    let instance = Instance::new(InstanceDescriptor {
        backends: AutoGraphicsApi::backend().into(),
        ..InstanceDescriptor::new_without_display_handle()
    });
    // Outside browsers all of it is there at once.
    let adapter = try_read_sync(instance.request_adapter(&Default::default()))
        .ok_or("no adapter was ready")??;
    let features = Features::MAPPABLE_PRIMARY_BUFFERS | Features::all_experimental_mask();
    let (device, queue) = try_read_sync(adapter.request_device(&DeviceDescriptor {
        required_features: adapter.features().difference(features),
        required_limits: adapter.limits(),
        memory_hints: MemoryHints::MemoryUsage,
        trace: Trace::Directory(folder.into()),
        ..Default::default()
    }))
    .ok_or("no device was ready")??;
    // WGSL, whatever else is compiled in: it says which buffers a kernel reads and writes.
    let setup = WgpuSetup { instance, adapter, device, queue, backend: WebGpu::backend() };
    Ok(init_device(setup, RuntimeOptions::default()))
}
