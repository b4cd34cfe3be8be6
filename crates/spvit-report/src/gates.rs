//! Every gate's probability over a search.

use spvit_layers::Operation;
use spvit_train::{BlockGateReport, GateReport};

use crate::{
    Record, ReportError,
    colours::{self, Colour},
    numbers::{counted, part},
    page::{Figure, Key, Section, Table},
    picture::operation_name,
    plot::{Axis, Mark, draw, whole},
};

const SIZE: [u32; 2] = [190, 124];
/// Times of a search that lines show.
const MOST_TIMES: usize = 40;

/// The section, or why there is none.
pub(crate) fn section(record: &Record) -> Result<Section, ReportError> {
    let mut section =
        Section { id: "gates", title: "Gates".into(), layout: "small", ..Section::default() };
    let times = times(&record.gates);
    let Some(last) = times.last() else {
        section.notes.push(
            "The run has left no probabilities of its gates (gates.jsonl): an earlier version of \
             spvit made it, or its search has not begun."
                .into(),
        );
        return Ok(section);
    };
    section.notes.push(match times.len() {
        1 => format!(
            "The probability of every gate where the search begins, block by block. {}Gates above one \
             half are open.",
            match record.config.as_ref().map(|config| config.search.epochs) {
                Some(0) => "Here it also ended: no step moved a threshold. ",
                Some(_) => "No epoch of the search has ended yet. ",
                None => "",
            }
        ),
        _ => format!(
            "The probability of every gate from the start of the search to the end of its epoch {}, \
             block by block. Gates above one half are open.",
            last.epoch
        ),
    });
    for block in 0..last.blocks.len() {
        section.figures.push(figure(&times, block)?);
    }
    section.notes.push(told(last));
    section.keys = keys(last);
    section.tables.push(table(last));
    Ok(section)
}

/// Reports of one model, the times of a long search thinned out.
fn times(gates: &[GateReport]) -> Vec<&GateReport> {
    let blocks = gates.last().map_or(0, |last| last.blocks.len());
    let same: Vec<&GateReport> =
        gates.iter().filter(|report| report.blocks.len() == blocks).collect();
    let step = same.len().div_ceil(MOST_TIMES).max(1);
    let end = same.len().saturating_sub(1);
    same.iter()
        .enumerate()
        .filter(|(i, _)| i % step == 0 || *i == end)
        .map(|(_, own)| *own)
        .collect()
}

/// What lines and areas are, in a sentence for all blocks.
fn told(last: &GateReport) -> String {
    let heads = last.blocks.iter().any(|block| !block.heads.is_empty());
    let heads = if heads { ", a thin line for each head" } else { "" };
    format!(
        "A thick line or dot for each operation that may open{heads}; the area is the middle eight \
         tenths of the FFN’s gates, its line their median."
    )
}

/// The colours of all blocks.
fn keys(last: &GateReport) -> Vec<Key> {
    let mut operations: Vec<Operation> =
        last.blocks.iter().flat_map(|block| block.path.iter().copied()).collect();
    operations.sort();
    operations.dedup();
    let any = |has: fn(&BlockGateReport) -> bool| last.blocks.iter().any(has);
    let operations =
        operations.into_iter().map(|own| Key::new(colours::of(own), operation_name(own)));
    let heads = any(|block| !block.heads.is_empty()).then(|| Key::new(&colours::HEAD, "heads"));
    let ffn = any(|block| block.ffn.gates > 0).then(|| Key::new(&colours::FFN, "FFN"));
    operations.chain(heads).chain(ffn).collect()
}

fn figure(times: &[&GateReport], index: usize) -> Result<Figure, ReportError> {
    let title = format!("Block {}", index + 1);
    let last = &times[times.len() - 1].blocks[index];
    let svg = match times.len() {
        1 => at_once(&title, last)?,
        _ => over_time(&title, times, index)?,
    };
    let operations = last.path.iter().zip(&last.operations);
    let operations: Vec<String> =
        operations.map(|(operation, p)| format!("{} {p:.2}", operation_name(*operation))).collect();
    Ok(Figure {
        alternative: format!(
            "Block {}, probabilities in the end: {}; {} of {} open.",
            index + 1,
            operations.join(", "),
            last.ffn.open,
            counted(last.ffn.gates, "FFN gate")
        ),
        title,
        caption: String::new(),
        keys: Vec::new(),
        size: SIZE,
        svg,
    })
}

fn probability(value: f64) -> String {
    match value {
        v if v.abs() < 1e-6 => "0".into(),
        v if (v - 0.5).abs() < 1e-6 => "½".into(),
        v if (v - 1.0).abs() < 1e-6 => "1".into(),
        _ => String::new(),
    }
}

/// The axis of probabilities, and the line at one half.
fn frame<'a>(range: [f64; 2]) -> (Axis<'a>, Mark) {
    let half = vec![(range[0], 0.5), (range[1], 0.5)];
    let axis = Axis { range: -0.04..1.04, title: "", ticks: 5, label: &probability };
    (axis, Mark::Line(half, &colours::OUTLINE, 1))
}

fn over_time(title: &str, times: &[&GateReport], index: usize) -> Result<String, ReportError> {
    let epochs = || times.iter().map(|report| report.epoch as f64);
    let end = epochs().fold(1.0, f64::max);
    let (y, half) = frame([0.0, end]);
    let mut marks = vec![half];
    let course = |of: &dyn Fn(&BlockGateReport) -> Option<f32>| -> Vec<(f64, f64)> {
        let values = times.iter().map(|report| of(&report.blocks[index]));
        let pairs = epochs().zip(values);
        pairs.filter_map(|(epoch, value)| Some((epoch, f64::from(value?)))).collect()
    };
    let quantile = |place: usize| course(&|block| block.ffn.quantiles.get(place).copied());
    let (low, high) = (quantile(1), quantile(5));
    if !low.is_empty() {
        let area = low.into_iter().chain(high.into_iter().rev()).collect();
        marks.push(Mark::Area(area, &colours::FFN, 0.3));
        marks.push(Mark::Line(quantile(3), &colours::FFN, 1));
    }
    let last = &times[times.len() - 1].blocks[index];
    for head in 0..last.heads.len() {
        let line = course(&|block| block.heads.get(head).copied());
        marks.push(Mark::Line(line, &colours::HEAD, 1));
    }
    for (gate, operation) in last.path.iter().enumerate() {
        let line = course(&|block| block.operations.get(gate).copied());
        marks.push(Mark::Line(line, colours::of(*operation), 2));
    }
    let x = Axis { range: 0.0..end, title: "", ticks: 4, label: &whole };
    draw(title, SIZE, (&x, &y), &marks)
}

/// The gates at one time: operations on the left, heads in the middle, the FFN on the right.
fn at_once(title: &str, block: &BlockGateReport) -> Result<String, ReportError> {
    let (y, half) = frame([0.0, 3.0]);
    let mut marks = vec![half];
    let dots = |at: f64, values: &[f32], colour: &dyn Fn(usize) -> &'static Colour| -> Vec<Mark> {
        let count = values.len().max(1) as f64;
        let place = |i: usize| at + (i as f64 + 1.0) / (count + 1.0);
        let points = values.iter().enumerate().filter(|(_, value)| value.is_finite());
        points.map(|(i, &v)| Mark::Dot((place(i), f64::from(v)), colour(i), true)).collect()
    };
    let of = |gate: usize| block.path.get(gate).map_or(&colours::MUTED, |own| colours::of(*own));
    marks.extend(dots(0.0, &block.operations, &of));
    marks.extend(dots(1.0, &block.heads, &|_| &colours::HEAD));
    let quantile = |place: usize| block.ffn.quantiles.get(place).map(|&value| f64::from(value));
    if let (Some(least), Some(low), Some(middle), Some(high), Some(most)) =
        (quantile(0), quantile(1), quantile(3), quantile(5), quantile(6))
    {
        let area = vec![(2.25, low), (2.75, low), (2.75, high), (2.25, high)];
        marks.push(Mark::Line(vec![(2.5, least), (2.5, most)], &colours::FFN, 1));
        marks.push(Mark::Area(area, &colours::FFN, 0.45));
        marks.push(Mark::Line(vec![(2.25, middle), (2.75, middle)], &colours::FFN, 2));
    }
    let name = |value: f64| match (value * 2.0).round() as i64 {
        1 => "operation".into(),
        3 if !block.heads.is_empty() => "heads".into(),
        5 if block.ffn.gates > 0 => "FFN".to_string(),
        _ => String::new(),
    };
    let x = Axis { range: 0.0..3.0, title: "", ticks: 7, label: &name };
    draw(title, SIZE, (&x, &y), &marks)
}

/// The last probabilities as numbers.
fn table(last: &GateReport) -> Table {
    let row = |(index, block): (usize, &BlockGateReport)| {
        let operations: Vec<String> = block
            .path
            .iter()
            .zip(&block.operations)
            .map(|(operation, p)| format!("{operation} {p:.3}"))
            .collect();
        let heads: Vec<String> = block.heads.iter().map(|p| format!("{p:.3}")).collect();
        let ffn = match block.ffn.gates {
            0 => "as it is".into(),
            gates => format!(
                "{} of {gates} ({})",
                block.ffn.open,
                part(block.ffn.open as f64, gates as f64)
            ),
        };
        let or_dash = |text: String| if text.is_empty() { "–".into() } else { text };
        let (operations, heads) = (operations.join(", "), heads.join(" "));
        vec![(index + 1).to_string(), or_dash(operations), or_dash(heads), ffn]
    };
    Table {
        caption: match last.epoch {
            0 => "Probabilities at the start of the search".into(),
            epoch => format!("Probabilities after epoch {epoch} of the search"),
        },
        head: ["block", "operations", "heads", "FFN gates open"].map(String::from).to_vec(),
        rows: last.blocks.iter().enumerate().map(row).collect(),
        folded: true,
        numbers: false,
    }
}
