//! `spvit derive`: another budget from a finished search.

use spvit_core::TrainBackend;
use spvit_report::numbers::{flops_text, percent, thousands};
use spvit_search::CostTable;
use spvit_train::{Cut, Run, RunConfig, RunFolder};

use crate::{
    args::DeriveArguments,
    device::{Work, dispatch},
    failure::Failure,
    output::{say, tell},
    patience::reading_images,
    progress::Display,
};

/// Cuts a run's searched model to a budget, without training.
pub fn derive(arguments: &DeriveArguments) -> Result<(), Failure> {
    let run = RunFolder::open(&arguments.run).map_err(|error| Failure::usage(error.to_string()))?;
    let lock = run.lock()?;
    lock.note.iter().for_each(tell);
    let source = run.nearest_search(arguments.budget)?;
    tell(format!("from the search in {}", source.0.root().display()));
    let (folder, config) = run.begin_cut(&source, arguments.budget)?;
    let _lock = folder.lock()?;
    let cut = dispatch(arguments.device, Derive { run, folder, config, arguments })?;
    show(&cut)
}

struct Derive<'a> {
    run: RunFolder,
    folder: RunFolder,
    config: RunConfig,
    arguments: &'a DeriveArguments,
}

impl Work for Derive<'_> {
    type Output = Cut;

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<Cut, Failure> {
        let Self { run, folder, config, arguments } = self;
        let mut display = Display::new();
        let patience = reading_images();
        // The run's index of its images serves this one, too.
        let options = config.data.options(config.model.channels(), Some(run.root()));
        let data = spvit_data::load(&config.data.folder, &options)
            .map_err(|error| Failure::run(error.to_string()))?;
        let backend = (arguments.device.name(), device);
        let mut run = Run::<B>::with_data(config, folder, Some(data), backend, &mut display)?;
        drop(patience);
        Ok(run.cut()?)
    }
}

fn show(cut: &Cut) -> Result<(), Failure> {
    let Cut { folder, architecture, accuracy } = cut;
    let parameters = architecture.cost(&CostTable::parameters(&architecture.model));
    let share = architecture.flops as f64 / architecture.dense_flops as f64;
    say(format!(
        "{} FLOPs ({} of the dense model's), {} parameters",
        flops_text(architecture.flops),
        percent(share),
        thousands(parameters.unwrap_or_default() as usize)
    ))?;
    if let Some(accuracy) = accuracy {
        say(format!("{} of the validation images before any training", percent(*accuracy)))?;
    }
    let root = folder.root().display();
    say(format!("wrote {root}; fine-tune and evaluate it with: spvit run --resume {root}"))
}
