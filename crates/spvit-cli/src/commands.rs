//! One call into `spvit-train` for each command.

use spvit_core::TrainBackend;
use spvit_data::Dataset;
use spvit_train::{Observer, Outcome, Phase, Plan, Resolved, Run, RunConfig, RunFolder, Summary};

use crate::{
    args::{Command, RunArguments, Split},
    convert, derive,
    device::{DeviceList, DeviceName, Work, dispatch_all},
    failure::Failure,
    folders::{self, Place},
    interrupt, measure,
    output::{say, tell},
    patience::reading_images,
    plan, predict, profile,
    progress::{Display, Quiet},
    report, table,
    team::Team,
    timing, watch,
};

/// Does what the command says.
pub fn execute(command: Command) -> Result<(), Failure> {
    use Task::{Evaluate, Finetune, Pretrain, Prune, Search, Whole};
    let (task, arguments) = match command {
        Command::Pretrain(arguments) => (Pretrain, arguments),
        Command::Search(arguments) => (Search, arguments),
        Command::Prune(arguments) => (Prune, arguments),
        Command::Finetune(arguments) => (Finetune, arguments),
        Command::Evaluate(arguments) => {
            // In a run's folder they are the dense model's.
            let run = &arguments.run;
            match &run.values.weights {
                Some(weights) if run.resume.is_none() && run.out.is_none() => {
                    return predict::evaluate(&arguments, weights);
                }
                _ if arguments.json || arguments.split != Split::Test => {
                    let problem = "--json and --split go with --weights MODEL";
                    return Err(Failure::usage(problem));
                }
                _ => (Evaluate, arguments.run),
            }
        }
        Command::Predict(arguments) => return predict::predict(&arguments),
        Command::Preview(arguments) => return plan::preview(&arguments),
        Command::Run(arguments) => (Whole, arguments),
        Command::Derive(arguments) => return derive::derive(&arguments),
        Command::Report(arguments) => return report::report(&arguments),
        Command::Watch(arguments) => return watch::watch(&arguments),
        Command::Profile(arguments) => return profile::show(&arguments),
        Command::Measure(arguments) => return measure::measure(&arguments),
        Command::Time(arguments) => return timing::answer(&arguments),
        Command::Convert(arguments) => return convert::convert(&arguments),
    };
    on_run(task, &arguments)
}

/// What a command does with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Pretrain,
    Search,
    Prune,
    Finetune,
    Evaluate,
    Whole,
    Rehearse,
}

impl Task {
    fn command(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Search => "search",
            Self::Prune => "prune",
            Self::Finetune => "finetune",
            Self::Evaluate => "evaluate",
            Self::Whole | Self::Rehearse => "run",
        }
    }

    /// The phase that it is, if it trains.
    fn phase(self) -> Option<Phase> {
        match self {
            Self::Pretrain => Some(Phase::Pretrain),
            Self::Search => Some(Phase::Search),
            Self::Finetune => Some(Phase::Finetune),
            Self::Prune | Self::Evaluate | Self::Whole | Self::Rehearse => None,
        }
    }
}

fn on_run(task: Task, arguments: &RunArguments) -> Result<(), Failure> {
    let team = Team::join()?;
    let rank = team.processes.rank();
    let result = match rank {
        0 if arguments.dry_run => rehearse(task, arguments, &team),
        0 => lead(task, arguments, &team),
        _ => follow(task, arguments, &team).map_err(|failure| failure.of_process(rank)),
    };
    team.end(result.is_err()).and(result)
}

/// Does a process's part in a folder that is made like the first one's.
fn follow(task: Task, arguments: &RunArguments, team: &Team) -> Result<(), Failure> {
    if !team.begin(false)? {
        return Ok(());
    }
    let place = tempfile::tempdir()
        .map_err(|error| Failure::run(format!("a folder for temporary files: {error}")))?;
    team.processes.mirror(place.path())?;
    let folder = RunFolder::open(place.path())?;
    let config = RunConfig::read(&folder.config(), &[])?;
    interrupt::listen(true)?;
    let devices = arguments.devices().share(team.here)?;
    let work = OnRun { task, config, folder, data: None, devices: devices.clone(), team };
    dispatch_all(&devices, work).map(|_| ())
}

fn lead(task: Task, arguments: &RunArguments, team: &Team) -> Result<(), Failure> {
    let command = task.command();
    let place = match task {
        Task::Pretrain | Task::Search | Task::Whole => folders::start(command, arguments)?,
        Task::Prune | Task::Finetune => folders::continued(command, arguments)?,
        // A dense model can be evaluated without a run.
        Task::Evaluate | Task::Rehearse => folders::either(command, arguments)?,
    };
    let Place { config, folder, .. } = &place;
    let root = folder.root().display().to_string();
    if let Some(phase) = task.phase()
        && folder.result(phase).exists()
    {
        let result = folder.result(phase).display().to_string();
        return say(format!("{result} is there; nothing to do (remove it to do the {phase} anew)"));
    }
    interrupt::listen(task == Task::Whole || task.phase().is_some())?;
    let devices = arguments.devices().share(team.here)?;
    let work = OnRun {
        task,
        config: config.clone(),
        folder: folder.clone(),
        data: place.data.clone(),
        devices: devices.clone(),
        team,
    };
    match dispatch_all(&devices, work)? {
        End::Stopped => {
            let device = match (&arguments.devices, arguments.device.name()) {
                (Some(devices), _) => format!(" --devices {devices}"),
                (None, DeviceName::DEFAULT) => String::new(),
                (None, name) => format!(" --device {name}"),
            };
            tell(format!("stopped; go on with: spvit {command} --resume {root}{device}"));
            return Err(Failure::interrupted());
        }
        End::Wrote(what) => say(format!("wrote {what}"))?,
        End::Evaluated(summary) => {
            say(table::render(&summary).trim_end())?;
            let page = spvit_report::write(folder.root())?;
            say(format!("Run folder: {root}, report {}", page.display()))?;
        }
        // Shown by whoever asks for it.
        End::Planned(_) => {}
    }
    Ok(())
}

/// Checks and times a run, in a folder that is gone afterwards.
fn rehearse(task: Task, arguments: &RunArguments, team: &Team) -> Result<(), Failure> {
    let count = team.processes.count();
    if count > 1 {
        // Those that wait for the first one's steps would make them slower.
        let problem = format!("--dry-run times one process, and {count} were started; start one");
        return Err(Failure::usage(problem));
    }
    if !matches!(task, Task::Whole | Task::Search) {
        let problem = "--dry-run belongs to `spvit run` and `spvit search`";
        return Err(Failure::usage(problem));
    }
    let place = tempfile::tempdir()
        .map_err(|error| Failure::run(format!("a folder for temporary files: {error}")))?;
    let folder = RunFolder::create(place.path())?;
    let Resolved { config, notes, data, .. } = folders::resolve(&arguments.values, None)?;
    notes.iter().for_each(tell);
    let root = arguments.out.clone().unwrap_or_else(|| "runs".into());
    let (task, devices) = (Task::Rehearse, arguments.devices());
    let work = OnRun { task, config, folder, data, devices: devices.clone(), team };
    match dispatch_all(&devices, work)? {
        End::Planned(plan) => plan::show(&plan, &root),
        _ => Ok(()),
    }
}

enum End {
    Stopped,
    Wrote(String),
    Evaluated(Summary),
    Planned(Plan),
}

struct OnRun<'a> {
    task: Task,
    config: RunConfig,
    folder: RunFolder,
    data: Option<Dataset>,
    devices: DeviceList,
    team: &'a Team,
}

impl Work for OnRun<'_> {
    type Output = End;

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<End, Failure> {
        self.across::<B>(device, Vec::new())
    }

    fn across<B: TrainBackend>(
        self,
        device: B::Device,
        others: Vec<B::Device>,
    ) -> Result<End, Failure> {
        let Self { task, config, folder, data, devices, team } = self;
        let (root, seed) = (folder.root().display(), config.seed);
        let word = if others.is_empty() { "device" } else { "devices" };
        let mut opening = format!("run folder {root}, {word} {devices}, seed {seed}");
        let (count, leads) = (team.processes.count(), team.processes.is_first());
        if count > 1 {
            opening += &format!(", {count} processes");
        }
        let (mut display, mut quiet) = (Display::new(), Quiet);
        let observer: &mut dyn Observer = if leads { &mut display } else { &mut quiet };
        let backend = (devices.name.name(), device);
        let patience = leads.then(reading_images);
        let run = Run::<B>::with_data(config, folder.clone(), data, backend, observer)?;
        let run = run.across(others)?;
        drop(patience);
        if count > 1 && leads {
            team.begin(true)?;
            team.processes.mirror(folder.root())?;
        }
        let mut run = run.among(team.processes.clone())?;
        if task != Task::Rehearse && leads {
            tell(opening);
        }
        let front = !run.config().search.budgets.is_empty();
        let place = folder.budgets();
        let trained = |outcome: Outcome, result: std::path::PathBuf| match outcome {
            Outcome::Finished if front => End::Wrote(format!("models into {}", place.display())),
            Outcome::Finished => End::Wrote(result.display().to_string()),
            Outcome::Stopped => End::Stopped,
        };
        Ok(match task {
            Task::Pretrain => trained(run.pretrain()?, folder.dense()),
            Task::Search => trained(run.search()?, folder.searched()),
            Task::Prune => {
                run.prune()?;
                let (json, model) = (folder.architecture(), folder.pruned());
                match front {
                    true => End::Wrote(format!("models into {}", place.display())),
                    false => End::Wrote(format!("{} and {}", json.display(), model.display())),
                }
            }
            Task::Finetune => trained(run.finetune()?, folder.compact()),
            Task::Evaluate => End::Evaluated(run.evaluate()?),
            Task::Whole => run.run()?.map_or(End::Stopped, End::Evaluated),
            Task::Rehearse => End::Planned(run.rehearse()?),
        })
    }
}
