//! Candidates for a search's start, trained briefly: what a few steps mend is worth less than what they
//! do not.

use burn::tensor::{Tensor, TensorData};
use spvit_core::{TrainBackend, fused::cross_entropy};
use spvit_data::Loader;
use spvit_layers::{Init, Mode, Vit, state};
use spvit_search::Candidate;

use crate::{
    Event, Phase, Run, Teacher, TrainError,
    classify::{Classify, MODEL, restore_model},
    config::TrainingConfig,
    epochs::Training,
    schedule::Schedule,
};

/// Share of a trial's loss that follows the dense model.
const TEACHER: f64 = 0.5;

impl<B: TrainBackend> Run<'_, B> {
    /// Which blocks keep attention in the candidate that has the least cross-entropy on the validation
    /// images (those that importance was measured on, where there are none) after `search.trial_steps`
    /// steps at the search's rates, half of the loss following the dense model; `None` if it was stopped.
    pub(crate) fn try_out(
        &mut self,
        mut among: Vec<Candidate<B::InnerBackend>>,
    ) -> Result<Option<Vec<bool>>, TrainError> {
        among.sort_by(|a, b| a.loss.total_cmp(&b.loss));
        let steps = self.config.search.trial_steps;
        if steps == 0 {
            among.truncate(1);
        }
        if self.observer.stop_requested() {
            return Ok(None);
        }
        let count = among.len();
        let mut best: Option<(f64, Vec<bool>)> = None;
        for (number, candidate) in among.into_iter().enumerate() {
            let kept = candidate.kept.clone();
            let blocks: Vec<String> = (0..kept.len())
                .filter(|&block| kept[block])
                .map(|block| block.to_string())
                .collect();
            let blocks = blocks.join(", ");
            if count == 1 {
                self.say(&format!("attention in blocks {blocks}"));
                return Ok(Some(kept));
            }
            let before = candidate.loss;
            let Some(loss) = self.trial(candidate, steps, (number, count))? else {
                return Ok(None);
            };
            self.say(&format!(
                "attention in blocks {blocks}: {before:.4} nats from the dense model, loss {loss:.4} \
                 after {steps} steps"
            ));
            let loss = if loss.is_nan() { f64::INFINITY } else { loss };
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, kept));
            }
        }
        Ok(Some(best.map_or_else(|| vec![true; self.config.model.depth()], |(_, kept)| kept)))
    }

    fn trial(
        &mut self,
        candidate: Candidate<B::InnerBackend>,
        steps: usize,
        (number, count): (usize, usize),
    ) -> Result<Option<f64>, TrainError> {
        let training = self.config.search.training();
        let training = TrainingConfig { epochs: 1, warmup_epochs: 0.0, ..training };
        let (train, validation) = self.loaders(&training, Phase::Search)?;
        let schedule = Schedule::new(&training, steps);
        // A parameter remembers whether it wanted a gradient when it was made.
        let blocks = candidate.architecture.block_configs();
        let fresh = Vit::<B>::new(&self.config.model, &blocks, &mut Init::new(0, self.device()));
        let own = state::export(&candidate.model).into_iter();
        let own = own.map(|(name, data)| (format!("{MODEL}{name}"), data)).collect();
        let model = restore_model(fresh, &own, (MODEL, Phase::Search))?;
        let dense = self.dense::<B::InnerBackend>()?.model;
        let teacher = Some(Teacher::new(Box::new(dense), TEACHER, 0.0));
        let config = self.config.clone();
        let own = (config.seed, &config.run);
        let model = (model, candidate.architecture, self.input());
        // The other processes wait.
        let devices = self.devices.here();
        let mut subject = Classify::new(Phase::Finetune, model, teacher, &training, own, &devices);
        let mut step = 0;
        'steps: for epoch in 0.. {
            let mut any = false;
            for batch in train.epoch(epoch, 0) {
                if step == steps {
                    break 'steps;
                }
                subject.step(&batch?, step, schedule.at(step))?;
                (any, step) = (true, step + 1);
                let (block, blocks) = (number * steps + step, count * steps);
                self.observer.event(Event::Measuring { block: block - 1, blocks });
                if self.observer.stop_requested() {
                    return Ok(None);
                }
            }
            if !any {
                break;
            }
        }
        let model = subject.weights();
        let loss = match validation {
            Some(images) => self.cross_entropy(&model, &images)?,
            None => {
                let images = self.calibration(self.config.search.start_images)?;
                let (sum, count) = images.into_iter().fold((0.0, 0), |(sum, all), (x, y)| {
                    let count = x.dims()[0];
                    let logits = model.forward(x, &Mode::Evaluate);
                    let loss = cross_entropy(logits, y, 1).into_data();
                    (sum + loss.iter::<f64>().sum::<f64>(), all + count)
                });
                sum / count.max(1) as f64
            }
        };
        Ok(Some(loss))
    }

    /// Mean cross-entropy of a model.
    fn cross_entropy(
        &self,
        model: &Vit<B::InnerBackend>,
        images: &Loader,
    ) -> Result<f64, TrainError> {
        let (mut sum, mut count) = (0.0, 0);
        let classes = self.config.model.classes();
        for batch in images.epoch(0, 0) {
            let batch = batch?;
            let here = batch.shape[0];
            count += here;
            let x = Tensor::from_data(TensorData::new(batch.images, batch.shape), self.device());
            let y = TensorData::new(batch.targets, [here, classes]);
            let logits = model.forward(x, &Mode::Evaluate);
            let loss = cross_entropy(logits, Tensor::from_data(y, self.device()), 1);
            sum += loss.into_data().iter::<f64>().sum::<f64>();
        }
        Ok(sum / f64::from(u32::try_from(count.max(1)).unwrap_or(u32::MAX)))
    }
}
