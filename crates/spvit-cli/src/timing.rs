//! Timing models in processes of their own.
//!
//! In a process that has trained, a small model takes up to a tenth more of the dense one's time than in a
//! fresh one, as which it will be used.

// Once for a model that takes seconds to time.
#![allow(clippy::result_large_err)]

use std::{
    env,
    fmt::Display as Shown,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
};

use serde::{Deserialize, Serialize};
use spvit_core::TrainBackend;
use spvit_layers::BlockConfig;
use spvit_search::{LatencyTable, Timing};
use spvit_train::{TrainError, latency::Scale};

use crate::{
    args::TimeArguments,
    device::{DeviceName, Work, dispatch},
    failure::Failure,
};

/// Processes in turn, and how often each loads the models.
const PROCESSES: usize = 3;
const LOADS: usize = 3;

/// What such a process reads.
#[derive(Serialize, Deserialize)]
struct Question {
    /// The table's text.
    table: String,
    models: Vec<Vec<BlockConfig>>,
}

/// A line that it writes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// Samples done, and how many there may be.
    Done([usize; 2]),
    /// Milliseconds, `[model][load]`.
    Samples(Vec<Vec<f64>>),
}

/// What models take in the scale of a table; `None` where `progress` says no.
pub fn time(
    scale: Scale<'_>,
    models: &[Vec<BlockConfig>],
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Option<Vec<Timing>>, TrainError> {
    scale.check()?;
    let table = scale.table.to_json().map_err(failed)?;
    let question = Question { table, models: models.to_vec() };
    let question = serde_json::to_string(&question).map_err(failed)?;
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); models.len()];
    for process in 0..PROCESSES {
        let told = |[done, of]: [usize; 2]| progress(process * of + done, PROCESSES * of);
        match ask(&question, scale.device, told)? {
            None => return Ok(None),
            Some(own) => {
                samples.iter_mut().zip(own).for_each(|(samples, own)| samples.extend(own));
            }
        }
    }
    Ok(Some(samples.iter().map(|own| Timing::of(own)).collect()))
}

fn failed(problem: impl Shown) -> TrainError {
    TrainError::Config {
        source_name: "timing models in a process of their own".into(),
        problem: problem.to_string(),
    }
}

/// A process that does not outlive what asked it.
struct Asked(Child);

impl Drop for Asked {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One process's samples.
fn ask(
    question: &str,
    device: &str,
    mut progress: impl FnMut([usize; 2]) -> bool,
) -> Result<Option<Vec<Vec<f64>>>, TrainError> {
    let mut command = Command::new(env::current_exe().map_err(failed)?);
    command.args(["time", "--device", device]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut asked = Asked(command.spawn().map_err(failed)?);
    let child = &mut asked.0;
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    if let Some(mut input) = child.stdin.take() {
        // A process that ended early says why by itself.
        let _ = input.write_all(question.as_bytes());
    }
    let mut samples = None;
    for line in output.map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        match serde_json::from_str(&line.map_err(failed)?).map_err(failed)? {
            Line::Samples(own) => samples = Some(own),
            Line::Done(done) if progress(done) => {}
            Line::Done(_) => return Ok(None),
        }
    }
    let mut said = String::new();
    if let Some(mut errors) = errors {
        errors.read_to_string(&mut said).map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    match samples {
        Some(samples) => Ok(Some(samples)),
        // One that a person's Ctrl-C ended says nothing.
        None if !progress([0, 1]) => Ok(None),
        None => Err(failed(format_args!("{status}: {}", said.trim()))),
    }
}

/// `spvit time`: such a process.
pub fn answer(arguments: &TimeArguments) -> Result<(), Failure> {
    let mut text = String::new();
    let unread = |problem: &dyn Shown| Failure::usage(format!("standard input: {problem}"));
    io::stdin().read_to_string(&mut text).map_err(|error| unread(&error))?;
    let question: Question = serde_json::from_str(&text).map_err(|error| unread(&error))?;
    let table = LatencyTable::from_json(&question.table).map_err(|error| unread(&error))?;
    let work = Answer { table, models: question.models, device: arguments.device };
    dispatch(arguments.device, work)
}

struct Answer {
    table: LatencyTable,
    models: Vec<Vec<BlockConfig>>,
    device: DeviceName,
}

impl Work for Answer {
    type Output = ();

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<(), Failure> {
        let scale = Scale { table: &self.table, device: self.device.name() };
        // Where nobody reads any more, nothing is to be timed.
        let write = |line: Line| -> io::Result<()> {
            writeln!(io::stdout(), "{}", serde_json::to_string(&line)?)
        };
        let progress = |done, of| write(Line::Done([done, of])).is_ok();
        let samples = scale.samples::<B::InnerBackend>(&self.models, LOADS, &device, progress)?;
        let written = samples.map_or(Ok(()), |samples| write(Line::Samples(samples)));
        written.map_err(|error| Failure::run(format!("standard output: {error}")))
    }
}
