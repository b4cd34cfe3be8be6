//! Errors: one line on stderr and an exit code.

use std::{
    panic,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use spvit_interchange::InterchangeError;
use spvit_report::ReportError;
use spvit_train::TrainError;

use crate::output::tell;

/// Exit code of a failed run.
const RUN: u8 = 1;
/// Exit code of wrong arguments and configurations, clap's too.
const USAGE: u8 = 2;

/// Exit code of a run that an interrupt ended, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// Why the program ends early.
#[derive(Debug)]
pub struct Failure {
    /// Empty if everything is said.
    message: String,
    code: u8,
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: USAGE }
    }

    /// The run was stopped and can be resumed.
    pub fn interrupted() -> Self {
        Self { message: String::new(), code: INTERRUPTED }
    }

    pub fn run(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: RUN }
    }

    /// The same, of another process than the one that speaks.
    pub fn of_process(self, rank: usize) -> Self {
        Self { message: format!("process {rank}: {}", self.message), ..self }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        let message = error.to_string();
        match error {
            TrainError::Stopped(_) => Self { message, code: INTERRUPTED },
            TrainError::Config { .. }
            | TrainError::Occupied { .. }
            | TrainError::Busy { .. }
            | TrainError::Fixed { .. }
            | TrainError::Mixed { .. }
            | TrainError::Derive(_) => Self::usage(message),
            _ => Self::run(message),
        }
    }
}

impl From<InterchangeError> for Failure {
    fn from(error: InterchangeError) -> Self {
        Self::run(error.to_string())
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        let message = error.to_string();
        match error {
            ReportError::NoRun { .. } => Self::usage(message),
            _ => Self::run(message),
        }
    }
}

static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Runs the program; an error becomes one line, and so does a panic of a library below.
pub fn catch(program: impl FnOnce() -> Result<(), Failure> + panic::UnwindSafe) -> ExitCode {
    let usual = std::env::var_os("RUST_BACKTRACE").map(|_| panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        let mut first = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| {
            let place = info.location().map(|at| format!(" ({at})")).unwrap_or_default();
            format!("{}{place}", info.payload_as_str().unwrap_or("a panic"))
        });
        drop(first);
        if let Some(usual) = &usual {
            usual(info);
        }
    }));
    let failure = match panic::catch_unwind(program) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(failure)) => failure,
        Err(_) => {
            let first = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
            Failure::run(explain(first.unwrap_or_else(|| "see above".into())))
        }
    };
    let line = failure.message.split_whitespace().collect::<Vec<_>>().join(" ");
    if !line.is_empty() {
        tell(format!("error: {line}"));
    }
    ExitCode::from(failure.code)
}

/// The message where there cannot be another thread.
pub fn no_thread(cause: impl std::fmt::Display) -> String {
    format!(
        "the system refuses another thread; raise the limit of processes (ulimit -u, or the \
         container's pids limit), or set RAYON_NUM_THREADS=1 ({cause})"
    )
}

/// A panic as a message: of what the system refused, or of a bug.
fn explain(cause: String) -> String {
    let threads =
        ["failed to spawn thread", "ThreadPoolBuildError", "Resource temporarily unavailable"];
    if threads.iter().any(|words| cause.contains(words)) {
        return no_thread(cause);
    }
    format!("internal error, which is a bug of spvit or its backend: {cause}")
}
