//! Several runs side by side.

use spvit_train::ModelFigures;

use crate::{
    Record, ReportError, colours,
    front::{Point, dominated},
    numbers::{brief, counted, flops_text, milliseconds, part, percent, thousands},
    page::{Figure, Key, LIMIT, Page, Section, Table},
    picture,
    plot::{Axis, Mark, around, draw},
    run::footer,
    settings::settings,
};

const SIZE: [u32; 2] = [420, 270];
/// The section of the architectures.
const SIDE: &str = "side-by-side";

/// What a model costs.
type CostOf = fn(&ModelFigures) -> f64;

/// A page that compares runs, as HTML. Runs that other budgets' runs lie in count as these.
///
/// # Errors
/// [`ReportError`] if a plot cannot be drawn.
pub fn comparison(records: &[Record]) -> Result<String, ReportError> {
    let runs: Vec<&Record> = records.iter().flat_map(with_parts).collect();
    let html = of(&runs, true)?.html()?;
    match html.len() < LIMIT {
        true => Ok(html),
        false => of(&runs, false)?.html(),
    }
}

/// The page, with the architectures' pictures or without.
fn of(runs: &[&Record], pictures: bool) -> Result<Page, ReportError> {
    let mut sections = sections(runs)?;
    for section in sections.iter_mut().filter(|section| section.id == SIDE && !pictures) {
        section.figures.clear();
        section.notes.push("They are left out, since the page would be too large.".into());
    }
    Ok(Page {
        title: format!("{} side by side", counted(runs.len(), "run")),
        lead: vec![best(runs)],
        tiles: Vec::new(),
        sections,
        footer: footer(),
        live: false,
    })
}

/// A run, or those in its `budgets` with its own model where that is another.
fn with_parts(record: &Record) -> Vec<&Record> {
    let parts: Vec<&Record> = record.parts.iter().collect();
    let same = |part: &&Record| part.architecture == record.architecture;
    match parts.iter().any(same) {
        true => parts,
        false => std::iter::once(record).chain(parts).collect(),
    }
}

/// Which compact model is the most accurate.
fn best(runs: &[&Record]) -> String {
    let models = runs.iter().filter_map(|run| Some((run, run.figures("compact")?)));
    let best = models.max_by(|(_, a), (_, b)| a.accuracy.total_cmp(&b.accuracy));
    match best {
        Some((run, model)) => format!(
            "The most accurate compact model is that of {}: {} at {} FLOPs.",
            run.name,
            percent(model.accuracy),
            flops_text(model.flops)
        ),
        None => "None of these runs has an evaluated compact model yet.".into(),
    }
}

/// A model in the comparison.
struct Row<'a> {
    /// What the table and the plots call it: `dense`, or a number.
    label: String,
    name: String,
    budget: String,
    /// Its latencies in the scale of the dense model's row.
    figures: Option<ModelFigures>,
    dense: Option<&'a ModelFigures>,
}

impl Row<'_> {
    fn point(&self, cost: CostOf) -> Option<Point> {
        let figures = self.figures.as_ref()?;
        let point = Point { cost: cost(figures), accuracy: figures.accuracy };
        (point.cost.is_finite() && point.accuracy.is_finite()).then_some(point)
    }

    fn is_dense(&self) -> bool {
        self.label == "dense"
    }

    /// Whether it is this dense model, timed when it may.
    fn is_of(&self, dense: &ModelFigures) -> bool {
        self.is_dense()
            && self.figures.as_ref().is_some_and(|own| {
                (own.flops, own.parameters) == (dense.flops, dense.parameters)
                    && own.accuracy == dense.accuracy
            })
    }
}

/// A model's figures with its times as shares of its run's dense model, times that model's in its row: every
/// run timed its own models in turn, at a speed of its own hour.
fn comparable(own: &ModelFigures, dense: Option<&ModelFigures>, rows: &[Row<'_>]) -> ModelFigures {
    let row = dense.and_then(|dense| rows.iter().find(|row| row.is_of(dense)));
    own.rescaled(|time| Some(time(row?.figures.as_ref()?)? / time(dense?)?))
}

/// The dense models, each once, then a row for each run.
fn rows<'a>(runs: &[&'a Record], names: &[String]) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for run in runs {
        let Some(dense) = run.figures("dense") else { continue };
        if !rows.iter().any(|row| row.is_of(dense)) {
            rows.push(Row {
                label: "dense".into(),
                name: "dense model".into(),
                budget: "–".into(),
                figures: Some(dense.clone()),
                dense: Some(dense),
            });
        }
    }
    for (index, (run, name)) in runs.iter().zip(names).enumerate() {
        rows.push(Row {
            label: (index + 1).to_string(),
            name: name.clone(),
            budget: run.budgets_text(),
            figures: run.figures("compact").map(|own| comparable(own, run.figures("dense"), &rows)),
            dense: run.figures("dense"),
        });
    }
    rows
}

/// A name for each run: its folder's, or the whole path where two are alike.
fn names(runs: &[&Record]) -> Vec<String> {
    let alike = |name: &str| runs.iter().filter(|run| run.name == name).count() > 1;
    let name = |run: &&Record| match alike(&run.name) {
        true => run.root.display().to_string(),
        false => run.name.clone(),
    };
    runs.iter().map(name).collect()
}

/// The comparison: figures, plots, architectures, and what differs in the configurations.
pub(crate) fn sections(runs: &[&Record]) -> Result<Vec<Section>, ReportError> {
    let names = names(runs);
    let rows = rows(runs, &names);
    let mut sections = vec![figures(runs, &rows)?];
    let mut side = Section {
        id: SIDE,
        title: "Architectures side by side".into(),
        layout: "two",
        ..Section::default()
    };
    for (index, (run, name)) in runs.iter().zip(&names).enumerate() {
        if let Some(architecture) = &run.architecture {
            let figure = picture::figure(architecture, &format!("{}. {name}", index + 1));
            side.figures.push(Figure { caption: String::new(), ..figure });
        }
    }
    if side.figures.is_empty() {
        side.notes.push("None of these runs has an architecture yet.".into());
    }
    sections.push(side);
    sections.extend(settings(runs, &names));
    Ok(sections)
}

fn figures(runs: &[&Record], rows: &[Row<'_>]) -> Result<Section, ReportError> {
    let mut section = Section {
        id: "comparison",
        title: "Comparison".into(),
        layout: "two",
        ..Section::default()
    };
    let costs: [(&str, CostOf); 2] =
        [("FLOPs", |own| own.flops as f64), ("latency", |own| own.latency_batch)];
    let better = costs
        .map(|(_, cost)| dominated(&rows.iter().map(|row| row.point(cost)).collect::<Vec<_>>()));
    section.tables.push(table(rows, [&better[0], &better[1]]));
    section.notes.push(
        "A model is dominated where another one costs no more and is right at least as often."
            .into(),
    );
    section.notes.push(
        "Latencies are shares of the dense model's, which each run timed in turn with its own model."
            .into(),
    );
    section.notes.extend(unlike(runs));
    if rows.iter().any(|row| row.figures.is_some()) {
        let flops = |value: f64| flops_text(value.max(0.0) as u64);
        let time = |value: f64| milliseconds(value.max(0.0));
        section.figures.push(scatter(rows, &better[0], costs[0], &flops)?);
        section.figures.push(scatter(rows, &better[1], costs[1], &time)?);
    }
    Ok(section)
}

/// In what the runs cannot be compared.
fn unlike(runs: &[&Record]) -> Option<String> {
    let summaries = || runs.iter().filter_map(|run| run.summary.as_ref());
    let first = summaries().next()?;
    let mut what = Vec::new();
    if summaries().any(|own| own.data_fingerprint != first.data_fingerprint) {
        what.push("images (accuracy)");
    }
    if summaries().any(|own| own.test_images != first.test_images) {
        what.push("numbers of test images (accuracy)");
    }
    if summaries().any(|own| own.backend != first.backend) {
        what.push("devices (latency)");
    }
    if summaries().any(|own| own.latency_batch_size != first.latency_batch_size) {
        what.push("sizes of batches (latency)");
    }
    if summaries().any(|own| own.cost_model != first.cost_model) {
        what.push("cost models (FLOPs)");
    }
    (!what.is_empty()).then(|| {
        format!("These runs differ in their {}: compare with care.", what.join(", their "))
    })
}

fn table(rows: &[Row<'_>], better: [&[Option<usize>]; 2]) -> Table {
    let row = |(index, row): (usize, &Row<'_>)| {
        let mut cells = match row.is_dense() {
            true => vec![row.name.clone(), row.budget.clone()],
            false => vec![format!("{}. {}", row.label, row.name), row.budget.clone()],
        };
        let Some(own) = &row.figures else {
            cells.extend(["–", "–", "–", "–", "not evaluated"].map(String::from));
            return cells;
        };
        let share = row.dense.filter(|_| !row.is_dense());
        let share = share.map(|dense| format!(" ({})", part(own.flops as f64, dense.flops as f64)));
        let in_what: Vec<String> = ["FLOPs", "latency"]
            .into_iter()
            .zip(better)
            .filter_map(|(cost, better)| {
                let label = &rows[better[index]?].label;
                Some(format!("in {cost} by {label}"))
            })
            .collect();
        cells.extend([
            percent(own.accuracy),
            flops_text(own.flops) + &share.unwrap_or_default(),
            thousands(own.parameters),
            milliseconds(own.latency_batch),
            if in_what.is_empty() { "no".into() } else { in_what.join(", ") },
        ]);
        cells
    };
    let head = ["model", "budget", "accuracy", "FLOPs", "parameters", "latency", "dominated"];
    Table {
        head: head.map(String::from).to_vec(),
        rows: rows.iter().enumerate().map(row).collect(),
        numbers: true,
        ..Table::default()
    }
}

/// Accuracy against a cost, with a line along the models that nothing dominates.
fn scatter(
    rows: &[Row<'_>],
    better: &[Option<usize>],
    (name, cost): (&str, CostOf),
    label: &dyn Fn(f64) -> String,
) -> Result<Figure, ReportError> {
    let points: Vec<(usize, Point)> =
        rows.iter().enumerate().filter_map(|(i, row)| Some((i, row.point(cost)?))).collect();
    let x = around(points.iter().map(|(_, point)| point.cost), 0.14);
    let y = around(points.iter().map(|(_, point)| point.accuracy), 0.16);
    let mut front: Vec<Point> =
        points.iter().filter(|(i, _)| better[*i].is_none()).map(|(_, point)| *point).collect();
    front.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    let line = front.iter().map(|point| (point.cost, point.accuracy)).collect();
    let mut marks = vec![Mark::Line(line, &colours::OUTLINE, 1)];
    let offset = [0.022 * (x.end - x.start), 0.014 * (y.end - y.start)];
    for (index, point) in &points {
        let at = (point.cost, point.accuracy);
        let row = &rows[*index];
        let colour = if row.is_dense() { &colours::DENSE } else { &colours::COMPACT };
        marks.push(Mark::Dot(at, colour, better[*index].is_none()));
        let text = (at.0 + offset[0], at.1 + offset[1]);
        marks.push(Mark::Text(text, row.label.clone(), &colours::INK, false));
    }
    let title = format!("Accuracy against {name}");
    let percent_label = |value: f64| brief(part(value, 1.0));
    let cost_label = |value: f64| brief(label(value));
    let axis = Axis { range: x.start.max(0.0)..x.end, title: "", ticks: 6, label: &cost_label };
    let accuracy = Axis { range: y, title: "", ticks: 6, label: &percent_label };
    let told: Vec<String> = points
        .iter()
        .map(|(i, point)| {
            let state = if better[*i].is_some() { " (dominated)" } else { "" };
            let (accuracy, cost) = (percent(point.accuracy), label(point.cost));
            format!("{} {accuracy} at {cost}{state}", rows[*i].label)
        })
        .collect();
    Ok(Figure {
        alternative: format!("Test accuracy against {name}: {}.", told.join(", ")),
        caption: "Numbers are those of the table; open circles are dominated.".into(),
        keys: vec![Key::new(&colours::COMPACT, "compact"), Key::new(&colours::DENSE, "dense")],
        size: SIZE,
        svg: draw(&title, SIZE, (&axis, &accuracy), &marks)?,
        title,
    })
}
