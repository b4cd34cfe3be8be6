//! Accuracy, loss and cost over a run's epochs.

use spvit_search::Unit;
use spvit_train::{EpochReport, Phase};

use crate::{
    Record, ReportError,
    colours::{self, Colour},
    numbers::{brief, part},
    page::{Figure, Key, Section},
    plot::{self, Axis, Mark, around, draw, whole},
    record::{amount, unit_name},
};

const SIZE: [u32; 2] = [420, 236];
/// Epochs of which a line shows every one.
const MOST_POINTS: usize = 200;

/// The section, or why there is none.
pub(crate) fn section(record: &Record) -> Result<Section, ReportError> {
    let mut section =
        Section { id: "training", title: "Over time".into(), layout: "two", ..Section::default() };
    match record.epochs.is_empty() {
        true => section.notes.push("No epoch has ended yet (metrics.jsonl).".into()),
        false => section.figures.extend([accuracy(record)?, loss(record)?]),
    }
    match cost_over_epochs(record)? {
        Some(figure) => section.figures.push(figure),
        None => section.figures.extend(cost_by_model(record)?),
    }
    Ok(section)
}

/// Epochs of all phases, one after another: each with its place on the axis, from 1.
fn places(record: &Record) -> impl Iterator<Item = (f64, &EpochReport)> + Clone {
    record.epochs.iter().enumerate().map(|(index, epoch)| ((index + 1) as f64, epoch))
}

/// Where phases begin, and their names.
fn phases(record: &Record) -> Vec<(f64, Phase)> {
    let mut last = None;
    let mut begins = Vec::new();
    for (place, epoch) in places(record) {
        if last != Some(epoch.phase) {
            last = Some(epoch.phase);
            begins.push((place, epoch.phase));
        }
    }
    begins
}

/// A value over the epochs, a line for each phase.
fn lines(
    record: &Record,
    colour: &'static Colour,
    value: impl Fn(&EpochReport) -> Option<f64> + Copy,
) -> Vec<Mark> {
    let own = |phase: Phase| -> Vec<(f64, f64)> {
        let epochs = places(record).filter(|(_, epoch)| epoch.phase == phase);
        let points = epochs.filter_map(|(place, epoch)| Some((place, value(epoch)?)));
        points.filter(|(_, value)| value.is_finite()).collect()
    };
    let mut marks = Vec::new();
    for phase in Phase::ALL {
        let points = own(phase);
        if points.len() <= 30 {
            marks.extend(points.iter().map(|point| Mark::Dot(*point, colour, true)));
        }
        if points.len() > 1 {
            marks.insert(0, Mark::Line(thinned(points), colour, 2));
        }
    }
    marks
}

/// At most so many of them, the last among them.
pub(crate) fn thinned<T: Copy>(points: Vec<T>) -> Vec<T> {
    let step = points.len().div_ceil(MOST_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let kept = points.iter().enumerate().filter(|(i, _)| i % step == 0 || *i == last);
    kept.map(|(_, point)| *point).collect()
}

/// A plot over the epochs, in which every phase has its place.
fn over_epochs(
    record: &Record,
    title: &str,
    values: Vec<f64>,
    label: &dyn Fn(f64) -> String,
    mut marks: Vec<Mark>,
) -> Result<String, ReportError> {
    let count = record.epochs.len() as f64;
    let y = around(values.into_iter(), 0.12);
    let begins = phases(record);
    if begins.len() > 1 {
        for &(place, phase) in &begins {
            let at = place - 0.5;
            let upright = vec![(at, y.start), (at, y.end)];
            marks.insert(0, Mark::Line(upright, &colours::GRID, 1));
            let name = (at + 0.012 * count, y.end - 0.07 * (y.end - y.start));
            marks.push(Mark::Text(name, phase.to_string(), &colours::MUTED, false));
        }
    }
    let x = Axis { range: 0.5..count + 0.5, title: "epoch", ticks: 8, label: &whole };
    let y = Axis { range: y, title: "", ticks: 6, label };
    draw(title, SIZE, (&x, &y), &marks)
}

/// The first and the last value of a phase's epochs, in words.
fn told(
    record: &Record,
    value: impl Fn(&EpochReport) -> Option<f64>,
    show: &dyn Fn(f64) -> String,
) -> String {
    let parts: Vec<String> = Phase::ALL
        .into_iter()
        .filter_map(|phase| {
            let own = record.epochs.iter().filter(|epoch| epoch.phase == phase);
            let values: Vec<f64> = own.filter_map(&value).collect();
            let (first, last) = (values.first()?, values.last()?);
            let count = values.len();
            Some(format!(
                "{phase} from {} to {} in {}",
                show(*first),
                show(*last),
                crate::numbers::counted(count, "epoch")
            ))
        })
        .collect();
    parts.join("; ")
}

fn accuracy(record: &Record) -> Result<Figure, ReportError> {
    let title = "Accuracy";
    let validation = |epoch: &EpochReport| epoch.validation_accuracy;
    let training = |epoch: &EpochReport| Some(epoch.train_accuracy);
    let mut marks = lines(record, &colours::DENSE, training);
    marks.extend(lines(record, &colours::COMPACT, validation));
    let values = record.epochs.iter().flat_map(|epoch| {
        [Some(epoch.train_accuracy), epoch.validation_accuracy].into_iter().flatten()
    });
    let percent = |value: f64| part(value, 1.0);
    let short = |value: f64| brief(percent(value));
    let svg = over_epochs(record, title, values.collect(), &short, marks)?;
    Ok(Figure {
        title: title.into(),
        alternative: format!(
            "Accuracy on the validation images by epoch: {}.",
            told(record, validation, &percent)
        ),
        caption: String::new(),
        keys: vec![
            Key::new(&colours::COMPACT, "validation images"),
            Key::new(&colours::DENSE, "training images, augmented"),
        ],
        size: SIZE,
        svg,
    })
}

fn loss(record: &Record) -> Result<Figure, ReportError> {
    let title = "Training loss";
    let value = |epoch: &EpochReport| Some(epoch.loss);
    let marks = lines(record, &colours::COMPACT, value);
    let values: Vec<f64> = record.epochs.iter().map(|epoch| epoch.loss).collect();
    let label = |value: f64| format!("{value:.2}");
    let svg = over_epochs(record, title, values, &label, marks)?;
    let told = told(record, value, &|value| format!("{value:.3}"));
    Ok(Figure {
        title: title.into(),
        alternative: format!("Mean training loss by epoch: {told}."),
        caption: "Mean of every epoch; a phase’s loss has terms of its own.".into(),
        keys: Vec::new(),
        size: SIZE,
        svg,
    })
}

/// The cost while gates are learned, with the budget; `None` where no step of a search was recorded.
fn cost_over_epochs(record: &Record) -> Result<Option<Figure>, ReportError> {
    let Some(budget) = record.budget() else { return Ok(None) };
    let search = || record.epochs.iter().filter(|epoch| epoch.phase == Phase::Search);
    let at = |epoch: &EpochReport, cost: f64| ((epoch.epoch + 1) as f64, cost);
    let expected = |epoch: &EpochReport| match budget.unit {
        Unit::Milliseconds => epoch.milliseconds,
        _ => epoch.flops.map(|flops| flops as f64),
    };
    let reached = |epoch: &EpochReport| match budget.unit {
        Unit::Milliseconds => epoch.derived_milliseconds,
        _ => epoch.derived_flops.map(|flops| flops as f64),
    };
    let epochs = search().filter_map(|epoch| Some(at(epoch, expected(epoch)?)));
    let start = record.gates.iter().filter(|gates| gates.epoch == 0);
    let start = start.map(|gates| (0.0, gates.cost)).take(1);
    let expected: Vec<(f64, f64)> = start.chain(epochs).collect();
    if search().next().is_none() || expected.len() < 2 {
        return Ok(None);
    }
    let derived: Vec<(f64, f64)> =
        search().filter_map(|epoch| Some(at(epoch, reached(epoch)?))).collect();
    let unit = unit_name(budget.unit);
    let last = expected.last().map_or(1.0, |point| point.0);
    let ends = vec![(0.0, budget.target), (last, budget.target)];
    let values = expected.iter().chain(&derived).chain(&ends).map(|point| point.1);
    let y = around(values, 0.12);
    let mut marks = vec![
        Mark::Line(ends, &colours::BUDGET, 2),
        Mark::Line(thinned(expected.clone()), &colours::COMPACT, 2),
    ];
    if expected.len() <= 30 {
        marks.extend(expected.iter().map(|point| Mark::Dot(*point, &colours::COMPACT, true)));
        marks.extend(derived.iter().map(|point| Mark::Dot(*point, &colours::SEARCHED, false)));
    }
    let x = Axis { range: 0.0..last, title: "epoch of the search", ticks: 8, label: &whole };
    let label = |value: f64| amount(value.max(0.0), budget.unit);
    let short = |value: f64| brief(label(value));
    let axis = Axis { range: y, title: "", ticks: 6, label: &short };
    let title = format!("Cost in {unit}");
    let svg = draw(&title, SIZE, (&x, &axis), &marks)?;
    let (first, end) = (expected[0].1, expected[expected.len() - 1].1);
    Ok(Some(Figure {
        title,
        alternative: format!(
            "Cost at the expected gates falls from {} to {}; the budget is {}.",
            label(first),
            label(end),
            label(budget.target)
        ),
        caption: String::new(),
        keys: vec![
            Key::new(&colours::COMPACT, "at the expected gates"),
            Key::new(&colours::SEARCHED, "derived"),
            Key::new(&colours::BUDGET, format!("budget, {}", label(budget.target))),
        ],
        size: SIZE,
        svg,
    }))
}

/// What the dense and the derived model cost, with the budget.
fn cost_by_model(record: &Record) -> Result<Option<Figure>, ReportError> {
    let (Some(budget), Some(architecture)) = (record.budget(), &record.architecture) else {
        return Ok(None);
    };
    let Some(table) =
        spvit_search::CostTable::in_unit(&architecture.model, architecture.cost_model, budget.unit)
    else {
        return Ok(None);
    };
    let Some(own) = architecture.cost(&table) else { return Ok(None) };
    let (dense, unit) = (table.dense(), budget.unit);
    let bar =
        |at: f64, cost: f64, colour| Mark::Bar([(0.0, at + 0.28), (cost, at - 0.28)], colour, true);
    let x = 0.0..dense * 1.02;
    let target = vec![(budget.target, -0.5), (budget.target, 1.5)];
    let marks = [
        bar(1.0, dense, &colours::DENSE),
        bar(0.0, own, &colours::COMPACT),
        Mark::Line(target, &colours::BUDGET, 2),
    ];
    let label = |value: f64| amount(value.max(0.0), unit);
    let names = |value: f64| match plot::whole(value).as_str() {
        "1" => "dense".to_string(),
        "0" => "compact".to_string(),
        _ => String::new(),
    };
    let short = |value: f64| brief(label(value));
    let x = Axis { range: x, title: "", ticks: 5, label: &short };
    let y = Axis { range: -0.5..1.5, title: "", ticks: 3, label: &names };
    let title = format!("Cost in {}", unit_name(unit));
    let size = [SIZE[0], 130];
    let svg = draw(&title, size, (&x, &y), &marks)?;
    let target = label(budget.target);
    Ok(Some(Figure {
        title,
        alternative: format!(
            "The dense model costs {}, the derived one {}; the budget is {target}.",
            label(dense),
            label(own)
        ),
        caption: match record.config.as_ref().is_some_and(|config| config.search.epochs == 0) {
            true => {
                "The architecture was found without learned steps: there is no cost over epochs."
            }
            false => "",
        }
        .into(),
        keys: vec![Key::new(&colours::BUDGET, format!("budget, {target}"))],
        size,
        svg,
    }))
}
