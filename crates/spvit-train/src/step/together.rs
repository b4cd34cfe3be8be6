//! What the processes that train together tell each other of a step, besides gradients.

use burn::tensor::Tensor;
use spvit_core::TrainBackend;
use spvit_layers::BatchStatistics;

use super::{StepGradients, StepReport};
use crate::{
    Processes, TrainError,
    processes::{bytes, floats},
};

/// Bytes of a number of the figures.
const NUMBER: usize = 8;

impl<B: TrainBackend> StepGradients<B> {
    /// Of another process's images.
    pub(super) fn count_for_nothing(&mut self) {
        self.report = StepReport::default();
        self.groups.iter_mut().for_each(|group| group.scale(0.0));
    }

    /// With figures and batch statistics of all processes, in the order of their parts; `counts` is whether
    /// this one's are of images of its own.
    pub(super) fn over(
        self,
        processes: &Processes,
        counts: bool,
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        let Some(like) = self.statistics.first().filter(|_| processes.count() > 1) else {
            return Ok(self);
        };
        let like: Vec<BatchStatistics<B>> = like.clone();
        let mut message = self.report.loss.to_le_bytes().to_vec();
        message.extend((self.report.correct as u64).to_le_bytes());
        if counts {
            message.extend(bytes(&flat(&self.statistics)));
        }
        let mut all = Self { report: StepReport::default(), statistics: Vec::new(), ..self };
        for message in processes.gather(&message)? {
            let (figures, statistics) = message.split_at(message.len().min(2 * NUMBER));
            let [loss, correct] = figures.as_chunks::<NUMBER>().0 else {
                let problem = "they are of different versions".into();
                return Err(TrainError::Processes { problem });
            };
            all.report.loss += f64::from_le_bytes(*loss);
            all.report.correct += u64::from_le_bytes(*correct) as usize;
            all.statistics.extend(apart(&floats(statistics), &like, device));
        }
        Ok(all)
    }
}

/// Means and variances in turn.
fn flat<B: TrainBackend>(statistics: &[Vec<BatchStatistics<B>>]) -> Vec<f32> {
    let tensors = statistics.iter().flatten();
    let tensors: Vec<_> =
        tensors.flat_map(|own| [own.mean.clone(), own.variance.clone()]).collect();
    match tensors.is_empty() {
        true => Vec::new(),
        false => Tensor::cat(tensors, 0).into_data().iter().collect(),
    }
}

/// What [`flat`] made of them.
fn apart<B: TrainBackend>(
    values: &[f32],
    like: &[BatchStatistics<B>],
    device: &B::Device,
) -> Vec<Vec<BatchStatistics<B>>> {
    let each: usize = like.iter().map(|own| 2 * own.mean.dims()[0]).sum();
    let shard = |values: &[f32]| {
        let mut rest = values;
        let mut next = |count: usize| {
            let (own, after) = rest.split_at(count);
            rest = after;
            Tensor::from_floats(own, device)
        };
        let statistics = like.iter().map(|own| {
            let count = own.mean.dims()[0];
            BatchStatistics { mean: next(count), variance: next(count), ..own.clone() }
        });
        statistics.collect()
    };
    values.chunks_exact(each.max(1)).map(shard).collect()
}
