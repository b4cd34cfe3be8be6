//! What Vulkan or Metal show of a machine.

use burn::backend::wgpu::{
    WgpuDevice,
    graphics::{AutoGraphicsApi, GraphicsApi},
};
use wgpu::DeviceType;

use crate::{device::DeviceList, failure::Failure, output::tell};

/// What computes, and what it is called.
struct Adapter {
    device: WgpuDevice,
    name: String,
}

impl Adapter {
    /// Whether it is a program that computes as a GPU would.
    fn is_processor(&self) -> bool {
        self.device == WgpuDevice::Cpu
    }
}

/// Numbers adapters as the runtime does, each kind from 0, and puts GPUs before processors.
fn ordered(found: impl IntoIterator<Item = (DeviceType, String)>) -> Vec<Adapter> {
    let [mut discrete, mut integrated, mut shared, mut processors] = [const { Vec::new() }; 4];
    for (kind, name) in found {
        let (same, device): (&mut Vec<_>, fn(usize) -> WgpuDevice) = match kind {
            DeviceType::DiscreteGpu => (&mut discrete, WgpuDevice::DiscreteGpu),
            DeviceType::IntegratedGpu => (&mut integrated, WgpuDevice::IntegratedGpu),
            DeviceType::VirtualGpu => (&mut shared, WgpuDevice::VirtualGpu),
            // The runtime knows no second one.
            DeviceType::Cpu if processors.is_empty() => (&mut processors, |_| WgpuDevice::Cpu),
            DeviceType::Cpu | DeviceType::Other => continue,
        };
        same.push(Adapter { device: device(same.len()), name });
    }
    [discrete, integrated, shared, processors].into_iter().flatten().collect()
}

fn adapters() -> Vec<Adapter> {
    let api = AutoGraphicsApi::backend();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: api.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    // Outside browsers it is there at once.
    let found = burn::tensor::try_read_sync(instance.enumerate_adapters(api.into()));
    let described = |adapter: wgpu::Adapter| {
        let info = adapter.get_info();
        (info.device_type, info.name)
    };
    ordered(found.unwrap_or_default().into_iter().map(described))
}

/// The devices that a list names; tells what they are. A number counts GPUs, the fastest kind first, and behind them
/// a processor that computes as one; without a number it is the first.
pub fn chosen(devices: &DeviceList) -> Result<Vec<WgpuDevice>, Failure> {
    let found = adapters();
    let name = devices.name.name();
    if found.is_empty() {
        return Err(Failure::run(format!(
            "--device {name}: no GPU is shown on this machine; install its driver (a program that computes as a \
             GPU would will do, as Debian's mesa-vulkan-drivers), or compute on the processor with --device flex"
        )));
    }
    let choose = |index: &Option<usize>| match found.get(index.unwrap_or(0)) {
        Some(adapter) => {
            let note = match adapter.is_processor() {
                true => ", which is a processor: --device flex is faster on one",
                false => "",
            };
            tell(format!("{name}: {}{note}", adapter.name));
            Ok(adapter.device.clone())
        }
        None => {
            let shown: Vec<_> = found.iter().map(|adapter| adapter.name.as_str()).collect();
            Err(Failure::usage(format!(
                "--devices {devices}: this machine shows, counted from 0, {}",
                shown.join("; ")
            )))
        }
    };
    devices.indices.iter().map(choose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_come_before_processors() {
        use DeviceType::*;
        let kinds = [Cpu, IntegratedGpu, Cpu, DiscreteGpu, Other, DiscreteGpu];
        let found = kinds.into_iter().enumerate().map(|(i, kind)| (kind, i.to_string()));
        let names: Vec<_> = ordered(found).into_iter().map(|own| (own.device, own.name)).collect();
        let expected = [
            (WgpuDevice::DiscreteGpu(0), "3"),
            (WgpuDevice::DiscreteGpu(1), "5"),
            (WgpuDevice::IntegratedGpu(0), "1"),
            (WgpuDevice::Cpu, "0"),
        ];
        assert_eq!(names, expected.map(|(device, name)| (device, name.to_string())));
    }
}
