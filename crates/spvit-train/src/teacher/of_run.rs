//! The teacher that a run's configuration names.

use std::path::{Path, PathBuf};

use spvit_core::TrainBackend;
use spvit_interchange::{Description, Imported, Input, ReadOptions, describe, read, weights_file};
use spvit_layers::ModelConfig;

use super::{Teacher, TeacherNetwork};
use crate::{
    Run, TrainError,
    config::{FinetuneConfig, other_order},
    random::{self, Purpose},
    results,
};

/// An error about the named teacher.
fn wrong(path: &Path, problem: impl Into<String>) -> TrainError {
    let source_name = format!("finetune.teacher = {}", path.display());
    TrainError::Config { source_name, problem: problem.into() }
}

/// Why a model's logits cannot be compared with those of a run's.
fn unfit(own: &ModelConfig, teacher: &ModelConfig, head: bool) -> Option<String> {
    let size = |config: &ModelConfig| {
        let [height, width] = config.image_size();
        format!("{height} x {width}")
    };
    if !head {
        return Some("it has no classifier: its predictions mean nothing".into());
    }
    [
        ("classes", own.classes().to_string(), teacher.classes().to_string()),
        ("channels", own.channels().to_string(), teacher.channels().to_string()),
        ("pixels", size(own), size(teacher)),
    ]
    .into_iter()
    .find(|(_, expected, found)| expected != found)
    .map(|(what, expected, found)| {
        format!("expected {expected} {what}, as the run's images have, and found {found}")
    })
}

impl<B: TrainBackend> Run<'_, B> {
    /// What fine-tuning follows, if it follows anything.
    pub(crate) fn teacher(&mut self) -> Result<Option<Teacher<B>>, TrainError> {
        let FinetuneConfig { distillation: share, distillation_temperature, teacher, .. } =
            self.config.finetune.clone();
        if share == 0.0 {
            return Ok(None);
        }
        let kept = self.shared.predictions.clone();
        let new = |network| Teacher::new(network, share, distillation_temperature).keeping(kept);
        if teacher.as_os_str().is_empty() {
            return Ok(Some(new(self.dense_teacher()?)));
        }
        if !teacher.exists() {
            let hint = "fine-tuning follows it (finetune.teacher): put it back, or name another";
            return Err(TrainError::Missing { path: teacher, hint: hint.into() });
        }
        let onnx = teacher.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
        let (network, input) = match onnx {
            true => (self.onnx_teacher(&teacher)?, Input::default()),
            false => self.vit_teacher(&teacher)?,
        };
        let [mean, std] = self.teachers_normalisation(&teacher, &input)?;
        let run = [&self.data.mean[..], &self.data.std];
        Ok(Some(new(network).normalised(run, [&mean, &std])))
    }

    /// SHA-256 of what [`Run::teacher`] reads.
    pub(crate) fn teacher_digest(&self) -> Option<String> {
        let FinetuneConfig { distillation, teacher, .. } = &self.config.finetune;
        if *distillation == 0.0 {
            return None;
        }
        if teacher.as_os_str().is_empty() {
            return results::file_digest(&self.dense_path());
        }
        let file = weights_file(teacher).ok()?;
        let mut digest = results::file_digest(&file)?;
        // Where PyTorch's and Hugging Face's exporters put an ONNX network's weights.
        for ending in [".data", "_data"] {
            let mut beside = file.clone().into_os_string();
            beside.push(ending);
            if let Some(more) = results::file_digest(&PathBuf::from(beside)) {
                digest = format!("{digest}+{more}");
            }
        }
        Some(digest)
    }

    fn dense_teacher(&mut self) -> Result<Box<dyn TeacherNetwork<B>>, TrainError> {
        let dense = self.dense::<B::InnerBackend>()?;
        if dense.new_head {
            let (classes, weights) = (self.config.model.classes(), self.dense_path());
            return Err(TrainError::Config {
                source_name: format!(
                    "finetune.distillation = {}",
                    self.config.finetune.distillation
                ),
                problem: format!(
                    "the teacher, {}, has no head for {classes} classes: its predictions mean \
                     nothing; set finetune.distillation = 0, or dense.weights to a model that was \
                     trained on these classes",
                    weights.display()
                ),
            });
        }
        Ok(Box::new(dense.model))
    }

    /// A model of any family that spvit reads, and how images come to it.
    fn vit_teacher(
        &mut self,
        path: &Path,
    ) -> Result<(Box<dyn TeacherNetwork<B>>, Input), TrainError> {
        let options = ReadOptions::default();
        let Description { architecture, head, input, .. } = describe(path, &options)?;
        if let Some(problem) = unfit(&self.config.model, &architecture.model, head) {
            return Err(wrong(path, problem));
        }
        let names = &self.data.class_names;
        if other_order(&input.class_names, names).is_some() {
            let problem = "it has the run's classes in another order; --set data.images.classes=[..] \
                           gives the images its order";
            return Err(wrong(path, problem));
        }
        let unsure = input.class_names != *names;
        let seed = random::seed(self.config.seed, Purpose::Weights);
        let Imported { model, mut notes, .. } =
            read::<B::InnerBackend>(path, &options, seed, self.device())?;
        if unsure {
            notes.push("its classes are taken to be the run's, in their order".into());
        }
        for note in notes {
            self.say_of_teacher(path, &note);
        }
        Ok((Box::new(model), input))
    }

    #[cfg(feature = "onnxruntime")]
    fn onnx_teacher(&mut self, path: &Path) -> Result<Box<dyn TeacherNetwork<B>>, TrainError> {
        let (model, [height, width]) = (&self.config.model, self.config.model.image_size());
        let image = [model.channels(), height, width];
        let network = super::onnx::Onnx::open(path, image, model.classes(), 0)
            .map_err(|problem| wrong(path, problem))?;
        self.say_of_teacher(path, "its classes are taken to be the run's, in their order");
        Ok(Box::new(network))
    }

    #[cfg(not(feature = "onnxruntime"))]
    fn onnx_teacher(&mut self, path: &Path) -> Result<Box<dyn TeacherNetwork<B>>, TrainError> {
        let problem = "this program was built without onnxruntime, which computes ONNX networks; \
                       rebuild with --features onnxruntime, or name a model that spvit reads";
        Err(wrong(path, problem))
    }

    /// Mean and deviation that the teacher was trained with.
    fn teachers_normalisation(
        &mut self,
        path: &Path,
        input: &Input,
    ) -> Result<[Vec<f32>; 2], TrainError> {
        let FinetuneConfig { teacher_mean, teacher_std, .. } = &self.config.finetune;
        let given = [teacher_mean, teacher_std].map(|values| values.iter().map(|&v| v as f32));
        if !teacher_mean.is_empty() {
            return Ok(given.map(Iterator::collect));
        }
        let own = [self.data.mean.clone(), self.data.std.clone()];
        let told = match (&input.mean, &input.std) {
            (Some(mean), Some(std)) => [mean.clone(), std.clone()],
            _ => {
                let note = "it does not say how its images are normalised: as the run's, unless \
                            finetune.teacher_mean and finetune.teacher_std are set";
                self.say_of_teacher(path, note);
                return Ok(own);
            }
        };
        if told.iter().any(|values| values.len() != own[0].len()) {
            let (expected, found) = (own[0].len(), told[0].len());
            let problem = format!(
                "expected mean and deviation of {expected} channels, as the run's images have, and \
                 found {found}"
            );
            return Err(wrong(path, problem));
        }
        Ok(told)
    }

    fn say_of_teacher(&mut self, path: &Path, note: &str) {
        self.say_once(&format!("{}: {note}", path.display()));
    }
}
