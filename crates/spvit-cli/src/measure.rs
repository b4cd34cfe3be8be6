//! `spvit measure`: how long the parts of a model take.

use std::{fmt::Display as Shown, path::Path};

use comfy_table::{CellAlignment, Table, presets};
use spvit_core::TrainBackend;
use spvit_layers::ModelConfig;
use spvit_search::{Architecture, Choice, Entry, LatencyTable, Timing};
use spvit_train::{
    Event, Observer, RunFolder,
    latency::{self, Effort, Request, Scale},
    write_atomically,
};

use crate::{
    args::MeasureArguments,
    device::{Work, dispatch},
    failure::Failure,
    interrupt,
    output::say,
    profile,
    progress::Display,
    timing,
};

/// Measures, and writes the table; or, with `--against` one, says what the model takes.
pub fn measure(arguments: &MeasureArguments) -> Result<(), Failure> {
    let architecture = read(&arguments.source, arguments)?;
    interrupt::listen(false)?;
    if let Some(path) = &arguments.against {
        return against(path, &architecture, arguments);
    }
    let work = Measure { config: &architecture.model, arguments };
    let Some(table) = dispatch(arguments.device, work)? else {
        return Err(Failure::interrupted());
    };
    let out = &arguments.out;
    let text = table.to_json().map_err(|error| named(out, error))?;
    write_atomically(out, text.as_bytes())?;
    say(render(&table).trim_end())?;
    say(format!("wrote {}", out.display()))
}

fn named(path: &Path, problem: impl Shown) -> Failure {
    Failure::run(format!("{}: {problem}", path.display()))
}

/// The architecture of a run, a configuration, an architecture or a model. A run's is the compact
/// model's, if there is one yet.
fn read(source: &Path, arguments: &MeasureArguments) -> Result<Architecture, Failure> {
    let source = match RunFolder::open(source) {
        Ok(run) if run.architecture().exists() => run.architecture(),
        Ok(run) => run.config(),
        Err(_) => source.to_path_buf(),
    };
    profile::read(&source, &arguments.model)
}

/// Says what a model takes in a table's scale.
fn against(
    path: &Path,
    architecture: &Architecture,
    arguments: &MeasureArguments,
) -> Result<(), Failure> {
    let table = latency::read_table(path)?;
    latency::check_shape(path, &table, &architecture.model)?;
    let scale = Scale { table: &table, device: arguments.device.name() };
    let mut display = Display::new();
    let times = timing::time(scale, &[architecture.block_configs()], |done, of| {
        display.event(Event::Timing { done, of });
        true
    })?;
    let time = times.and_then(|times| times.first().copied());
    let Some(time) = time else { return Err(Failure::interrupted()) };
    let predicted = architecture.cost(&table.cost_table()).unwrap_or(f64::NAN);
    let share = 100.0 * time.median / table.dense.median;
    say(format!(
        "{:.4} ms (quartiles {:.4} to {:.4}), {share:.1} % of the dense model's {:.4} ms; by the table's \
         parts {predicted:.4} ms",
        time.median, time.lower, time.upper, table.dense.median
    ))
}

struct Measure<'a> {
    config: &'a ModelConfig,
    arguments: &'a MeasureArguments,
}

impl Work for Measure<'_> {
    type Output = Option<LatencyTable>;

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<Self::Output, Failure> {
        let MeasureArguments { batch, runtime, device: name, seconds, .. } = *self.arguments;
        let request = Request {
            config: self.config,
            batch,
            runtime,
            device: name.name(),
            effort: Effort { seconds: seconds as f64, ..Effort::TABLE },
        };
        let mut display = Display::new();
        let told = |done, of| {
            display.event(Event::Timing { done, of });
            true
        };
        Ok(latency::measure::<B::InnerBackend>(&request, &device, told)?)
    }
}

/// The table's entries, and what is said of it.
fn render(table: &LatencyTable) -> String {
    let mut rows = Table::new();
    rows.load_style(presets::UTF8_HORIZONTAL_ONLY);
    rows.set_header(["blocks", "choice", "ms", "quartiles"]);
    let time = |time: &Timing| {
        [format!("{:.4}", time.median), format!("{:.4} to {:.4}", time.lower, time.upper)]
    };
    let whole = [("dense model", &table.dense), ("shortcuts without FFNs", &table.bare)];
    for (name, own) in whole {
        let [median, spread] = time(own);
        rows.add_row(["all".into(), name.to_string(), median, spread]);
    }
    for Entry { blocks, choice, time: own } in &table.entries {
        let [median, spread] = time(own);
        let blocks: Vec<String> = blocks.iter().map(|block| (block + 1).to_string()).collect();
        rows.add_row([blocks.join(" "), name(choice), median, spread]);
    }
    for column in rows.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let unseen = table.whole.iter().filter(|model| !model.fitted).count();
    format!(
        "{rows}\nA choice's time is that in one block. {table}; {} rounds.\nA sum of parts, corrected by {:+.4} ms and a factor of {:.3}, is off by {} \
         (median; {} without the correction) and at most by {} on {unseen} whole models that nothing was \
         fitted on.\n",
        table.rounds,
        table.correction.offset,
        table.correction.factor,
        percent(table.error.median),
        percent(table.error.uncorrected),
        percent(table.error.largest),
    )
}

fn name(choice: &Choice) -> String {
    match choice {
        Choice::Operation { operation, heads: None } => operation.to_string(),
        Choice::Operation { operation, heads: Some(1) } => format!("{operation}, 1 head"),
        Choice::Operation { operation, heads: Some(heads) } => {
            format!("{operation}, {heads} heads")
        }
        Choice::Ffn { hidden } => format!("ffn of {hidden}"),
    }
}
