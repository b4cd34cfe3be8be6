//! The table and the plots of a study.

use std::{fs, path::Path};

use plotters::prelude::*;

use super::{
    records::{Figures, Record, Records},
    rows::{Group, ROWS, Row},
};
use crate::shell::Failure;

/// A part of docs/EVIDENCE.md that the command writes.
#[derive(Clone, Copy)]
pub enum Part {
    /// The study itself, with plots.
    Whole,
    /// That of a transferred model.
    Transfer,
}

impl Part {
    /// It stands between these lines.
    fn marks(self) -> [&'static str; 2] {
        match self {
            Self::Whole => ["<!-- cargo xtask study: begin -->", "<!-- cargo xtask study: end -->"],
            Self::Transfer => [
                "<!-- cargo xtask study --transfer: begin -->",
                "<!-- cargo xtask study --transfer: end -->",
            ],
        }
    }
}

/// A row's figures at one budget, over its seeds.
struct Summary<'a> {
    row: &'a Row,
    budget: f64,
    figures: Vec<&'a Figures>,
    impossible: Option<&'a str>,
}

impl Summary<'_> {
    /// Mean and standard deviation of the sample, if there is more than one.
    fn of(&self, value: impl Fn(&Figures) -> Option<f64>) -> Option<(f64, Option<f64>)> {
        let values: Vec<f64> = self.figures.iter().filter_map(|figures| value(figures)).collect();
        let count = values.len() as f64;
        let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / count)?;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some((mean, (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt())))
    }
}

/// Every row that has been computed, budget by budget, the largest first.
fn summaries(records: &Records) -> Vec<Summary<'_>> {
    let mut budgets: Vec<f64> = records.all.iter().map(|record| record.budget).collect();
    budgets.sort_by(|a, b| b.total_cmp(a));
    budgets.dedup();
    let of = |budget: f64, row: &'static Row| {
        let own = |record: &&Record| record.row == row.name && record.budget == budget;
        let mut own = records.all.iter().filter(own).peekable();
        own.peek()?;
        let own: Vec<&Record> = own.collect();
        Some(Summary {
            row,
            budget,
            figures: own.iter().filter_map(|record| record.figures.as_ref()).collect(),
            impossible: own.iter().find_map(|record| record.impossible.as_deref()),
        })
    };
    budgets
        .into_iter()
        .flat_map(|budget| ROWS.iter().filter_map(move |row| of(budget, row)))
        .collect()
}

/// The figures as Markdown.
pub fn table(records: &Records) -> String {
    let percent = |value: Option<(f64, Option<f64>)>| match value {
        Some((mean, Some(spread))) => format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * spread),
        Some((mean, None)) => format!("{:.2}", 100.0 * mean),
        None => "–".into(),
    };
    let mut text = String::new();
    for part in summaries(records).chunk_by(|a, b| a.budget == b.budget) {
        text += &format!("\n**{:.0} % of the FLOPs**\n\n", 100.0 * part[0].budget);
        text += "| | what it is | FLOPs % | parameters | latency % | cut, not tuned % | \
                 validation % | test % | seeds | images before / after the cut |\n";
        text += "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";
        let mut impossible: Vec<(&str, Vec<&str>)> = Vec::new();
        for summary in part {
            let Row { name, about, group, .. } = summary.row;
            let Some(first) = summary.figures.first() else {
                let why = summary.impossible.unwrap_or_default();
                match impossible.iter_mut().find(|(other, _)| *other == why) {
                    Some((_, names)) => names.push(name),
                    None => impossible.push((why, vec![name])),
                }
                continue;
            };
            let name = match group {
                Group::Own => format!("**{name}**"),
                Group::Rival => name.to_string(),
                Group::Ablation => format!("*{name}*"),
            };
            text += &format!(
                "| {name} | {about} | {} | {} | {} | {} | {} | {} | {} | {} / {} |\n",
                percent(summary.of(|figures| Some(figures.share))),
                first.parameters,
                percent(summary.of(|figures| figures.latency)),
                percent(summary.of(|figures| figures.before)),
                percent(summary.of(|figures| Some(figures.validation))),
                percent(summary.of(|figures| Some(figures.test))),
                summary.figures.len(),
                first.images[0],
                first.images[1],
            );
        }
        for (why, names) in impossible {
            text += &format!("\nNo model ({}): {why}.\n", names.join("; "));
        }
    }
    text
}

/// Writes the table into EVIDENCE.md and the plots beside it.
pub fn write(records: &Records, part: Part) -> Result<(), Failure> {
    let folder = Path::new("docs");
    let marks = part.marks();
    let path = folder.join("EVIDENCE.md");
    let fail = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| fail(&error))?;
    let [begin, end] = marks.map(|mark| text.find(mark));
    let (Some(begin), Some(end)) = (begin, end) else {
        return Err(fail(&format!("the lines {} and {} are not there", marks[0], marks[1])));
    };
    let head = &text[..begin + marks[0].len()];
    fs::write(&path, format!("{head}\n{}\n{}", table(records), &text[end..]))
        .map_err(|error| fail(&error))?;
    if matches!(part, Part::Transfer) {
        return Ok(());
    }
    let summaries = summaries(records);
    let share = |figures: &Figures| Some(figures.share);
    plot(&summaries, share, "FLOPs, % of the dense model's", &folder.join("evidence-flops.svg"))?;
    let latency = |figures: &Figures| figures.latency;
    let title = "latency of 64 images, % of the dense model's";
    plot(&summaries, latency, title, &folder.join("evidence-latency.svg"))
}

/// Test accuracy against a cost, a colour for each row.
fn plot(
    summaries: &[Summary<'_>],
    cost: impl Fn(&Figures) -> Option<f64> + Copy,
    title: &str,
    path: &Path,
) -> Result<(), Failure> {
    let point = |summary: &Summary<'_>| {
        let (x, _) = summary.of(cost)?;
        let (y, spread) = summary.of(|figures| Some(figures.test))?;
        Some([100.0 * x, 100.0 * y, 100.0 * spread.unwrap_or(0.0)])
    };
    let rows: Vec<(&Row, Vec<[f64; 3]>)> = ROWS
        .iter()
        .filter(|row| row.group != Group::Ablation)
        .map(|row| {
            let own = summaries.iter().filter(|summary| summary.row.name == row.name);
            (row, own.filter_map(point).collect())
        })
        .filter(|(_, points): &(_, Vec<_>)| !points.is_empty())
        .collect();
    let all = || rows.iter().flat_map(|(_, points)| points);
    let range = |index: usize, around: f64| {
        let low = all().map(|point| point[index]).fold(f64::MAX, f64::min);
        let high = all().map(|point| point[index]).fold(f64::MIN, f64::max);
        low - around..high + around
    };
    if all().next().is_none() {
        return Ok(());
    }
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(path, (900, 560)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(range(0, 3.0), range(1, 0.3))?;
        chart
            .configure_mesh()
            .x_desc(title)
            .y_desc("test accuracy, %")
            .light_line_style(WHITE)
            .draw()?;
        for (index, (row, points)) in rows.iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            let width = if row.group == Group::Own { 3 } else { 1 };
            let line = points.iter().map(|&[x, y, _]| (x, y));
            chart
                .draw_series(LineSeries::new(line, colour.stroke_width(width)).point_size(3))?
                .label(row.name)
                .legend(move |(x, y)| {
                    PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(width))
                });
            let bars = points.iter().map(|&[x, y, spread]| {
                PathElement::new(vec![(x, y - spread), (x, y + spread)], colour.stroke_width(1))
            });
            chart.draw_series(bars)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}
