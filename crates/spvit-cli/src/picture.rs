//! An architecture as a picture: a row for each block, its operation as a box and its FFN as a bar.

use spvit_layers::Operation;
use spvit_search::{Architecture, Profile};
use svg::{
    Document,
    node::element::{Rectangle, Text},
};

use crate::progress::flops_text;

const ROW: usize = 26;
const TOP: usize = 74;
const WIDTH: usize = 720;
/// Left edges of the block's number, the operation, the FFN and the FLOPs.
const COLUMNS: [usize; 4] = [16, 60, 190, 600];
const BOX: [usize; 2] = [112, 18];
const BAR: usize = 300;

/// The picture as SVG.
pub fn draw(architecture: &Architecture, profile: &Profile) -> String {
    let height = TOP + ROW * profile.blocks.len() + 44;
    let background = rectangle([0, 0], [WIDTH, height], "#ffffff");
    let mut page =
        Document::new().set("viewBox", (0, 0, WIDTH, height)).set("width", WIDTH).add(background);
    let share = 100.0 * architecture.flops as f64 / architecture.dense_flops.max(1) as f64;
    let title = format!(
        "{} of {} FLOPs ({share:.1} %), {} blocks",
        flops_text(architecture.flops),
        flops_text(architecture.dense_flops),
        profile.blocks.len(),
    );
    page = page.add(text(&title, [COLUMNS[0], 28], 16));
    for (name, left) in ["block", "operation", "FFN", "FLOPs"].into_iter().zip(COLUMNS) {
        page = page.add(text(name, [left, 58], 12));
    }
    let shapes = architecture.model.blocks();
    for (index, (block, shape)) in profile.blocks.iter().zip(&shapes).enumerate() {
        let hidden = shape.hidden;
        let top = TOP + ROW * index;
        let base = top + 13;
        let kept = BAR * block.hidden / hidden.max(1);
        let operation = match block.heads {
            Some(heads) => format!("{}, {heads}/{} heads", block.operation, shape.heads),
            None => block.operation.to_string(),
        };
        let flops = flops_text(block.total().flops(architecture.cost_model));
        page = page
            .add(text(&(index + 1).to_string(), [COLUMNS[0], base], 12))
            .add(rectangle([COLUMNS[1], top], BOX, colour(block.operation)))
            .add(text(&operation, [COLUMNS[1] + 8, base], 12))
            .add(rectangle([COLUMNS[2], top], [BAR, BOX[1]], "#e8e8e8"))
            .add(rectangle([COLUMNS[2], top], [kept, BOX[1]], "#7fb3d5"))
            .add(text(&format!("{}/{hidden}", block.hidden), [COLUMNS[2] + BAR + 10, base], 12))
            .add(text(&flops, [COLUMNS[3], base], 12));
    }
    let legend = format!(
        "FLOPs are multiply-adds counted once (cost model {}); a bar shows the hidden dimensions kept.",
        architecture.cost_model
    );
    page.add(text(&legend, [COLUMNS[0], height - 16], 11)).to_string() + "\n"
}

/// The dearer the operation, the warmer its colour.
fn colour(operation: Operation) -> &'static str {
    match operation {
        Operation::Shortcut => "#eeeeee",
        Operation::BConv(1) => "#cfe8cf",
        Operation::BConv(3) => "#a6d8a8",
        Operation::BConv(_) => "#7cc47f",
        Operation::Msa => "#f5b895",
    }
}

fn rectangle([left, top]: [usize; 2], [width, height]: [usize; 2], fill: &str) -> Rectangle {
    Rectangle::new()
        .set("x", left)
        .set("y", top)
        .set("width", width)
        .set("height", height)
        .set("rx", 3)
        .set("fill", fill)
}

fn text(content: &str, [left, base]: [usize; 2], size: usize) -> Text {
    Text::new(content)
        .set("x", left)
        .set("y", base)
        .set("font-family", "sans-serif")
        .set("font-size", size)
        .set("fill", "#222222")
}
