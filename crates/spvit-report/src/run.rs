//! The page of one run.

use spvit_train::Phase;

use crate::{
    Record, ReportError, again, blocks, classes, compare, gates,
    numbers::{counted, flops_text, milliseconds, part, percent, shortened, thousands},
    page::{LIMIT, Liveness, Page, Section, Table, Tile},
    training,
};

/// How much of a run a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Everything,
    NoPictures,
    NoConfiguration,
    NoGates,
}

/// The page of one run as HTML, less than [`LIMIT`] bytes. A run with others in its `budgets` begins with their
/// comparison.
///
/// # Errors
/// [`ReportError`] if a plot cannot be drawn.
pub fn page(record: &Record, liveness: Liveness) -> Result<String, ReportError> {
    let mut html = String::new();
    for detail in [Detail::Everything, Detail::NoPictures, Detail::NoConfiguration, Detail::NoGates]
    {
        html = of(record, liveness, detail)?.html()?;
        if html.len() < LIMIT {
            break;
        }
    }
    Ok(html)
}

fn of(record: &Record, liveness: Liveness, detail: Detail) -> Result<Page, ReportError> {
    let pictures = detail == Detail::Everything;
    let configuration = matches!(detail, Detail::Everything | Detail::NoPictures);
    let mut sections = Vec::new();
    if !record.parts.is_empty() {
        let mut runs: Vec<&Record> = record.parts.iter().collect();
        // The run's own model is one of them, or another.
        let own = |part: &Record| part.architecture == record.architecture;
        if record.architecture.is_some() && !record.parts.iter().any(own) {
            runs.insert(0, record);
        }
        sections.extend(compare::sections(&runs)?);
    }
    sections.push(models(record));
    sections.push(blocks::section(record)?);
    sections.push(training::section(record)?);
    sections.push(match detail {
        Detail::NoGates => Section {
            id: "gates",
            title: "Gates".into(),
            notes: vec!["They are left out, since the page would be too large.".into()],
            ..Section::default()
        },
        _ => gates::section(record)?,
    });
    sections.push(classes::section(record));
    sections.push(classes::differences(record, pictures));
    sections.push(again::section(record, configuration));
    if !record.problems.is_empty() {
        sections.push(Section {
            id: "problems",
            title: "Not readable".into(),
            notes: record
                .problems
                .iter()
                .map(|problem| format!("{}.", shortened(problem, 400)))
                .collect(),
            ..Section::default()
        });
    }
    Ok(Page {
        title: record.name.clone(),
        lead: lead(record),
        tiles: tiles(record),
        sections,
        footer: footer(),
        live: liveness == Liveness::Live,
    })
}

pub(crate) fn footer() -> String {
    format!("Written by spvit {}. FLOPs are multiply-adds counted once.", env!("CARGO_PKG_VERSION"))
}

/// What the run comes to.
fn lead(record: &Record) -> Vec<String> {
    let (Some(dense), Some(compact)) = (record.figures("dense"), record.figures("compact")) else {
        return vec![stands(record)];
    };
    let share = part(compact.flops as f64, dense.flops as f64);
    let points = 100.0 * (compact.accuracy - dense.accuracy);
    let change = match points {
        p if p.abs() < 0.005 => "and keeps the dense model’s accuracy".to_string(),
        p if p > 0.0 => format!("and gains {p:.2} points of accuracy"),
        p => format!("and loses {:.2} points of accuracy", -p),
    };
    let speed = dense.latency_batch / compact.latency_batch.max(f64::MIN_POSITIVE);
    vec![format!(
        "The compact model needs {share} of the dense model’s FLOPs {change}: {} instead of {} on {}. \
         It is {speed:.2} times as fast on batches.",
        percent(compact.accuracy),
        percent(dense.accuracy),
        record.summary.as_ref().map_or("the test images", |own| own.data.as_str()),
    )]
}

/// Where an unfinished run stands.
fn stands(record: &Record) -> String {
    let last = record.epochs.last().map(|epoch| {
        format!(
            " The last epoch that ended is {} of {} of {}.",
            epoch.epoch + 1,
            epoch.epochs,
            epoch.phase
        )
    });
    let done = |phase: Phase| record.epochs.iter().any(|epoch| epoch.phase == phase);
    let state = match (record.summary.is_some(), &record.architecture) {
        (true, _) => "Of this run not all models have been evaluated.",
        (false, Some(_)) if done(Phase::Finetune) => {
            "This run is not finished: its compact model is being trained, or waits for evaluation."
        }
        (false, Some(_)) => "This run is not finished: an architecture is derived.",
        (false, None) => "This run is not finished: it has no architecture yet.",
    };
    format!("{state}{}", last.unwrap_or_default())
}

/// The compact model's figures at a glance.
fn tiles(record: &Record) -> Vec<Tile> {
    let (Some(dense), Some(compact)) = (record.figures("dense"), record.figures("compact")) else {
        return Vec::new();
    };
    let of = |own: f64, whole: f64| format!("{} of dense", part(own, whole));
    let batch = record.summary.as_ref().map_or(0, |own| own.latency_batch_size);
    vec![
        Tile {
            name: "Test accuracy",
            value: percent(compact.accuracy),
            aside: format!("dense {}", percent(dense.accuracy)),
        },
        Tile {
            name: "FLOPs",
            value: flops_text(compact.flops),
            aside: of(compact.flops as f64, dense.flops as f64),
        },
        Tile {
            name: "Parameters",
            value: thousands(compact.parameters),
            aside: of(compact.parameters as f64, dense.parameters as f64),
        },
        Tile {
            name: "Latency",
            value: milliseconds(compact.latency_batch),
            aside: format!("{}, batch of {batch}", of(compact.latency_batch, dense.latency_batch)),
        },
    ]
}

/// The final table, a column for each model.
fn models(record: &Record) -> Section {
    let mut section = Section { id: "models", title: "Models".into(), ..Section::default() };
    let Some(summary) = &record.summary else {
        section.notes.push(
            "The models have not been evaluated (summary.json); `spvit evaluate` does it.".into(),
        );
        return section;
    };
    let row = |name: String, value: &dyn Fn(&spvit_train::ModelFigures) -> String| -> Vec<String> {
        std::iter::once(name).chain(summary.models.iter().map(value)).collect()
    };
    let batch = summary.latency_batch_size;
    let mut rows = vec![
        row("accuracy".into(), &|own| percent(own.accuracy)),
        row("FLOPs".into(), &|own| flops_text(own.flops)),
        row("parameters".into(), &|own| thousands(own.parameters)),
        row("one image".into(), &|own| milliseconds(own.latency_one)),
        row(format!("batch of {batch}"), &|own| milliseconds(own.latency_batch)),
    ];
    if summary.models.iter().any(|own| own.onnxruntime.is_some()) {
        let time = |own: &spvit_train::ModelFigures, which: usize| {
            own.onnxruntime.map_or_else(|| "–".into(), |times| milliseconds(times[which]))
        };
        rows.push(row("onnxruntime, one image".into(), &|own| time(own, 0)));
        rows.push(row(format!("onnxruntime, batch of {batch}"), &|own| time(own, 1)));
    }
    if let (Some(target), Some(table)) = (summary.target_milliseconds, &summary.latency_table) {
        rows.push(row("budgeted time".into(), &|own| {
            own.milliseconds.map_or_else(|| "–".into(), |own| format!("{own:.3} ms"))
        }));
        section.notes.push(format!(
            "The budgeted time is that in the scale of the run's latency table ({table}), timed in turn \
             with the dense model; the budget is {target:.3} ms."
        ));
    }
    section.notes.push(format!(
        "Accuracy on the {} of {}; latency on {}, median; FLOPs by cost model {}. The searched model \
         is the compact one before fine-tuning.",
        counted(summary.test_images, "test image"),
        summary.data,
        summary.backend,
        summary.cost_model
    ));
    let names = summary.models.iter().map(|model| model.name.clone());
    section.tables.push(Table {
        head: std::iter::once(String::new()).chain(names).collect(),
        rows,
        numbers: true,
        ..Table::default()
    });
    section
}
