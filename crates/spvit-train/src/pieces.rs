//! Tensors that are larger than what a device can hold in one piece.

use spvit_core::TrainBackend;

use crate::{
    Phase, Run, TrainError,
    config::{RunConfig, TrainingConfig},
};

/// Bytes of a number.
const FLOAT: u64 = 4;

impl<B: TrainBackend> Run<'_, B> {
    /// Whether every tensor of a phase's step and of validation fits in one piece.
    pub(crate) fn check_pieces(
        &self,
        phase: Phase,
        training: &TrainingConfig,
    ) -> Result<(), TrainError> {
        let Some(limit) = B::largest_piece(self.device()) else { return Ok(()) };
        let devices = self.devices.count();
        match too_large(limit, &self.config, (phase, training), devices) {
            None => Ok(()),
            Some((source_name, problem)) => {
                let problem = format!("{}: {problem}", self.backend);
                Err(TrainError::Config { source_name, problem })
            }
        }
    }
}

/// What has more images than fit into pieces of `limit` bytes, and what to do.
fn too_large(
    limit: u64,
    config: &RunConfig,
    (phase, training): (Phase, &TrainingConfig),
    devices: usize,
) -> Option<(String, String)> {
    let convolves = matches!(phase, Phase::Search | Phase::Finetune);
    let kernel = convolves.then(|| config.model.space.largest_kernel());
    let blocks = config.model.blocks();
    let tensors = blocks.iter().map(|block| block.largest_tensor(kernel));
    let (what, numbers) = tensors.max_by_key(|(_, numbers)| *numbers)?;
    let bytes = FLOAT.saturating_mul(numbers.max(1) as u64);
    let most = usize::try_from(limit / bytes).unwrap_or(usize::MAX);
    let problem = |images: usize, remedy: String| {
        let needed = bytes.saturating_mul(images as u64).div_ceil(1 << 20);
        let limit = limit >> 20;
        format!(
            "{what} of {images} images take {needed} MiB in one piece, and this device has {limit} MiB for \
             one, enough for {most}: {remedy}"
        )
    };
    let (batch, at_once) = (training.batch_size, config.run.micro_batches.max(1) * devices);
    let part = |accumulate: usize| batch.div_ceil(accumulate.saturating_mul(at_once));
    if part(training.accumulate) > most {
        let remedy = match (1..=batch).find(|accumulate| part(*accumulate) <= most) {
            Some(accumulate) => format!("set {phase}.accumulate = {accumulate}"),
            None => "take a smaller model or smaller images".into(),
        };
        let name = format!("{phase}.batch_size = {batch}");
        return Some((name, problem(part(training.accumulate), remedy)));
    }
    let images = config.run.evaluation_batch;
    (images > most).then(|| {
        let name = format!("run.evaluation_batch = {images}");
        (name, problem(images, format!("set it to {most} or less")))
    })
}

#[cfg(test)]
mod tests {
    use spvit_layers::ModelConfig;

    use super::*;

    #[test]
    fn a_batch_that_does_not_fit_says_which_does() {
        let model = ModelConfig::preset("deit_small").unwrap();
        let mut config = RunConfig { model, ..RunConfig::default() };
        config.run.evaluation_batch = 64;
        let training = TrainingConfig { batch_size: 256, ..config.search.training() };
        let check = |limit, config: &RunConfig, training: &TrainingConfig, devices| {
            too_large(limit, config, (Phase::Search, training), devices)
        };
        // An FFN's 197 * 1536 numbers of an image are more than a convolution's (9 * 196 + 1) * 64.
        let image = 197 * 1536 * 4;
        assert_eq!(check(256 * image, &config, &training, 1), None);
        let (name, problem) = check(256 * image - 1, &config, &training, 1).unwrap();
        assert_eq!(name, "search.batch_size = 256");
        assert!(problem.contains("FFN of 256 images take 296 MiB"), "{problem}");
        assert!(problem.ends_with("enough for 255: set search.accumulate = 2"), "{problem}");
        // Two devices have half a batch each.
        assert_eq!(check(128 * image, &config, &training, 2), None);
        let apart = TrainingConfig { accumulate: 4, ..training.clone() };
        assert_eq!(check(64 * image, &config, &apart, 1), None);
        let (name, problem) = check(63 * image, &config, &apart, 2).unwrap();
        assert_eq!(name, "run.evaluation_batch = 64");
        assert!(problem.ends_with("set it to 63 or less"), "{problem}");
        let (_, problem) = check(image - 1, &config, &training, 1).unwrap();
        assert!(problem.ends_with("take a smaller model or smaller images"), "{problem}");
    }
}
