//! Where a search's thresholds begin.

use burn::{
    module::AutodiffModule,
    tensor::{Tensor, TensorData},
};
use spvit_core::TrainBackend;
use spvit_data::{Loader, LoaderOptions};
use spvit_layers::Vit;
use spvit_search::{BlockScores, Gates, Labelled, candidates, importance};

use crate::{
    Event, Run, TrainError,
    config::{RunConfig, ThresholdStart},
    random::{self, Purpose},
};

impl<B: TrainBackend> Run<'_, B> {
    /// Some training images as evaluation sees them, in batches, with their targets.
    pub(crate) fn calibration(
        &self,
        count: usize,
    ) -> Result<Vec<Labelled<B::InnerBackend>>, TrainError> {
        let count = count.min(self.data.train.len());
        let batch = self.config.search.batch_size.min(count);
        let mut options = LoaderOptions::evaluation(self.config.model.image_size(), batch);
        options.seed = random::seed(self.config.seed, Purpose::Calibration);
        options.shuffle = true;
        options.threads = self.config.data.threads;
        options.transform = self.config.data.transform.clone();
        let data = &self.data;
        let loader =
            Loader::new(data.train.clone(), &data.mean, &data.std, options)?.sharing(&data.broken);
        let mut batches = Vec::new();
        let mut left = count;
        for batch in loader.epoch(0, 0) {
            let batch = batch?;
            let (here, shape) = (left.min(batch.shape[0]), batch.shape);
            if here == 0 {
                break;
            }
            left -= here;
            let targets = [shape[0], self.config.model.classes()];
            let x = Tensor::<_, 4>::from_data(TensorData::new(batch.images, shape), self.device());
            let y =
                Tensor::<_, 2>::from_data(TensorData::new(batch.targets, targets), self.device());
            batches.push((x.narrow(0, 0, here), y.narrow(0, 0, here)));
        }
        match batches.is_empty() {
            true => Err(TrainError::Config {
                source_name: self.config.data.folder.display().to_string(),
                problem: "none of the training images that were drawn can be read; replace broken \
                          ones, or raise search.start_images and finetune.refit"
                    .into(),
            }),
            false => Ok(batches),
        }
    }

    /// Gates before the first step of a search from this dense model; `None` if it was stopped.
    pub(crate) fn first_gates(&mut self, dense: &Vit<B>) -> Result<Option<Gates<B>>, TrainError> {
        let config = self.config.clone();
        let limits = config.limits();
        let table = limits.together();
        let scores = match config.search.start {
            ThresholdStart::Constant => return Ok(Some(constant_gates(&config, self.device()))),
            ThresholdStart::Importance => {
                let images = self.calibration(config.search.start_images)?;
                let count: usize = images.iter().map(|(batch, _)| batch.dims()[0]).sum();
                if self.shared.importance.get().is_none() {
                    self.say(&format!("measuring what every part of the dense model is worth, on {count} training images"));
                    let observer = &mut *self.observer;
                    let found = importance(dense, &images, |block, blocks| {
                        observer.event(Event::Measuring { block, blocks });
                        !observer.stop_requested()
                    });
                    if observer.stop_requested() {
                        return Ok(None);
                    }
                    let _ = self.shared.importance.set(found);
                }
                let shared = self.shared.importance.clone();
                let found = shared.get().map_or(&[][..], Vec::as_slice);
                let observer = &mut *self.observer;
                let pairs = table.blocks.iter().zip(found);
                let scores: Vec<BlockScores> =
                    pairs.map(|(cost, found)| BlockScores::of_importance(cost, found)).collect();
                let images: Vec<_> = images.into_iter().map(|(batch, _)| batch).collect();
                let dense = dense.valid();
                let among =
                    candidates(&dense, (&config.model, &limits), &scores, &images, |i, of| {
                        observer.event(Event::Measuring { block: i, blocks: of });
                        !observer.stop_requested()
                    });
                let Some(kept) = self.try_out(among)? else { return Ok(None) };
                let pairs = scores.into_iter().zip(kept);
                pairs.map(|(block, kept)| block.with_attention(kept)).collect()
            }
            ThresholdStart::Magnitude => BlockScores::of_magnitude(&dense.valid(), &table),
            ThresholdStart::Uniform => {
                let scores = BlockScores::of_magnitude(&dense.valid(), &table).into_iter();
                scores.map(BlockScores::level).collect()
            }
            ThresholdStart::Random => {
                random_scores(BlockScores::of_magnitude(&dense.valid(), &table), config.seed)
            }
        };
        let gates = Gates::ranked(&table, &scores, self.device());
        let first = match config.search.epochs {
            0 => limits,
            _ => config.fallen(&limits, &config.dense_costs(), 0.0),
        };
        Ok(Some(gates.projected(&first)))
    }
}

/// Gates whose thresholds are all alike.
pub(crate) fn constant_gates<B: TrainBackend>(config: &RunConfig, device: &B::Device) -> Gates<B> {
    Gates::new(&config.cost_table(), config.search.threshold_start, device)
}

/// Another width for every FFN, its dimensions in their own order, and attention here and there.
fn random_scores(scores: Vec<BlockScores>, seed: u64) -> Vec<BlockScores> {
    let draws = random::gate_uniforms(seed, u64::MAX, &vec![[1, 1, 0]; scores.len()]);
    let pairs = scores.into_iter().map(BlockScores::level).zip(draws);
    pairs
        .map(|(mut block, draw)| {
            for score in &mut block.ffn {
                *score += f64::from(draw.ffn[0]);
            }
            BlockScores { attention: 2.0 * f64::from(draw.operations[0]) - 1.0, ..block }
        })
        .collect()
}
