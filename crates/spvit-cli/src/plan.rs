//! What a run would do: `--dry-run`, and the contact sheet of `spvit preview`.

use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use spvit_data::{ContactSheet, LoaderOptions};
use spvit_report::numbers::thousands;
use spvit_train::{Plan, Resolved, write_atomically};

use crate::{
    args::PreviewArguments,
    failure::Failure,
    folders,
    output::{say, tell},
    progress::duration_text,
};

/// Prints a plan, and fails where the disk is too small for it.
pub fn show(plan: &Plan, root: &Path) -> Result<(), Failure> {
    let [train, validation, test] = plan.images.map(thousands);
    let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
    say(format!(
        "Images: {train} to train on, {validation} to decide with, {test} to report on; {} classes",
        plan.classes
    ))?;
    let parameters = thousands(plan.parameters);
    let budgets: Vec<String> = plan.budgets.iter().map(ToString::to_string).collect();
    let word = if budgets.len() > 1 { "budgets" } else { "budget" };
    say(format!("Dense model: {parameters} parameters; {word} {}", budgets.join(", ")))?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["phase", "epochs", "steps", "batch", "one step", "about"]);
    for phase in &plan.phases {
        table.add_row([
            phase.phase.to_string(),
            phase.epochs.to_string(),
            (phase.epochs * phase.steps).to_string(),
            phase.batch_size.to_string(),
            format!("{:.3} s", phase.step_seconds),
            hours(phase.seconds()),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    say(table)?;
    let whole: f64 = plan.phases.iter().map(spvit_train::PhasePlan::seconds).sum();
    say(format!("Together about {}, evaluations not counted", hours(whole)))?;
    if let Some(memory) = plan.memory {
        say(format!("Memory used by these steps: {}", gigabytes(memory)))?;
    }
    let free = free_space(root);
    let free_text = free.map_or_else(|| "unknown".into(), gigabytes);
    say(format!("Run folder: at most {} (free: {free_text})", gigabytes(plan.disk)))?;
    match free {
        Some(free) if free < plan.disk => Err(Failure::run(format!(
            "{}: {} are free, and the run folder takes up to {}; free some, or name another with --out",
            root.display(),
            gigabytes(free),
            gigabytes(plan.disk)
        ))),
        _ => Ok(()),
    }
}

fn hours(seconds: f64) -> String {
    match seconds {
        s if s < 7200.0 => duration_text(s),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Free bytes where a folder is or would be, if the system says it.
fn free_space(root: &Path) -> Option<u64> {
    let there = root.ancestors().find(|place| place.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    fs4::available_space(there).ok()
}

/// Draws what augmentation does to the first images of a run.
pub fn preview(arguments: &PreviewArguments) -> Result<(), Failure> {
    let Resolved { config, notes, data, .. } = folders::resolve(&arguments.values, None)?;
    notes.iter().for_each(tell);
    let failed = |error: spvit_data::DataError| Failure::run(error.to_string());
    let data = match data {
        Some(data) => data,
        None => {
            let options = config.data.options(config.model.channels(), None);
            spvit_data::load(&config.data.folder, &options).map_err(failed)?
        }
    };
    let options = LoaderOptions {
        transform: config.data.transform.clone(),
        ..LoaderOptions::training(config.model.image_size(), 1, config.seed, config.augment.clone())
    };
    let count = arguments.images.min(data.train.len());
    // Spread over the set, whose images may come class by class.
    let images: Vec<usize> = (0..count).map(|row| row * data.train.len() / count.max(1)).collect();
    let given = &config.data.images;
    let [mean, std] = [(&given.mean, &data.mean), (&given.std, &data.std)]
        .map(|(given, own)| given.as_ref().unwrap_or(own));
    let sheet = ContactSheet { images: &images, variants: arguments.variants };
    let sheet = sheet.draw(&*data.train, mean, std, &options).map_err(failed)?;
    write_atomically(&arguments.output, &sheet.to_png().map_err(failed)?)?;
    say(format!("wrote {}", arguments.output.display()))
}
