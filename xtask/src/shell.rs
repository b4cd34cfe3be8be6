//! Calling other programs.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

/// Why a task ends early, in one line.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What went wrong with a file or folder.
pub fn fail(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// The compact model of a run.
pub fn compact(root: &Path) -> Result<PathBuf, Failure> {
    let compact = root.join("compact.safetensors");
    match compact.exists() {
        true => Ok(compact),
        false => Err(Failure::new(format!(
            "{}: there is no compact model; make one with `cargo xtask search`, or name another run",
            root.display()
        ))),
    }
}

/// Makes the checkout the current folder, wherever the task was called from.
pub fn enter_checkout() -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    env::set_current_dir(root).map_err(|error| Failure::new(format!("{}: {error}", root.display())))
}

/// The cargo that called this task.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The folder of release builds.
pub fn release() -> std::path::PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(&target).join("release")
}

/// The program `spvit`, as a release build leaves it.
pub fn spvit() -> Command {
    Command::new(release().join("spvit"))
}

/// Shows a command, runs it and fails if it fails.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    let shown = shown(command);
    eprintln!("+ {shown}");
    let status = command
        .status()
        .map_err(|error| Failure::new(format!("{shown}: cannot be started: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!("{shown}: {status}"))),
    }
}

/// Whether a command can be run and succeeds, without showing anything.
pub fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn shown(command: &Command) -> String {
    let parts = std::iter::once(command.get_program()).chain(command.get_args());
    parts.map(|part| part.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
