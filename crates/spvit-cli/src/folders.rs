//! Which configuration and run folder a command works with.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use spvit_data::Dataset;
use spvit_interchange::ReadOptions;
use spvit_train::{
    Given, Lock, Part, Resolved, RunConfig, RunFolder, TrainError, check_changes,
    config::{GivenBudget, SET},
    toml_string, write_config_from,
};

use crate::{
    args::{ConfigArguments, RunArguments},
    failure::Failure,
    output::tell,
    patience::reading_images,
};

/// A command's configuration and folder, which stays locked as long as this lives.
pub struct Place {
    pub config: RunConfig,
    pub folder: RunFolder,
    /// The images, if they were looked at.
    pub data: Option<Dataset>,
    _lock: Lock,
}

/// For a command that starts a run, or goes on with `--resume`.
pub fn start(command: &str, arguments: &RunArguments) -> Result<Place, Failure> {
    if let Some(root) = &arguments.resume {
        return go_on(root, arguments);
    }
    if arguments.redo.is_some() {
        return Err(Failure::usage(
            "--redo does a part of a run anew: name the run with --resume DIR",
        ));
    }
    let root = match &arguments.out {
        Some(out) => out.clone(),
        None => {
            let seed = given(&arguments.values, None)?.seed().map_err(named)?;
            free_folder(&format!("{command}-{seed}"))
        }
    };
    let resolved = resolve(&arguments.values, Some(&root))?;
    let lock = RunFolder::create(&root)?.lock()?;
    // Asked again: another program may have had the lock until now.
    let folder = RunFolder::create(&root)?;
    place(resolved, folder, lock)
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
    let dense = || {
        configuration(arguments).is_ok_and(|config| !config.dense.weights.as_os_str().is_empty())
    };
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
    let mut sources = BTreeMap::new();
    let config = match &arguments.values.config {
        Some(_) => configuration(arguments)?,
        None => {
            let settings = settings(&arguments.values)?;
            sources.extend(settings.iter().filter_map(|(name, setting)| {
                Some((setting.split_once('=')?.0.trim().to_string(), name.clone()))
            }));
            let plain: Vec<String> = settings.into_iter().map(|(_, setting)| setting).collect();
            RunConfig::read(&folder.config(), &plain)?
        }
    };
    if let Some(part) = arguments.redo {
        if part.part() == Part::Transfer && !config.dense.transfer {
            return Err(Failure::usage(
                "--redo transfer: this run has no transfer (dense.transfer is false)",
            ));
        }
        folder.begin_anew(part.part())?;
        tell(part.repeats());
    }
    check_changes(&folder, &before, &config)?;
    place(Resolved { config, sources, notes: Vec::new(), data: None }, folder, lock)
}

fn place(resolved: Resolved, folder: RunFolder, lock: Lock) -> Result<Place, Failure> {
    let Resolved { config, sources, notes, data } = resolved;
    for note in notes.iter().chain(&lock.note) {
        tell(note);
    }
    folder.tidy();
    write_config_from(&folder, &config, &sources)?;
    Ok(Place { config, folder, data, _lock: lock })
}

fn configuration(arguments: &RunArguments) -> Result<RunConfig, Failure> {
    Ok(resolve(&arguments.values, None)?.config)
}

/// The whole configuration; an index of the images is kept in `index`.
pub fn resolve(arguments: &ConfigArguments, index: Option<&Path>) -> Result<Resolved, Failure> {
    let given = given(arguments, index)?;
    let _patience = reading_images();
    given.resolve().map_err(named)
}

/// A configuration that cannot be read is an argument that cannot.
fn named(error: TrainError) -> Failure {
    match error {
        TrainError::Io { path, error } => {
            Failure::usage(format!("--config {}: {error}", path.display()))
        }
        error => error.into(),
    }
}

/// What is typed of a run's values.
pub fn given(arguments: &ConfigArguments, index: Option<&Path>) -> Result<Given, Failure> {
    Ok(Given {
        file: arguments.config.clone(),
        settings: settings(arguments)?,
        read: ReadOptions { timm: arguments.timm.clone(), ..ReadOptions::default() },
        index: index.map(Path::to_path_buf),
    })
}

/// What is typed, as settings, each with the option's name.
fn settings(arguments: &ConfigArguments) -> Result<Vec<(String, String)>, Failure> {
    let ConfigArguments {
        weights,
        data,
        budget,
        budgets,
        latency_table,
        round,
        settings,
        seed,
        ..
    } = arguments;
    let typed = |name: &str, setting: String| (name.to_string(), setting);
    let mut out: Vec<(String, String)> =
        settings.iter().map(|setting| typed(SET, setting.clone())).collect();
    for (name, key, path) in [
        ("--weights", "dense.weights", weights),
        ("--data", "data.folder", data),
        ("--latency-table", "search.latency_table", latency_table),
    ] {
        let Some(path) = path else { continue };
        let Some(text) = path.to_str() else {
            let problem = "expected a path of UTF-8, which a configuration can hold";
            return Err(Failure::usage(format!("{name} {}: {problem}", path.display())));
        };
        out.push(typed(name, format!("{key}={}", toml_string(text))));
    }
    let list = |budgets: &[GivenBudget]| {
        let texts = budgets.iter().map(|budget| toml_string(&budget.to_string()));
        format!("[{}]", texts.collect::<Vec<_>>().join(","))
    };
    if let Some((GivenBudget { target, unit }, others)) = budget.split_first() {
        out.push(typed("--budget", format!("search.budget={target:?}")));
        out.push(typed("--budget", format!("search.budget_unit={}", unit.name())));
        if !others.is_empty() {
            out.push(typed("--budget", format!("search.further_budgets={}", list(others))));
        }
    }
    if !budgets.is_empty() {
        out.push(typed("--budgets", format!("search.budgets={}", list(budgets))));
    }
    out.extend(round.iter().map(|round| typed("--round", format!("search.round={round}"))));
    out.extend(seed.iter().map(|seed| typed("--seed", format!("seed={seed}"))));
    Ok(out)
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
