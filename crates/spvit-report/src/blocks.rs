//! What became of every block.

use spvit_search::{Architecture, Profile};

use crate::{
    Record, ReportError, colours,
    numbers::{flops_text, part},
    page::{Figure, Key, Section, Table},
    picture::{self, operation_name},
    plot::{Axis, Mark, draw, whole},
};

const SIZE: [u32; 2] = [420, 250];

/// The section: the picture, and expansion ratios by block.
pub(crate) fn section(record: &Record) -> Result<Section, ReportError> {
    let mut section = Section {
        id: "architecture",
        title: "Architecture".into(),
        layout: "two",
        ..Section::default()
    };
    match (&record.architecture, &record.config) {
        (Some(architecture), _) => {
            section.notes.extend(architecture.blind().map(|line| format!("{}.", capital(line))));
            section.figures.push(picture::figure(architecture, "From images to classes"));
            section.figures.push(ratios(architecture)?);
            section.tables.push(table(architecture));
        }
        (None, Some(config)) => {
            section.notes.push("No architecture is derived yet (architecture.json).".into());
            section.figures.push(picture::dense(&config.model, config.search.cost_model));
        }
        (None, None) => {
            section.notes.push("The folder holds no architecture (architecture.json).".into());
        }
    }
    Ok(section)
}

fn capital(line: &str) -> String {
    let mut letters = line.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Expansion ratio of every FFN, in the colour of the block's operation.
pub(crate) fn ratios(architecture: &Architecture) -> Result<Figure, ReportError> {
    let shapes = architecture.model.blocks();
    let ratio = |hidden: usize, dim: usize| hidden as f64 / dim.max(1) as f64;
    let mut marks = Vec::new();
    let mut highest: f64 = 0.0;
    for (index, (block, shape)) in architecture.blocks.iter().zip(&shapes).enumerate() {
        let at = (index + 1) as f64;
        let bar = |height: f64| [(at - 0.36, height), (at + 0.36, 0.0)];
        let (own, dense) = (ratio(block.kept.len(), shape.dim), ratio(shape.hidden, shape.dim));
        highest = highest.max(dense);
        marks.push(Mark::Bar(bar(own), colours::of(block.operation), true));
        marks.push(Mark::Bar(bar(dense), &colours::OUTLINE, false));
    }
    let count = architecture.blocks.len() as f64;
    let label = |value: f64| format!("{value:.1}");
    let x = Axis { range: 0.4..count + 0.6, title: "block", ticks: 14, label: &whole };
    let y = Axis { range: 0.0..highest.max(1.0) * 1.05, title: "", ticks: 5, label: &label };
    let title = "Expansion ratio and operation of every block";
    let ratios: Vec<String> = architecture
        .blocks
        .iter()
        .zip(&shapes)
        .map(|(block, shape)| format!("{:.2}", ratio(block.kept.len(), shape.dim)))
        .collect();
    let mut operations: Vec<_> = architecture.blocks.iter().map(|block| block.operation).collect();
    operations.sort();
    operations.dedup();
    Ok(Figure {
        title: title.into(),
        alternative: format!(
            "Expansion ratios from the first block to the last: {}.",
            ratios.join(", ")
        ),
        caption:
            "Hidden dimensions of the FFN as a multiple of the block’s width. Outlines are the \
                  dense model."
                .into(),
        keys: operations
            .into_iter()
            .rev()
            .map(|own| Key::new(colours::of(own), operation_name(own)))
            .collect(),
        size: SIZE,
        svg: draw(title, SIZE, (&x, &y), &marks)?,
    })
}

fn table(architecture: &Architecture) -> Table {
    let profile = Profile::new(architecture);
    let total = profile.total().flops(architecture.cost_model) as f64;
    let shapes = architecture.model.blocks();
    let row = |(index, shape): (usize, &spvit_layers::BlockShape)| {
        let block = &profile.blocks[index];
        let heads = match (block.operation, block.heads) {
            (spvit_layers::Operation::Msa, kept) => {
                format!("{}/{}", kept.unwrap_or(shape.heads), shape.heads)
            }
            _ => "–".into(),
        };
        let flops = block.total().flops(architecture.cost_model);
        vec![
            (index + 1).to_string(),
            block.operation.to_string(),
            heads,
            format!("{}/{}", block.hidden, shape.hidden),
            format!("{:.2}", block.hidden as f64 / shape.dim.max(1) as f64),
            flops_text(flops),
            part(flops as f64, total),
        ]
    };
    let head = ["block", "operation", "heads", "FFN", "ratio", "FLOPs", "share"];
    Table {
        caption: "Every block in numbers".into(),
        head: head.map(String::from).to_vec(),
        rows: shapes.iter().enumerate().map(row).collect(),
        folded: true,
        numbers: true,
    }
}
