//! The loop that pretraining, searching and fine-tuning share.

use std::time::Instant;

use spvit_data::{Batch, Loader};
use spvit_layers::state::StateDict;

use crate::{
    Event, Observer, Origin, Phase, Processes, TrainError,
    checkpoint::Position,
    config::{LoopConfig, TrainingConfig},
    events::{EpochReport, Progress},
    folder::RunFolder,
    gate_metrics::GateReport,
    results,
    schedule::Schedule,
    step::StepReport,
};

/// How a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All its epochs are done.
    Finished,
    /// It was asked to stop, and wrote a checkpoint.
    Stopped,
}

/// An epoch's figures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validation {
    /// On the validation split, 0 to 1, if it has images.
    pub accuracy: Option<f64>,
    /// FLOPs of the architecture that was validated, while searching.
    pub derived_flops: Option<u64>,
    /// Milliseconds of that architecture, by the table, where the budget is one of time.
    pub derived_milliseconds: Option<f64>,
    /// Whether these weights may be chosen before the last epoch.
    pub eligible: bool,
}

/// What differs between phases.
pub(crate) trait Training {
    /// Which one it is.
    fn phase(&self) -> Phase;

    /// Trains on one batch.
    fn step(
        &mut self,
        batch: &Batch,
        step: usize,
        learning_rate: f64,
    ) -> Result<StepReport, TrainError>;

    /// Is told how many steps the phase has, before the first one.
    fn begin(&mut self, _steps: usize) {}

    /// Is told that an epoch's last step is taken, before its figures are asked for.
    fn end_epoch(&mut self) {}

    /// FLOPs at the expected gates and the budget, while searching; within an epoch perhaps of some steps
    /// before.
    fn flops(&self) -> Option<(u64, u64)> {
        None
    }

    /// Milliseconds at the expected gates and the budget, while searching within a time; as [`Training::flops`].
    fn milliseconds(&self) -> Option<[f64; 2]> {
        None
    }

    /// The gates after this many epochs, while searching.
    fn gate_report(&self, _epoch: usize) -> Option<GateReport> {
        None
    }

    /// Evaluates on the validation split.
    fn validate(&mut self, images: &Loader) -> Result<Validation, TrainError>;

    /// All tensors that a resumed run needs.
    fn state(&self) -> StateDict;

    /// Number of optimiser steps taken.
    fn optimiser_steps(&self) -> i32;

    /// Takes up where [`Training::state`] was taken.
    fn restore(&mut self, position: &Position, state: &StateDict) -> Result<(), TrainError>;

    /// Writes the current weights as the phase's best.
    fn write_best(&self, folder: &RunFolder, origin: &Origin) -> Result<(), TrainError>;
}

/// A phase's surroundings.
pub(crate) struct Surroundings<'a> {
    pub folder: &'a RunFolder,
    pub training: TrainingConfig,
    pub run: &'a LoopConfig,
    pub train: Loader,
    pub validation: Option<Loader>,
    /// What the phase is computed with.
    pub origin: Origin,
    /// Of which the first one writes.
    pub processes: Processes,
    pub observer: &'a mut dyn Observer,
}

/// Runs a phase to its end, from its last checkpoint if it has one.
pub(crate) fn run<T: Training>(
    subject: &mut T,
    around: Surroundings<'_>,
) -> Result<Outcome, TrainError> {
    let Surroundings { folder, training, run, train, validation, origin, processes, observer } =
        around;
    let phase = subject.phase();
    let writes = processes.is_first();
    if !writes {
        // Where the first one stands, below.
        processes.mirror(folder.root())?;
    }
    let steps = train.batches_per_epoch();
    let schedule = Schedule::new(&training, steps);
    subject.begin(training.epochs * steps);
    let mut at = match folder.read_checkpoint(phase)? {
        Some((position, state, notes)) => {
            for note in notes {
                observer.event(Event::Message(&format!("{note}; going back to the one before it")));
            }
            if writes {
                for note in check(&position, &origin, folder, phase)? {
                    observer.event(Event::Message(&note));
                }
            }
            subject.restore(&position, &state)?;
            let place = format!("{}: going on at step {}", phase, position.step);
            observer.event(Event::Message(&place));
            position
        }
        None => Position {
            origin: None,
            step: 0,
            epoch: 0,
            batch: 0,
            loss_sum: 0.0,
            correct: 0,
            images: 0,
            best: None,
            metrics_length: {
                // An earlier attempt may have ended before its first checkpoint.
                folder.forget_metrics(&[phase])?;
                folder.metrics_length()
            },
            optimiser_steps: 0,
        },
    };
    if let Some(gates) = subject.gate_report(0) {
        folder.keep_gates((at.step > 0).then_some(at.epoch))?;
        if at.step == 0 {
            folder.append_gates(&gates)?;
        }
    }
    let began = Instant::now();
    let first_step = at.step;
    let mut images_seen = 0;
    let mut saved = Instant::now();
    let checkpoint = |subject: &T, at: &mut Position| {
        if !writes {
            return Ok(());
        }
        at.optimiser_steps = subject.optimiser_steps();
        at.origin = Some(origin.clone());
        folder.write_checkpoint(phase, at, &subject.state())
    };

    if writes && processes.count() > 1 {
        checkpoint(subject, &mut at)?;
        processes.mirror(folder.root())?;
    }
    while at.epoch < training.epochs {
        for batch in train.epoch(at.epoch as u64, at.batch) {
            let batch = batch?;
            for note in train.broken().take_notes() {
                observer.event(Event::Message(&note));
            }
            // A batch of which no image could be read is not given, and its step not taken.
            (at.batch, at.step) = (batch.index, at.epoch * steps + batch.index);
            let report = subject.step(&batch, at.step, schedule.at(at.step))?;
            if !report.loss.is_finite() {
                let (loss, step) = (report.loss as f32, at.step);
                return Err(TrainError::Diverged { phase, loss, step });
            }
            let images = batch.shape[0];
            at.step += 1;
            at.batch += 1;
            at.loss_sum += report.loss * images as f64;
            at.correct += report.correct;
            at.images += images;
            images_seen += images;
            let elapsed = began.elapsed().as_secs_f64();
            let (flops, target) = subject.flops().unzip();
            let left = (training.epochs * steps - at.step) as f64;
            observer.event(Event::Progress(&Progress {
                phase,
                epoch: at.epoch,
                epochs: training.epochs,
                step: at.batch,
                steps,
                loss: at.loss_sum / at.images.max(1) as f64,
                accuracy: at.correct as f64 / at.images as f64,
                flops,
                target,
                milliseconds: subject.milliseconds(),
                images_per_second: images_seen as f64 / elapsed,
                seconds_left: left * elapsed / (at.step - first_step) as f64,
            }));
            let stop = processes.any(observer.stop_requested())?;
            if stop || saved.elapsed().as_secs_f64() >= run.checkpoint_seconds {
                checkpoint(subject, &mut at)?;
                saved = Instant::now();
            }
            if stop {
                return Ok(Outcome::Stopped);
            }
        }

        subject.end_epoch();
        let last = at.epoch + 1 == training.epochs;
        let figures = match &validation {
            Some(images) => {
                let figures = subject.validate(images)?;
                for note in images.broken().take_notes() {
                    observer.event(Event::Message(&note));
                }
                figures
            }
            // Nothing to choose by: the last epoch is taken.
            None => Validation {
                accuracy: None,
                derived_flops: None,
                derived_milliseconds: None,
                eligible: last,
            },
        };
        let accuracy = figures.accuracy.unwrap_or(0.0);
        let better = at.best.is_none_or(|best| accuracy > best);
        let best = (figures.eligible && better) || (last && at.best.is_none());
        if best {
            at.best = Some(accuracy);
            if writes {
                subject.write_best(folder, &origin)?;
            }
        }
        let report = EpochReport {
            phase,
            epoch: at.epoch,
            epochs: training.epochs,
            loss: at.loss_sum / at.images.max(1) as f64,
            train_accuracy: at.correct as f64 / at.images.max(1) as f64,
            validation_accuracy: figures.accuracy,
            learning_rate: schedule.at(at.step.saturating_sub(1)),
            flops: subject.flops().map(|(flops, _)| flops),
            derived_flops: figures.derived_flops,
            milliseconds: subject.milliseconds().map(|[expected, _]| expected),
            derived_milliseconds: figures.derived_milliseconds,
            best,
        };
        at.metrics_length = folder.append_metrics(&report)?;
        at.epoch += 1;
        if let Some(gates) = subject.gate_report(at.epoch) {
            folder.append_gates(&gates)?;
        }
        (at.batch, at.loss_sum, at.correct, at.images) = (0, 0.0, 0, 0);
        checkpoint(subject, &mut at)?;
        saved = Instant::now();
        observer.event(Event::Epoch(&report));
        if processes.any(observer.stop_requested())? && !last {
            return Ok(Outcome::Stopped);
        }
    }
    if training.epochs == 0 && writes {
        subject.write_best(folder, &origin)?;
    }
    Ok(Outcome::Finished)
}

/// Whether a phase can go on from a checkpoint with what the run has now; remarks.
fn check(
    position: &Position,
    origin: &Origin,
    folder: &RunFolder,
    phase: Phase,
) -> Result<Vec<String>, TrainError> {
    let checkpoints = folder.root().join("checkpoints");
    let mut notes = Vec::new();
    match &position.origin {
        Some(before) => {
            before.check(origin, (folder, phase), &checkpoints, true)?;
        }
        None => notes.push(format!(
            "{}: written by an earlier version; its configuration, images and device cannot be checked",
            checkpoints.display()
        )),
    }
    if position.best.is_some() {
        // Better now than when the phase ends.
        results::read(&folder.best(phase), &format!("--redo {phase} does the phase anew"))?;
    }
    let lacking = folder.truncate_metrics(position.metrics_length)?;
    if lacking > 0 {
        notes.push(format!(
            "{}: {lacking} bytes of earlier epochs are gone; the models do not depend on them",
            folder.metrics().display()
        ));
    }
    Ok(notes)
}
