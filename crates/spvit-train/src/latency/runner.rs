//! What computes a model while it is timed.

use std::{str::FromStr, time::Instant};

use burn::tensor::Tensor;
use spvit_core::FusedOps;
use spvit_layers::{BlockConfig, Init, Mode, ModelConfig, Vit};
use spvit_search::Place;

use crate::TrainError;

/// What computes the models that are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Our own forward pass, on a backend of Burn.
    Burn,
    /// onnxruntime, on the processor, as its library sets itself up but for the number of threads. The
    /// models come to it as `spvit convert` exports them.
    OnnxRuntime,
}

impl FromStr for Runtime {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "burn" => Ok(Self::Burn),
            "onnxruntime" => Ok(Self::OnnxRuntime),
            _ => Err("expected burn or onnxruntime".into()),
        }
    }
}

impl std::fmt::Display for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Burn => "burn",
            Self::OnnxRuntime => "onnxruntime",
        })
    }
}

/// A model that can be timed: a pass's seconds, from images that are there to logits on the host.
pub type Stopwatch = Box<dyn FnMut() -> Result<f64, TrainError>>;

impl Runtime {
    /// What computed there.
    pub fn of(place: &Place) -> Self {
        match place.runtime.starts_with("onnxruntime") {
            true => Self::OnnxRuntime,
            false => Self::Burn,
        }
    }

    /// The device that it computes on, where the program's is `device`.
    pub fn device(self, device: &str) -> &str {
        match self {
            Self::Burn => device,
            Self::OnnxRuntime => "cpu",
        }
    }

    /// Its name and version.
    ///
    /// # Errors
    /// [`TrainError::Config`] where onnxruntime cannot be loaded, or this program has no part of it.
    pub fn version(self) -> Result<String, TrainError> {
        match self {
            Self::Burn => Ok(concat!("spvit ", env!("CARGO_PKG_VERSION"), " on Burn").into()),
            #[cfg(feature = "onnxruntime")]
            Self::OnnxRuntime => super::onnx::version(),
            #[cfg(not(feature = "onnxruntime"))]
            Self::OnnxRuntime => Err(left_out()),
        }
    }

    /// A model with random weights, ready to be timed on `batch` images.
    ///
    /// # Errors
    /// [`TrainError`] of onnxruntime.
    pub fn load<B: FusedOps>(
        self,
        config: &ModelConfig,
        blocks: &[BlockConfig],
        batch: usize,
        device: &B::Device,
    ) -> Result<Stopwatch, TrainError> {
        let model = Vit::<B>::new(config, blocks, &mut Init::new(0, device));
        match self {
            Self::Burn => {
                let images = images::<B>(config, batch, device);
                Ok(Box::new(move || Ok(pass(&model, &images))))
            }
            #[cfg(feature = "onnxruntime")]
            Self::OnnxRuntime => super::onnx::load(&model, config, blocks, batch),
            #[cfg(not(feature = "onnxruntime"))]
            Self::OnnxRuntime => Err(left_out()),
        }
    }
}

/// Images to time with.
pub fn images<B: FusedOps>(config: &ModelConfig, batch: usize, device: &B::Device) -> Tensor<B, 4> {
    let [height, width] = config.image_size();
    Tensor::zeros([batch, config.channels(), height, width], device)
}

/// Seconds of one forward pass, which ends when its logits are on the host.
pub fn pass<B: FusedOps>(model: &Vit<B>, images: &Tensor<B, 4>) -> f64 {
    let began = Instant::now();
    let _ = model.forward(images.clone(), &Mode::Evaluate).into_data();
    began.elapsed().as_secs_f64()
}

#[cfg(not(feature = "onnxruntime"))]
fn left_out() -> TrainError {
    TrainError::Config {
        source_name: "onnxruntime".into(),
        problem: "this program was built without it; rebuild with --features onnxruntime".into(),
    }
}
