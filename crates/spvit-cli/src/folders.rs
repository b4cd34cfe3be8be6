//! Which configuration and run folder a command works with.

use std::path::{Path, PathBuf};

use spvit_train::{RunConfig, RunFolder, write_config};

use crate::{args::RunArguments, failure::Failure};

/// The configuration and the folder of a command that starts a run, or goes on with `--resume`.
pub fn start(command: &str, arguments: &RunArguments) -> Result<(RunConfig, RunFolder), Failure> {
    if let Some(root) = &arguments.resume {
        return go_on(root, arguments);
    }
    let config = configuration(arguments.config.as_deref(), arguments)?;
    let root = match &arguments.out {
        Some(out) => out.clone(),
        None => free_folder(&format!("{command}-{}", config.seed)),
    };
    let folder = RunFolder::create(&root)?;
    write_config(&folder, &config)?;
    Ok((config, folder))
}

/// The configuration and the folder of a command that goes on with a run.
pub fn continued(
    command: &str,
    arguments: &RunArguments,
) -> Result<(RunConfig, RunFolder), Failure> {
    let root = arguments.resume.as_ref().or(arguments.out.as_ref());
    let Some(root) = root else {
        let problem = format!("{command} goes on with a run: name its folder with --out DIR");
        return Err(Failure::usage(problem));
    };
    go_on(root, arguments)
}

fn go_on(root: &Path, arguments: &RunArguments) -> Result<(RunConfig, RunFolder), Failure> {
    let folder = RunFolder::open(root)?;
    let config = configuration(Some(&folder.config()), arguments)?;
    write_config(&folder, &config)?;
    Ok((config, folder))
}

fn configuration(file: Option<&Path>, arguments: &RunArguments) -> Result<RunConfig, Failure> {
    let mut settings = arguments.settings.clone();
    settings.extend(arguments.seed.map(|seed| format!("seed={seed}")));
    let config = match file {
        Some(file) => RunConfig::read(file, &settings),
        None => RunConfig::parse("", "built-in configuration", &settings),
    };
    Ok(config?)
}

/// `runs/NAME`, or the first of `runs/NAME-2`, `runs/NAME-3`, ... that is free.
fn free_folder(name: &str) -> PathBuf {
    let path = |number: usize| match number {
        1 => Path::new("runs").join(name),
        _ => Path::new("runs").join(format!("{name}-{number}")),
    };
    let mut free = (1..).map(path).filter(|path| !path.exists());
    free.next().unwrap_or_else(|| Path::new("runs").join(name))
}
