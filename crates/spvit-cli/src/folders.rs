//! Which configuration and run folder a command works with.

use std::path::{Path, PathBuf};

use spvit_train::{Lock, RunConfig, RunFolder, TrainError, check_changes, write_config};

use crate::{args::RunArguments, failure::Failure, output::tell};

/// A command's configuration and folder, which stays locked as long as this lives.
pub struct Place {
    pub config: RunConfig,
    pub folder: RunFolder,
    _lock: Lock,
}

/// For a command that starts a run, or goes on with `--resume`.
pub fn start(command: &str, arguments: &RunArguments) -> Result<Place, Failure> {
    if let Some(root) = &arguments.resume {
        return go_on(root, arguments);
    }
    let config = configuration(arguments)?;
    let root = match &arguments.out {
        Some(out) => out.clone(),
        None => free_folder(&format!("{command}-{}", config.seed)),
    };
    if arguments.redo.is_some() {
        return Err(Failure::usage(
            "--redo does a part of a run anew: name the run with --resume DIR",
        ));
    }
    let lock = RunFolder::create(&root)?.lock()?;
    // Asked again: another program may have had the lock until now.
    let folder = RunFolder::create(&root)?;
    place(config, folder, lock)
}

/// For a command that goes on with a run in `--out` or `--resume`.
pub fn continued(command: &str, arguments: &RunArguments) -> Result<Place, Failure> {
    match arguments.resume.as_ref().or(arguments.out.as_ref()) {
        Some(root) => go_on(root, arguments),
        None => Err(Failure::usage(format!(
            "{command} goes on with a run: name its folder with --out DIR"
        ))),
    }
}

/// For a command that goes on with a run, or works in a folder of its own where there is none.
pub fn either(command: &str, arguments: &RunArguments) -> Result<Place, Failure> {
    let Some(root) = arguments.resume.as_ref().or(arguments.out.as_ref()) else {
        return start(command, arguments);
    };
    let dense = || configuration(arguments).is_ok_and(|c| !c.dense.weights.as_os_str().is_empty());
    match arguments.resume.is_none() && RunFolder::open(root).is_err() && dense() {
        true => start(command, arguments),
        // Where there is neither a run nor a model, nothing is created.
        false => continued(command, arguments),
    }
}

fn go_on(root: &Path, arguments: &RunArguments) -> Result<Place, Failure> {
    let folder = RunFolder::open(root).map_err(|error| Failure::usage(error.to_string()))?;
    let lock = folder.lock()?;
    let before = RunConfig::read(&folder.config(), &[])?;
    let config = match &arguments.config {
        Some(_) => configuration(arguments)?,
        None => RunConfig::read(&folder.config(), &settings(arguments))?,
    };
    if let Some(part) = arguments.redo {
        folder.begin_anew(part.part())?;
        tell(part.repeats());
    }
    check_changes(&folder, &before, &config)?;
    place(config, folder, lock)
}

fn place(config: RunConfig, folder: RunFolder, lock: Lock) -> Result<Place, Failure> {
    if let Some(note) = &lock.note {
        tell(note);
    }
    folder.tidy();
    write_config(&folder, &config)?;
    Ok(Place { config, folder, _lock: lock })
}

fn configuration(arguments: &RunArguments) -> Result<RunConfig, Failure> {
    let settings = settings(arguments);
    let config = match &arguments.config {
        Some(file) => RunConfig::read(file, &settings),
        None => RunConfig::parse("", "built-in configuration", &settings),
    };
    config.map_err(|error| match error {
        TrainError::Io { path, error } => {
            Failure::usage(format!("--config {}: {error}", path.display()))
        }
        error => error.into(),
    })
}

fn settings(arguments: &RunArguments) -> Vec<String> {
    let seed = arguments.seed.map(|seed| format!("seed={seed}"));
    arguments.settings.iter().cloned().chain(seed).collect()
}

/// `runs/NAME`, or the first of `runs/NAME-2`, `runs/NAME-3`, ... that is free.
fn free_folder(name: &str) -> PathBuf {
    let path = |number: usize| match number {
        1 => Path::new("runs").join(name),
        _ => Path::new("runs").join(format!("{name}-{number}")),
    };
    let mut free = (1..).map(path).filter(|path| !path.exists());
    free.next().unwrap_or_else(|| path(1))
}
