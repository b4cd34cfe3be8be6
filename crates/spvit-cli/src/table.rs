//! The final screen.

use comfy_table::{CellAlignment, Table, presets};
use spvit_report::numbers::{flops_text, milliseconds, percent, thousands};
use spvit_train::Summary;

use crate::output::plain;

/// The table and the lines around it.
pub fn render(summary: &Summary) -> String {
    let dense = summary.models.iter().find(|model| model.name == "dense");
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let batch = format!("batch of {}", summary.latency_batch_size);
    let elsewhere = summary.models.iter().any(|model| model.onnxruntime.is_some());
    let mut header = vec!["model", "accuracy", "FLOPs", "parameters", "one image", &batch];
    if elsewhere {
        header.extend(["onnxruntime", &batch]);
    }
    table.set_header(header);
    for model in &summary.models {
        let relative = |own: f64, whole: Option<f64>| match whole {
            Some(whole) if whole > 0.0 => format!(" ({:.1} %)", 100.0 * own / whole),
            _ => String::new(),
        };
        let flops = relative(model.flops as f64, dense.map(|dense| dense.flops as f64));
        let parameters =
            relative(model.parameters as f64, dense.map(|dense| dense.parameters as f64));
        let mut row = vec![
            model.name.clone(),
            percent(model.accuracy),
            flops_text(model.flops) + &flops,
            thousands(model.parameters) + &parameters,
            milliseconds(model.latency_one),
            milliseconds(model.latency_batch),
        ];
        if elsewhere {
            let times = model.onnxruntime.map(|times| times.map(milliseconds));
            row.extend(times.unwrap_or_default());
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let Summary { data, test_images, cost_model, backend, .. } = summary;
    let mut text = format!("{table}\n");
    text += &format!(
        "Accuracy on the {test_images} test images of {}. FLOPs are multiply-adds counted once \
         (cost model {cost_model}).\nLatency on {backend}, median.\n",
        plain(data)
    );
    let reached = summary.models.iter().rev().find(|model| model.name != "dense");
    if let Some(model) = reached {
        let flops = summary.target_flops.map(|target| (target, model.flops, "FLOPs"));
        let parameters = summary.target_parameters;
        let parameters = parameters.map(|target| (target, model.parameters as u64, "parameters"));
        for (target, reached, unit) in flops.into_iter().chain(parameters) {
            let error = 100.0 * (reached as f64 / target as f64 - 1.0);
            let (target, reached) = (flops_text(target), flops_text(reached));
            text += &format!("Budget {target} {unit}, reached {reached}: {error:+.3} %.\n");
        }
    }
    let timed = summary.models.iter().rev().find(|model| model.name != "dense");
    if let (Some(target), Some(table)) = (summary.target_milliseconds, &summary.latency_table) {
        let reached = timed.and_then(|model| model.milliseconds);
        let reached = reached.map_or_else(
            || "not measured here".into(),
            |own| format!("reached {own:.4} ms: {:+.1} %", 100.0 * (own / target - 1.0)),
        );
        text += &format!("Budget {target:.4} ms, {reached} ({}).\n", plain(table));
    }
    text
}
