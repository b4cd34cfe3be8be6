//! Backends by name: which are compiled in, and generic code for the one that was asked for.

use std::str::FromStr;

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

/// Work that any backend can do.
pub trait Work {
    type Output;

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<Self::Output, Failure>;
}

/// Does the work on the backend of this name.
pub fn dispatch<W: Work>(name: DeviceName, work: W) -> Result<W::Output, Failure> {
    #[allow(unused_imports)]
    use burn::backend::Autodiff;

    match name {
        #[cfg(feature = "flex")]
        Flex => work.on::<Autodiff<burn::backend::Flex>>(Default::default()),
        #[cfg(feature = "ndarray")]
        NdArray => work.on::<Autodiff<burn::backend::NdArray>>(Default::default()),
        #[cfg(feature = "cuda")]
        Cuda => {
            require_cuda()?;
            work.on::<Autodiff<burn::backend::Cuda>>(Default::default())
        }
        #[cfg(feature = "wgpu")]
        Wgpu => work.on::<Autodiff<burn::backend::Wgpu>>(Default::default()),
        #[cfg(feature = "vulkan")]
        Vulkan => work.on::<Autodiff<burn::backend::Vulkan>>(Default::default()),
        #[cfg(feature = "tch")]
        Tch => {
            let device = burn::backend::libtorch::LibTorchDevice::Cpu;
            work.on::<Autodiff<burn::backend::LibTorch>>(device)
        }
        #[allow(unreachable_patterns)]
        other => {
            let _ = work;
            Err(Failure::usage(format!("--device {}: not built in", other.name())))
        }
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
