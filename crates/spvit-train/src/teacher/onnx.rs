//! A network in an ONNX file, computed by onnxruntime, whose library is looked for while running.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::{Tensor, TensorData};
use ort::{
    inputs,
    session::Session,
    value::{TensorElementType, TensorRef, ValueType},
};
use spvit_core::TrainBackend;

use super::TeacherNetwork;
use crate::onnxruntime::{environment, line};

/// A network that makes logits of images.
#[derive(Debug, Clone)]
pub struct Onnx {
    /// One pass at a time, as onnxruntime's memory arenas want it.
    session: Arc<Mutex<Session>>,
    input: String,
    /// Channels, height and width.
    image: [usize; 3],
    classes: usize,
    /// Images of a pass, where the file fixes them.
    batch: Option<usize>,
}

/// A shape, an open dimension as `?`.
fn shown(shape: &[i64]) -> String {
    let text = |&size: &i64| if size < 0 { "?".into() } else { size.to_string() };
    format!("[{}]", shape.iter().map(text).collect::<Vec<String>>().join(", "))
}

/// A tensor of floats, by its shape.
fn floats(kind: &ValueType) -> Option<&[i64]> {
    let shape =
        kind.tensor_shape().filter(|_| kind.tensor_type() == Some(TensorElementType::Float32));
    shape.map(|shape| &shape[..])
}

/// Whether a shape is `[?, rest..]`, or may be.
fn fits(shape: &[i64], rest: &[usize]) -> bool {
    let equal = |(&size, &own): (&i64, &usize)| size < 0 || usize::try_from(size) == Ok(own);
    shape.len() == rest.len() + 1 && shape[1..].iter().zip(rest).all(equal)
}

impl Onnx {
    /// The network of a file, for images of so many channels, rows and columns and so many classes; on
    /// so many threads, 0 for one on each core.
    ///
    /// # Errors
    /// What keeps it from being used, as the end of a sentence.
    pub fn open(
        path: &Path,
        image: [usize; 3],
        classes: usize,
        threads: usize,
    ) -> Result<Self, String> {
        let environment = environment()?;
        let builder = || -> ort::Result<_> {
            // Spinning threads would take the processor from the model that is trained.
            let builder = Session::builder(&environment)?.with_intra_threads(threads)?;
            Ok(builder.with_deterministic_compute(true)?.with_intra_op_spinning(false)?)
        };
        let mut builder = builder().map_err(line)?;
        let session = builder.commit_from_file(path).map_err(|error| {
            format!("it is no ONNX network that onnxruntime reads ({})", line(error))
        })?;
        let [input] = session.inputs() else {
            let count = session.inputs().len();
            return Err(format!("it has {count} inputs; expected one, of images"));
        };
        let [channels, height, width] = image;
        let shape = floats(input.dtype()).filter(|shape| fits(shape, &image)).ok_or_else(|| {
            format!(
                "expected images of float32 as [?, {channels}, {height}, {width}], as the run has \
                 them, and found an input {}",
                described(input.dtype())
            )
        })?;
        let batch = usize::try_from(shape[0]).ok().filter(|&count| count > 0);
        let output = session.outputs().first().map(|output| output.dtype());
        if !output.and_then(floats).is_some_and(|shape| fits(shape, &[classes])) {
            let found = output.map_or_else(|| "none".into(), described);
            return Err(format!(
                "expected logits of float32 as [?, {classes}], for the run's classes, and found an \
                 output {found}"
            ));
        }
        let input = input.name().to_string();
        let session = Arc::new(Mutex::new(session));
        let own = Self { session, input, image, classes, batch };
        // What the file leaves open shows in a pass.
        own.pass_all(&vec![0.0; channels * height * width])?;
        Ok(own)
    }

    /// Logits `[count, classes]` of images `[count, channels, height, width]`, row by row.
    ///
    /// # Errors
    /// What onnxruntime says.
    fn pass_all(&self, images: &[f32]) -> Result<Vec<f32>, String> {
        let size = self.image.iter().product::<usize>().max(1);
        let count = images.len() / size;
        let at_once = self.batch.unwrap_or(count).max(1);
        let mut logits = Vec::with_capacity(count * self.classes);
        for some in images.chunks(at_once * size) {
            if some.len() < at_once * size {
                let mut filled = some.to_vec();
                filled.resize(at_once * size, 0.0);
                self.pass(&filled, at_once, &mut logits)?;
            } else {
                self.pass(some, at_once, &mut logits)?;
            }
        }
        logits.truncate(count * self.classes);
        Ok(logits)
    }

    fn pass(&self, images: &[f32], count: usize, logits: &mut Vec<f32>) -> Result<(), String> {
        let [channels, height, width] = self.image;
        let images = TensorRef::from_array_view(([count, channels, height, width], images));
        let images = images.map_err(line)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session.run(inputs![self.input.as_str() => images]).map_err(line)?;
        let (shape, values) = outputs[0].try_extract_tensor::<f32>().map_err(line)?;
        let expected = [count, self.classes];
        if !shape.iter().copied().eq(expected.map(|size| size as i64)) {
            return Err(format!("expected logits {expected:?}, and found {}", shown(shape)));
        }
        logits.extend_from_slice(values);
        Ok(())
    }
}

fn described(kind: &ValueType) -> String {
    match (kind.tensor_shape(), kind.tensor_type()) {
        (Some(shape), Some(kind)) => format!("of {kind} as {}", shown(shape)),
        _ => "that is no tensor".into(),
    }
}

impl<B: TrainBackend> TeacherNetwork<B> for Onnx {
    fn logits(
        &self,
        images: Tensor<B::InnerBackend, 4>,
    ) -> Result<Tensor<B::InnerBackend, 2>, String> {
        let (count, device) = (images.dims()[0], images.device());
        let values: Vec<f32> = images.into_data().iter::<f32>().collect();
        let logits = TensorData::new(self.pass_all(&values)?, [count, self.classes]);
        Ok(Tensor::from_data(logits, &device))
    }

    fn on_device(&self, _device: &B::Device) -> Box<dyn TeacherNetwork<B>> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnxruntime::LIBRARY;
    use burn::backend::{Autodiff, Flex};
    use spvit_interchange::Target;
    use spvit_layers::{BlockConfig, Init, Mode, ModelConfig, Operation, Vit, VitConfig};
    use spvit_search::{Architecture, BlockArchitecture, CostModel};

    /// Our own models as ONNX networks, dense and compact, for a batch of five.
    #[test]
    fn exported_models_teach_their_own_logits() {
        if std::env::var_os(LIBRARY).is_none() {
            eprintln!("passed over: {LIBRARY} names no library of onnxruntime");
            return;
        }
        let device = Default::default();
        let shape: ModelConfig = VitConfig::deit([16, 4, 3, 7, 32, 3, 4]).into();
        let mut blocks = shape.dense_blocks();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("teacher.onnx");
        for operation in [Operation::Msa, Operation::BConv(3)] {
            blocks[1] = BlockConfig { operation, hidden: 20, heads: None };
            let model = Vit::<Flex>::new(&shape, &blocks, &mut Init::new(5, &device));
            let own = blocks.iter().map(BlockArchitecture::first).collect();
            let own = Architecture::new(shape.clone(), CostModel::Paper, own, None);
            spvit_interchange::write(&path, Target::Onnx, &model, &own, &Default::default())
                .unwrap();
            let images: Vec<f32> = (0..5 * 3 * 256).map(|i| (i as f32 * 0.37).sin()).collect();
            let images =
                Tensor::<Flex, 4>::from_data(TensorData::new(images, [5, 3, 16, 16]), &device);
            let expected = model.forward(images.clone(), &Mode::Evaluate);
            let logits = |threads: usize| {
                let onnx = Onnx::open(&path, [3, 16, 16], 7, threads).unwrap();
                TeacherNetwork::<Autodiff<Flex>>::logits(&onnx, images.clone()).unwrap()
            };
            let found = logits(0);
            assert_eq!(found.to_data(), logits(1).to_data(), "threads change bits");
            let error = (found - expected).abs().max().into_scalar();
            println!("{operation}: logits within {error:e}");
            assert!(error < 1e-4, "{operation}: logits differ by {error}");
        }

        let refused =
            |path: &Path, image, classes| Onnx::open(path, image, classes, 0).unwrap_err();
        let error = refused(&path, [3, 16, 16], 9);
        assert!(error.contains("[?, 9]") && error.contains("[?, 7]"), "{error}");
        let error = refused(&path, [1, 16, 16], 7);
        assert!(error.contains("[?, 1, 16, 16]") && error.contains("[?, 3, 16, 16]"), "{error}");
        std::fs::write(&path, "no network").unwrap();
        let error = refused(&path, [3, 16, 16], 7);
        assert!(error.starts_with("it is no ONNX network") && !error.contains('\n'), "{error}");
    }
}
