//! A step's figures, which stay on the device until they are read at once: each reading waits for it.

use burn::tensor::{Tensor, Transaction, backend::Backend};
use spvit_core::TrainBackend;

use super::{StepGradients, StepReport};
use crate::loss;

/// What a micro-batch's figures are made of.
pub(super) struct Figures<B: Backend> {
    /// Its part of the batch's loss.
    pub loss: Tensor<B, 1>,
    pub logits: Tensor<B, 2>,
    pub labels: Vec<u16>,
}

impl<B: TrainBackend> StepGradients<B> {
    /// Adds what is unread to the report.
    pub(super) fn read(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        self.report = read(self.report, unread, None).0;
    }
}

/// The report with these figures added in their order, and what else was read with them.
pub(super) fn read<B: Backend>(
    mut report: StepReport,
    unread: Vec<Figures<B>>,
    besides: Option<Tensor<B, 1>>,
) -> (StepReport, Option<Vec<f32>>) {
    if unread.is_empty() && besides.is_none() {
        return (report, None);
    }
    let mut all = Transaction::default();
    let mut labels = Vec::with_capacity(unread.len());
    for figures in unread {
        all = all.register(figures.loss).register(figures.logits);
        labels.push(figures.labels);
    }
    let some = besides.is_some();
    if let Some(besides) = besides {
        all = all.register(besides);
    }
    let mut all = all.execute().into_iter();
    for labels in labels {
        report.loss += all.next().map_or(f64::NAN, |value| value.iter::<f64>().sum());
        report.correct += all.next().map_or(0, |logits| loss::correct(logits, &labels));
    }
    let besides = all.next().filter(|_| some).map(|values| values.iter::<f32>().collect());
    (report, besides)
}
