//! Progress on stderr: a bar on a terminal, plain lines elsewhere.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use spvit_layers::BlockConfig;
use spvit_report::numbers::{flops_text, percent};
use spvit_search::Timing;
use spvit_train::{EpochReport, Event, Observer, Progress, TrainError, latency::Scale};

use crate::{
    interrupt,
    output::{plain, tell},
    timing,
};

/// Seconds between plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Shows a run's events.
pub struct Display {
    bar: Option<ProgressBar>,
    terminal: bool,
    printed: Instant,
}

impl Display {
    pub fn new() -> Self {
        Self { bar: None, terminal: stderr().is_terminal(), printed: Instant::now() }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(plain(text)),
            None => tell(text),
        }
    }

    fn progress(&mut self, progress: &Progress) {
        if !self.terminal {
            if self.printed.elapsed() >= PLAIN_INTERVAL {
                self.printed = Instant::now();
                let Progress { phase, epoch, epochs, step, steps, .. } = progress;
                let place = format!("{phase} epoch {}/{epochs} step {step}/{steps}", epoch + 1);
                tell(format!("{place}: {}", figures(progress)));
            }
            return;
        }
        let bar = self.bar();
        let Progress { phase, epoch, epochs, step, steps, .. } = progress;
        bar.set_length((epochs * steps) as u64);
        bar.set_prefix(format!("{phase} {}/{epochs}", epoch + 1));
        bar.set_message(figures(progress));
        bar.set_position((epoch * steps + step) as u64);
    }

    fn bar(&mut self) -> &ProgressBar {
        self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(0);
            let template = "{prefix} {bar:24} {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        })
    }

    fn counting(&mut self, place: String, done: usize, of: usize) {
        match self.terminal {
            true => {
                let bar = self.bar();
                bar.set_length(of as u64);
                bar.set_prefix(place);
                bar.set_message("");
                bar.set_position(done as u64);
            }
            false if self.printed.elapsed() >= PLAIN_INTERVAL => {
                self.printed = Instant::now();
                tell(place);
            }
            false => {}
        }
    }

    fn epoch(&mut self, report: &EpochReport) {
        let EpochReport { phase, epoch, epochs, loss, .. } = report;
        let mut line = format!(
            "{phase} epoch {}/{epochs} done: loss {loss:.4}, training {}",
            epoch + 1,
            percent(report.train_accuracy),
        );
        if let Some(accuracy) = report.validation_accuracy {
            line += &format!(", validation {}", percent(accuracy));
        }
        if let Some(flops) = report.flops {
            line += &format!(", expected {}", flops_text(flops));
        }
        if let Some(flops) = report.derived_flops {
            line += &format!(", derived {}", flops_text(flops));
        }
        if let (Some(expected), Some(derived)) = (report.milliseconds, report.derived_milliseconds)
        {
            line += &format!(", expected {expected:.3} ms, derived {derived:.3} ms");
        }
        if report.best {
            line += ", best so far";
        }
        self.line(&line);
        if epoch + 1 == *epochs
            && let Some(bar) = self.bar.take()
        {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Display {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Message(text) => self.line(text),
            Event::Measuring { block, blocks } => {
                self.counting(format!("block {}/{blocks}", block + 1), block, blocks);
            }
            Event::Timing { done, of } => {
                self.counting(format!("timing models, {done}/{of} at most"), done, of);
            }
            Event::Progress(progress) => self.progress(progress),
            Event::Epoch(report) => self.epoch(report),
        }
    }

    fn stop_requested(&self) -> bool {
        interrupt::requested()
    }

    #[allow(clippy::result_large_err)]
    fn time_models(
        &mut self,
        scale: Scale<'_>,
        models: &[Vec<BlockConfig>],
    ) -> Option<Result<Vec<Timing>, TrainError>> {
        let times = timing::time(scale, models, |done, of| {
            self.event(Event::Timing { done, of });
            !self.stop_requested()
        });
        Some(times.and_then(|times| times.ok_or(TrainError::Stopped("timing models"))))
    }
}

/// Of a process that is not the first: it says nothing, and can be asked to stop.
pub struct Quiet;

impl Observer for Quiet {
    fn event(&mut self, _event: Event<'_>) {}

    fn stop_requested(&self) -> bool {
        interrupt::requested()
    }
}

fn figures(progress: &Progress) -> String {
    let mut text = format!("loss {:.4}, {}", progress.loss, percent(progress.accuracy));
    if let (Some(flops), Some(target)) = (progress.flops, progress.target) {
        let share = 100.0 * flops as f64 / target as f64;
        text += &format!(", {} ({share:.1} % of the budget)", flops_text(flops));
    }
    if let Some([expected, target]) = progress.milliseconds {
        let share = 100.0 * expected / target;
        text += &format!(", {expected:.3} ms ({share:.1} % of the budget)");
    }
    let left = duration_text(progress.seconds_left);
    text + &format!(", {:.0} images/s, {left} left", progress.images_per_second)
}

/// A duration as `41 s`, `3:07` or `1:02:03`.
pub fn duration_text(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match seconds {
        0..60 => format!("{rest} s"),
        60..3600 => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}
