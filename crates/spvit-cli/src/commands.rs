//! One call into `spvit-train` for each command.

use spvit_core::TrainBackend;
use spvit_train::{Outcome, Run, RunConfig, RunFolder, Summary};

use crate::{
    args::{Command, RunArguments},
    convert,
    device::{DeviceName, Work, dispatch},
    failure::Failure,
    folders::{self, Place},
    interrupt,
    output::say,
    profile,
    progress::Display,
    table,
};

/// Does what the command says.
pub fn execute(command: Command) -> Result<(), Failure> {
    use Stage::{Evaluate, Finetune, Pretrain, Prune, Search, Whole};
    let (stage, arguments) = match command {
        Command::Pretrain(arguments) => (Pretrain, arguments),
        Command::Search(arguments) => (Search, arguments),
        Command::Prune(arguments) => (Prune, arguments),
        Command::Finetune(arguments) => (Finetune, arguments),
        Command::Evaluate(arguments) => (Evaluate, arguments),
        Command::Run(arguments) => (Whole, arguments),
        Command::Profile(arguments) => return profile::show(&arguments),
        Command::Convert(arguments) => return convert::convert(&arguments),
    };
    on_run(stage, &arguments)
}

/// What a command does with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Pretrain,
    Search,
    Prune,
    Finetune,
    Evaluate,
    Whole,
}

impl Stage {
    fn command(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Search => "search",
            Self::Prune => "prune",
            Self::Finetune => "finetune",
            Self::Evaluate => "evaluate",
            Self::Whole => "run",
        }
    }

    /// Its name in checkpoints, if it trains.
    fn trains(self) -> Option<&'static str> {
        match self {
            Self::Pretrain | Self::Search | Self::Finetune => Some(self.command()),
            Self::Prune | Self::Evaluate | Self::Whole => None,
        }
    }
}

fn on_run(stage: Stage, arguments: &RunArguments) -> Result<(), Failure> {
    let command = stage.command();
    let place = match stage {
        Stage::Pretrain | Stage::Search | Stage::Whole => folders::start(command, arguments)?,
        Stage::Prune | Stage::Finetune => folders::continued(command, arguments)?,
        // A dense model can be evaluated without a run.
        Stage::Evaluate => folders::either(command, arguments)?,
    };
    let Place { config, folder, .. } = &place;
    let root = folder.root().display().to_string();
    if let Some(stage) = stage.trains()
        && folder.result(stage).exists()
    {
        let result = folder.result(stage).display().to_string();
        return say(format!("{result} is there; nothing to do (remove it to do the {stage} anew)"));
    }
    interrupt::listen()?;
    let work =
        OnRun { stage, config: config.clone(), folder: folder.clone(), name: arguments.device };
    match dispatch(arguments.device, work)? {
        End::Stopped => {
            let device = match arguments.device.name() {
                DeviceName::DEFAULT => String::new(),
                name => format!(" --device {name}"),
            };
            eprintln!("stopped; go on with: spvit {command} --resume {root}{device}");
            return Err(Failure::interrupted());
        }
        End::Wrote(what) => say(format!("wrote {what}"))?,
        End::Evaluated(summary) => {
            say(table::render(&summary).trim_end())?;
            say(format!("Run folder: {root}"))?;
        }
    }
    Ok(())
}

enum End {
    Stopped,
    Wrote(String),
    Evaluated(Summary),
}

struct OnRun {
    stage: Stage,
    config: RunConfig,
    folder: RunFolder,
    name: DeviceName,
}

impl Work for OnRun {
    type Output = End;

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<End, Failure> {
        let Self { stage, config, folder, name } = self;
        let (root, seed) = (folder.root().display(), config.seed);
        let opening = format!("run folder {root}, device {}, seed {seed}", name.name());
        let mut display = Display::new();
        let backend = (name.name(), device);
        let mut run = Run::<B>::new(config, folder.clone(), backend, &mut display)?;
        eprintln!("{opening}");
        let trained = |outcome: Outcome, result: std::path::PathBuf| match outcome {
            Outcome::Finished => End::Wrote(result.display().to_string()),
            Outcome::Stopped => End::Stopped,
        };
        Ok(match stage {
            Stage::Pretrain => trained(run.pretrain()?, folder.dense()),
            Stage::Search => trained(run.search()?, folder.searched()),
            Stage::Prune => {
                run.prune()?;
                let (json, model) = (folder.architecture(), folder.pruned());
                End::Wrote(format!("{} and {}", json.display(), model.display()))
            }
            Stage::Finetune => trained(run.finetune()?, folder.compact()),
            Stage::Evaluate => End::Evaluated(run.evaluate()?),
            Stage::Whole => run.run()?.map_or(End::Stopped, End::Evaluated),
        })
    }
}
