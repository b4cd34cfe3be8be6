//! Models that fine-tuning follows.

mod of_run;
#[cfg(feature = "onnxruntime")]
mod onnx;
mod predictions;

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
pub(crate) use predictions::Predictions;
use spvit_core::{TrainBackend, fused::cross_entropy};
use spvit_layers::{Mode, Vit};

use crate::{
    TrainError,
    loss::{classes, soft_distillation},
    micro_batch::MicroBatch,
};

/// What gives a teacher's predictions.
pub trait TeacherNetwork<B: TrainBackend>: Send + Sync {
    /// Logits of images that are normalised as the network wants them.
    ///
    /// # Shapes
    /// - images: `[count, channels, height, width]`, output: `[count, classes]`.
    ///
    /// # Errors
    /// What keeps it from computing them, as the end of a sentence.
    fn logits(
        &self,
        images: Tensor<B::InnerBackend, 4>,
    ) -> Result<Tensor<B::InnerBackend, 2>, String>;

    /// The same on another device.
    fn on_device(&self, device: &B::Device) -> Box<dyn TeacherNetwork<B>>;
}

impl<B: TrainBackend> TeacherNetwork<B> for Vit<B::InnerBackend> {
    fn logits(
        &self,
        images: Tensor<B::InnerBackend, 4>,
    ) -> Result<Tensor<B::InnerBackend, 2>, String> {
        Ok(self.forward(images, &Mode::Evaluate))
    }

    fn on_device(&self, device: &B::Device) -> Box<dyn TeacherNetwork<B>> {
        Box::new(Module::to_device(self.clone(), device))
    }
}

/// Mean and standard deviation of every channel, of values from 0 to 1.
pub type Normalisation<'a> = [&'a [f32]; 2];

/// A teacher and how far the loss follows it.
pub struct Teacher<B: TrainBackend> {
    network: Box<dyn TeacherNetwork<B>>,
    /// Factor and summand of every channel, from the run's normalisation to the network's.
    channels: Option<Vec<[f32; 2]>>,
    /// Share of the loss that follows it, from 0 to 1.
    pub share: f64,
    /// At which its predictions are followed (soft distillation); 0 follows its likeliest classes
    /// (hard distillation).
    pub temperature: f64,
    /// Its choices, where others see the same images.
    kept: Option<Arc<Predictions>>,
    /// What kept the network from computing, the first time.
    failure: Arc<Mutex<Option<String>>>,
}

impl<B: TrainBackend> Teacher<B> {
    /// A teacher that wants images as the run normalises them.
    pub fn new(network: Box<dyn TeacherNetwork<B>>, share: f64, temperature: f64) -> Self {
        let (kept, failure) = (None, Arc::default());
        Self { network, channels: None, share, temperature, kept, failure }
    }

    /// The same on another device; what keeps one from computing is known to both.
    pub(crate) fn on_device(&self, device: &B::Device) -> Self {
        let Self { channels, kept, failure, .. } = self;
        let (channels, kept, failure) = (channels.clone(), kept.clone(), failure.clone());
        Self { network: self.network.on_device(device), channels, kept, failure, ..*self }
    }

    /// The same of a teacher that makes no choice twice.
    pub(crate) fn keeping(self, kept: Option<Arc<Predictions>>) -> Self {
        Self { kept, ..self }
    }

    /// The same of a network that was trained with images normalised by `own`, where the run's are by
    /// `run`.
    pub fn normalised(self, run: Normalisation, own: Normalisation) -> Self {
        // (x·s + m - M)/S, of an image x that is normalised by m and s.
        let channel = |index: usize| {
            let [m, s, mean, std] = [run[0][index], run[1][index], own[0][index], own[1][index]];
            let [m, s, mean, std] = [m, s, mean, std].map(f64::from);
            [(s / std) as f32, ((m - mean) / std) as f32]
        };
        let count = run[0].len().min(own[0].len());
        Self { channels: (run != own).then(|| (0..count).map(channel).collect()), ..self }
    }

    /// Logits of images that are normalised as the run's.
    ///
    /// # Shapes
    /// - images: `[count, channels, height, width]`, output: `[count, classes]`.
    ///
    /// # Errors
    /// What keeps the network from computing them, as the end of a sentence.
    pub fn logits(
        &self,
        images: Tensor<B::InnerBackend, 4>,
    ) -> Result<Tensor<B::InnerBackend, 2>, String> {
        let Some(channels) = &self.channels else { return self.network.logits(images) };
        let [factors, summands] = [0, 1].map(|part| {
            let values: Vec<f32> = channels.iter().map(|channel| channel[part]).collect();
            let values = TensorData::new(values, [1, channels.len(), 1, 1]);
            Tensor::<B::InnerBackend, 4>::from_data(values, &images.device())
        });
        self.network.logits(images * factors + summands)
    }

    /// Cross-entropy against the classes that the teacher chooses, or the divergence from its
    /// predictions, `[1]`, of a student's logits `[count, classes]` in a step of this number.
    pub(crate) fn follow(
        &self,
        logits: Tensor<B, 2>,
        batch: &MicroBatch<B>,
        step: u64,
    ) -> Tensor<B, 1> {
        self.followed(logits.clone(), batch, step).unwrap_or_else(|problem| {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(problem);
            (logits * 0.0).sum()
        })
    }

    fn followed(
        &self,
        logits: Tensor<B, 2>,
        batch: &MicroBatch<B>,
        step: u64,
    ) -> Result<Tensor<B, 1>, String> {
        let theirs = || self.logits(batch.images.clone().inner());
        if self.temperature > 0.0 {
            let theirs = Tensor::from_inner(theirs()?);
            return Ok(soft_distillation(logits, theirs, self.temperature, batch.total));
        }
        let [count, width] = logits.dims();
        let choose = || Ok(classes(theirs()?.into_data()));
        let chosen = match &self.kept {
            Some(kept) => kept.get((step, batch.first(), count), choose)?,
            None => choose()?,
        };
        let mut targets = vec![0.0f32; count * width];
        for (row, class) in chosen.into_iter().enumerate() {
            targets[row * width + class] = 1.0;
        }
        let targets = Tensor::from_data(TensorData::new(targets, [count, width]), &logits.device());
        Ok(cross_entropy(logits, targets, batch.total))
    }

    /// The error of a network that could not compute its logits: a step's loss is wrong then.
    pub(crate) fn failure(&self) -> Option<TrainError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map(|problem| TrainError::Config {
            source_name: "finetune.teacher".into(),
            problem: format!("it gives no logits: {problem}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use spvit_layers::{Init, VitConfig};

    #[test]
    fn a_teacher_sees_images_as_it_was_trained_with() {
        let device = Default::default();
        let shape: spvit_layers::ModelConfig = VitConfig::deit([8, 4, 3, 5, 16, 1, 2]).into();
        let model = Vit::<Flex>::new(&shape, &shape.dense_blocks(), &mut Init::new(3, &device));
        let plain: Vec<f32> = (0..2 * 3 * 64).map(|i| (i as f32 * 0.7).sin().abs()).collect();
        let normalised = |[mean, std]: Normalisation| {
            let value = |(i, x): (usize, &f32)| (x - mean[i / 64 % 3]) / std[i / 64 % 3];
            let values: Vec<f32> = plain.iter().enumerate().map(value).collect();
            Tensor::<Flex, 4>::from_data(TensorData::new(values, [2, 3, 8, 8]), &device)
        };
        let run: Normalisation = [&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]];
        let own: Normalisation = [&[0.5, 0.5, 0.4], &[0.5, 0.25, 0.3]];
        let expected = model.forward(normalised(own), &Mode::Evaluate);
        let teacher = |model: Vit<Flex>| Teacher::<Autodiff<Flex>>::new(Box::new(model), 0.5, 0.0);

        let found = teacher(model.clone()).normalised(run, own).logits(normalised(run)).unwrap();
        let error = (found - expected.clone()).abs().max().into_scalar();
        assert!(error < 1e-5, "logits differ by {error}");
        // Equal ones change no bit, and those of the run are others.
        let same = teacher(model.clone()).normalised(own, own).logits(normalised(own)).unwrap();
        assert_eq!(same.into_data(), expected.clone().into_data());
        let other = teacher(model).logits(normalised(run)).unwrap();
        assert!((other - expected).abs().max().into_scalar() > 1e-3);
    }

    #[test]
    fn a_network_that_fails_is_told() {
        struct Failing;
        impl TeacherNetwork<Autodiff<Flex>> for Failing {
            fn logits(&self, _images: Tensor<Flex, 4>) -> Result<Tensor<Flex, 2>, String> {
                Err("out of order".into())
            }

            fn on_device(
                &self,
                _: &<Flex as burn::tensor::backend::BackendTypes>::Device,
            ) -> Box<dyn TeacherNetwork<Autodiff<Flex>>> {
                Box::new(Failing)
            }
        }
        let device = Default::default();
        let teacher = Teacher::new(Box::new(Failing), 0.5, 0.0);
        assert!(teacher.failure().is_none());
        let batch = MicroBatch {
            places: vec![0],
            total: 1,
            images: Tensor::zeros([1, 1, 2, 2], &device),
            targets: Tensor::ones([1, 3], &device),
        };
        teacher.follow(Tensor::ones([1, 3], &device), &batch, 0);
        let error = teacher.failure().unwrap().to_string();
        assert_eq!(error, "finetune.teacher: it gives no logits: out of order");
    }
}
