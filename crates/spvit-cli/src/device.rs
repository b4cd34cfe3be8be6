//! Backends by name: which are compiled in, and generic code for the one that was asked for.

#[cfg(feature = "wgpu")]
mod adapters;

use std::{fmt, str::FromStr};

use burn::tensor::backend::DeviceOps;
use spvit_core::TrainBackend;

use crate::failure::Failure;

/// A backend that `--device` can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    Flex,
    NdArray,
    Cuda,
    Wgpu,
    Vulkan,
    Tch,
}

use DeviceName::{Cuda, Flex, NdArray, Tch, Vulkan, Wgpu};

/// Name, backend, and whether this program has it.
const DEVICES: [(&str, DeviceName, bool); 6] = [
    ("flex", Flex, cfg!(feature = "flex")),
    ("ndarray", NdArray, cfg!(feature = "ndarray")),
    ("cuda", Cuda, cfg!(feature = "cuda")),
    ("wgpu", Wgpu, cfg!(feature = "wgpu")),
    ("vulkan", Vulkan, cfg!(feature = "vulkan")),
    ("tch", Tch, cfg!(feature = "tch")),
];

const fn first() -> usize {
    let mut i = 0;
    while i + 1 < DEVICES.len() && !DEVICES[i].2 {
        i += 1;
    }
    i
}

impl DeviceName {
    /// The first in [`DEVICES`] that is compiled in.
    pub const FIRST: Self = DEVICES[first()].1;

    /// Its name.
    pub const DEFAULT: &str = DEVICES[first()].0;

    pub fn name(self) -> &'static str {
        let mut names = DEVICES.iter().filter(|(_, device, _)| *device == self);
        names.next().map_or("", |(name, _, _)| name)
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let built: Vec<_> = DEVICES.iter().filter(|d| d.2).map(|d| d.0).collect();
        let built = built.join(", ");
        match DEVICES.iter().find(|(name, _, _)| *name == text) {
            Some((_, device, true)) => Ok(*device),
            Some((name, _, false)) => Err(format!(
                "this spvit was built without it; build with `--features {name}` (built in: {built})"
            )),
            None => {
                let known: Vec<_> = DEVICES.iter().map(|d| d.0).collect();
                Err(format!("expected one of {} (built in: {built})", known.join(", ")))
            }
        }
    }
}

/// Devices of one backend, as `--devices` names them: `cuda:0,cuda:1`, or `flex,flex`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceList {
    pub name: DeviceName,
    /// Numbers of devices, of which there is at least one; without a number it is the backend's own
    /// choice.
    indices: Vec<Option<usize>>,
}

impl DeviceList {
    /// A backend's own choice.
    pub fn one(name: DeviceName) -> Self {
        Self { name, indices: vec![None] }
    }

    /// An equal part of them for each of the processes on a machine; processors have room for all.
    pub fn share(&self, (rank, count): (usize, usize)) -> Result<Self, Failure> {
        let Self { name, indices } = self;
        if count == 1 || !matches!(name, Cuda | Wgpu | Vulkan) {
            return Ok(self.clone());
        }
        let each = indices.len() / count;
        if each * count != indices.len() {
            let name = name.name();
            return Err(Failure::usage(format!(
                "{self}: expected devices for each of the {count} processes on this machine, such as \
                 --devices {name}:0,{name}:1"
            )));
        }
        Ok(Self { name: *name, indices: indices[rank * each..][..each].to_vec() })
    }
}

impl fmt::Display for DeviceList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |index: &Option<usize>| match index {
            Some(index) => format!("{}:{index}", self.name.name()),
            None => self.name.name().to_string(),
        };
        f.write_str(&self.indices.iter().map(text).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for DeviceList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |part: &str| -> Result<(DeviceName, Option<usize>), String> {
            let (name, index) = match part.split_once(':') {
                Some((name, index)) => (name, Some(index)),
                None => (part, None),
            };
            let device = name.parse()?;
            let index = match index {
                Some(_) if !matches!(device, Cuda | Wgpu | Vulkan) => {
                    return Err(format!("{name} has no devices with numbers: write {name}"));
                }
                Some(index) => Some(index.parse().map_err(|_| {
                    format!("{part}: expected a device's number after the colon, from 0")
                })?),
                None => None,
            };
            Ok((device, index))
        };
        let all: Vec<_> = text.split(',').map(one).collect::<Result<_, _>>()?;
        let Some(&(name, _)) = all.first() else { return Err("names no device".into()) };
        if let Some((other, _)) = all.iter().find(|(other, _)| *other != name) {
            let (name, other) = (name.name(), other.name());
            return Err(format!("{name} and {other}: devices of one run are of one kind"));
        }
        let indices: Vec<Option<usize>> = all.into_iter().map(|(_, index)| index).collect();
        if matches!(name, Cuda | Wgpu | Vulkan) && indices.len() > 1 {
            for (place, index) in indices.iter().enumerate() {
                let name = name.name();
                match index {
                    None => return Err(format!("expected numbers, as in {name}:0,{name}:1")),
                    Some(index) if indices[..place].contains(&Some(*index)) => {
                        return Err(format!("{name}:{index} is there twice"));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(Self { name, indices })
    }
}

/// Work that any backend can do.
pub trait Work: Sized {
    type Output;

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<Self::Output, Failure>;

    /// The same with other devices besides, if it knows what to do with them.
    fn across<B: TrainBackend>(
        self,
        device: B::Device,
        _others: Vec<B::Device>,
    ) -> Result<Self::Output, Failure> {
        self.on::<B>(device)
    }
}

/// Does the work on the backend of this name.
pub fn dispatch<W: Work>(name: DeviceName, work: W) -> Result<W::Output, Failure> {
    dispatch_all(&DeviceList::one(name), work)
}

/// Does the work on these devices.
pub fn dispatch_all<W: Work>(devices: &DeviceList, work: W) -> Result<W::Output, Failure> {
    #[allow(unused_imports)]
    use burn::backend::Autodiff;

    match devices.name {
        #[cfg(feature = "flex")]
        Flex => {
            on_devices::<Autodiff<burn::backend::Flex>, W>(devices, work, |_| Default::default())
        }
        #[cfg(feature = "ndarray")]
        NdArray => {
            on_devices::<Autodiff<burn::backend::NdArray>, W>(devices, work, |_| Default::default())
        }
        #[cfg(feature = "cuda")]
        Cuda => {
            require_cuda()?;
            let device = burn::backend::cuda::CudaDevice::new;
            on_devices::<Autodiff<burn::backend::Cuda>, W>(devices, work, device)
        }
        #[cfg(feature = "wgpu")]
        Wgpu => on::<Autodiff<burn::backend::Wgpu>, W>(adapters::chosen(devices)?, work),
        #[cfg(feature = "vulkan")]
        Vulkan => on::<Autodiff<burn::backend::Vulkan>, W>(adapters::chosen(devices)?, work),
        #[cfg(feature = "tch")]
        Tch => {
            let device = |_| burn::backend::libtorch::LibTorchDevice::Cpu;
            on_devices::<Autodiff<burn::backend::LibTorch>, W>(devices, work, device)
        }
        #[allow(unreachable_patterns)]
        other => {
            let _ = work;
            Err(Failure::usage(format!("--device {}: not built in", other.name())))
        }
    }
}

#[allow(dead_code)]
fn on_devices<B: TrainBackend, W: Work>(
    devices: &DeviceList,
    work: W,
    numbered: impl Fn(usize) -> B::Device,
) -> Result<W::Output, Failure> {
    let mut all = Vec::new();
    for &index in &devices.indices {
        let device = index.map_or_else(B::Device::default, &numbered);
        let id = device.id();
        let there = B::device_count(id.type_id);
        if index.is_some() && usize::from(id.index_id) >= there {
            let name = devices.name.name();
            let problem = format!("this machine has {there} of {name}'s devices, counted from 0");
            return Err(Failure::usage(format!("--devices {devices}: {problem}")));
        }
        all.push(device);
    }
    on::<B, W>(all, work)
}

#[allow(dead_code)]
fn on<B: TrainBackend, W: Work>(devices: Vec<B::Device>, work: W) -> Result<W::Output, Failure> {
    let mut devices = devices.into_iter();
    match devices.next() {
        Some(first) => work.across::<B>(first, devices.collect()),
        None => work.on::<B>(B::Device::default()),
    }
}

/// CUDA's library panics where there is no driver; this says what is missing first.
#[cfg(feature = "cuda")]
fn require_cuda() -> Result<(), Failure> {
    let name = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
    // SAFETY: the driver's initialisers are those that CUDA itself would run next.
    #[allow(unsafe_code)]
    let loaded = unsafe { libloading::Library::new(name) };
    match loaded {
        Ok(library) => {
            // Unloading a driver that is about to be used helps nobody.
            std::mem::forget(library);
            Ok(())
        }
        Err(_) => Err(Failure::run(format!(
            "--device cuda: no {name} on this machine; install NVIDIA's driver, or use --device {}",
            DeviceName::DEFAULT
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "flex")]
    fn lists_of_devices_are_of_one_kind() {
        let list = |text: &str| text.parse::<DeviceList>();
        assert_eq!(list("flex").unwrap(), DeviceList::one(Flex));
        assert_eq!(list("flex,flex,flex").unwrap().to_string(), "flex,flex,flex");
        for (text, part) in [
            ("", "expected one of"),
            ("flex,", "expected one of"),
            ("flex,gpu", "expected one of"),
            ("flex:1", "has no devices with numbers"),
            #[cfg(feature = "ndarray")]
            ("flex,ndarray", "of one kind"),
            #[cfg(not(feature = "cuda"))]
            ("cuda:0,cuda:1", "built without it"),
            #[cfg(feature = "cuda")]
            ("cuda,cuda", "expected numbers"),
            #[cfg(feature = "cuda")]
            ("cuda:1,cuda:1", "is there twice"),
            #[cfg(feature = "cuda")]
            ("cuda:x", "a device's number"),
        ] {
            let error = list(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        #[cfg(feature = "cuda")]
        assert_eq!(list("cuda:0,cuda:1").unwrap().to_string(), "cuda:0,cuda:1");
    }

    #[test]
    fn processes_share_a_machines_devices() {
        let indices = [0, 1, 2, 3].map(Some).to_vec();
        let four = DeviceList { name: Cuda, indices };
        assert_eq!(four.share((1, 2)).unwrap().to_string(), "cuda:2,cuda:3");
        assert_eq!(four.share((0, 1)).unwrap(), four);
        assert!(four.share((0, 3)).is_err() && DeviceList::one(Cuda).share((0, 2)).is_err());
        assert_eq!(DeviceList::one(Flex).share((1, 2)).unwrap(), DeviceList::one(Flex));
    }
}
