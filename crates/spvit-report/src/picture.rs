//! An architecture as a picture, from the images to the classes: an operation and an FFN for each block, the dense
//! model's outline behind them.

use spvit_layers::{BlockShape, ModelConfig, Operation};
use spvit_search::{Architecture, BlockProfile, Profile};
use svg::{
    Document,
    node::element::{Group, Line, Rectangle, Style, Text, Title},
};

use crate::{
    colours::{self, Colour},
    numbers::{flops_text, part},
    page::{Figure, Key},
};

const WIDTH: usize = 420;
const ROW: usize = 28;
const BOX: usize = 20;
/// Left edges of the operation and of the FFN; right edges of the block's number and of its FLOPs.
const OPERATION: usize = 28;
const FFN: usize = 172;
const NUMBER: usize = 20;
const FLOPS: usize = WIDTH;
/// Widths of an operation's box and of a whole FFN.
const OPERATION_WIDTH: usize = 130;
const FFN_WIDTH: usize = 116;
/// Heads that can still be told apart.
const MOST_HEADS: usize = 16;

/// The picture as an SVG file of its own.
pub fn draw(architecture: &Architecture, profile: &Profile) -> String {
    let (content, height) = content(architecture, profile);
    let title = title(architecture);
    let heading = text([0, 0], &title, &colours::INK, 15).set("font-weight", 600);
    let legend = keys(architecture).into_iter().fold((Group::new(), 0), |(group, left), key| {
        let colour = colours::ALL.iter().find(|own| own.name == key.colour);
        let colour = colour.unwrap_or(&colours::MUTED);
        let width = 24 + key.meaning.len() * 7;
        let mark = rectangle([left, 0], [11, 11], colour);
        let name = text([left + 16, 10], &key.meaning, &colours::MUTED, 12);
        (group.add(mark).add(name), left + width)
    });
    let notes = [
        format!("FLOPs are multiply-adds counted once (cost model {}).", architecture.cost_model),
        "Outlines are the dense model.".to_string(),
    ];
    let (margin, total) = (20, height + 132);
    let sized = [WIDTH.max(legend.1) + 2 * margin, total];
    let moved =
        |group: Group, top: usize| group.set("transform", format!("translate({margin} {top})"));
    let notes = notes.iter().enumerate().fold(Group::new(), |group, (line, note)| {
        group.add(text([0, 16 * line], note, &colours::MUTED, 11))
    });
    let document = Document::new()
        .set("viewBox", (0, 0, sized[0], sized[1]))
        .set("width", sized[0])
        .set("height", sized[1])
        .set("role", "img")
        .set("font-family", "system-ui, sans-serif")
        .add(Title::new(title))
        .add(Style::new(colours::style()))
        .add(rectangle([0, 0], sized, &colours::PAPER))
        .add(moved(Group::new().add(heading), 32))
        .add(moved(content, 50))
        .add(moved(legend.0, height + 66))
        .add(moved(notes, height + 102));
    document.to_string() + "\n"
}

/// The picture as a page shows it.
pub(crate) fn figure(architecture: &Architecture, name: &str) -> Figure {
    let profile = Profile::new(architecture);
    let (content, height) = content(architecture, &profile);
    Figure {
        title: name.to_string(),
        alternative: alternative(architecture),
        caption: "A box is what stands in attention’s place, its squares the heads kept; a bar is \
                  the FFN’s hidden dimensions kept; on the right are FLOPs. Outlines are the dense \
                  model."
            .into(),
        keys: keys(architecture),
        size: [WIDTH as u32, height as u32],
        svg: content.to_string().replace('\n', ""),
    }
}

fn title(architecture: &Architecture) -> String {
    let (own, dense) = (architecture.flops, architecture.dense_flops);
    let (blocks, share) = (architecture.blocks.len(), part(own as f64, dense as f64));
    format!("{} of {} FLOPs ({share}), {blocks} blocks", flops_text(own), flops_text(dense))
}

/// What is read aloud in the picture's place.
fn alternative(architecture: &Architecture) -> String {
    let shapes = architecture.model.blocks();
    let pairs = architecture.blocks.iter().zip(&shapes).enumerate();
    let block =
        |(index, (block, shape)): (usize, (&spvit_search::BlockArchitecture, &BlockShape))| {
            format!(
                "{} {} with {} of {}",
                index + 1,
                block.operation,
                block.kept.len(),
                shape.hidden
            )
        };
    let blocks: Vec<String> = pairs.map(block).collect();
    format!(
        "{}. Every block’s operation, and its FFN’s hidden dimensions kept: {}.",
        title(architecture),
        blocks.join(", ")
    )
}

/// What the colours mean, of those that occur.
pub(crate) fn keys(architecture: &Architecture) -> Vec<Key> {
    let mut operations: Vec<Operation> =
        architecture.blocks.iter().map(|block| block.operation).collect();
    operations.sort();
    operations.dedup();
    let keys = operations.into_iter().rev();
    let keys = keys.map(|operation| Key::new(colours::tint(operation), operation_name(operation)));
    keys.chain([Key::new(&colours::FFN, "FFN")]).collect()
}

/// An operation's name as a person says it.
pub(crate) fn operation_name(operation: Operation) -> String {
    match operation {
        Operation::Shortcut => "shortcut".into(),
        Operation::BConv(k) => format!("convolution {k}×{k}"),
        Operation::Msa => "attention".into(),
    }
}

/// Everything but title and legend, and its height.
fn content(architecture: &Architecture, profile: &Profile) -> (Group, usize) {
    let model = &architecture.model;
    let shapes = model.blocks();
    let merges = model.merges();
    let mut group = Group::new();
    let mut top = 0;
    let [rows, columns] = model.image_size();
    let side = model.patch_size();
    let first = format!("images {rows}×{columns}, patches of {side}×{side}");
    let embedding = profile.embedding.flops(architecture.cost_model);
    group = group.add(end(top, &first, embedding));
    top += ROW + 4;
    let mut stage = 0;
    for (index, (block, shape)) in profile.blocks.iter().zip(&shapes).enumerate() {
        let begins = index == 0 || merges.contains(&(index - 1));
        if begins && !merges.is_empty() {
            stage += 1;
            group = group.add(text([0, top + 12], &stage_name(stage, shape), &colours::MUTED, 12));
            top += 20;
        }
        let flops = block.total().flops(architecture.cost_model);
        let kept = &architecture.blocks[index].heads;
        group = group.add(row(top, index, (block, shape), (kept, flops)));
        top += ROW;
    }
    top += 4;
    let last = format!("norm, {} classes", model.classes());
    group = group.add(end(top, &last, profile.head.flops(architecture.cost_model)));
    // The stream that all blocks add to, behind everything.
    let middle = OPERATION + OPERATION_WIDTH / 2;
    let stream = line([middle, BOX], [middle, top], &colours::OUTLINE);
    (Group::new().add(stream).add(group), top + BOX + 2)
}

/// How a stage of a Swin looks at its tokens.
fn stage_name(stage: usize, shape: &BlockShape) -> String {
    let [rows, columns] = shape.map;
    format!("stage {stage}: {rows}×{columns} tokens, {} dimensions", shape.dim)
}

/// What comes before the first block or after the last.
fn end(top: usize, name: &str, flops: u64) -> Group {
    let width = FFN + FFN_WIDTH - OPERATION;
    Group::new()
        .add(outlined([OPERATION, top], [width, BOX], &colours::PANEL))
        .add(text([OPERATION + 8, top + 14], name, &colours::INK, 13))
        .add(ending([FLOPS, top + 14], &cost(flops), &colours::MUTED, 12))
}

/// FLOPs, also of the smallest parts.
fn cost(flops: u64) -> String {
    match flops {
        0..100_000 => format!("{:.1} k", flops as f64 / 1e3),
        _ => flops_text(flops),
    }
}

fn row(
    top: usize,
    index: usize,
    (block, shape): (&BlockProfile, &BlockShape),
    (kept, flops): (&[usize], u64),
) -> Group {
    let base = top + 14;
    let width = match shape.hidden {
        0 => 0,
        hidden => FFN_WIDTH * block.hidden.min(hidden) / hidden,
    };
    let operation = match block.operation {
        Operation::Shortcut => Group::new().add(
            outlined([OPERATION, top], [OPERATION_WIDTH, BOX], &colours::PAPER)
                .set("stroke-dasharray", "3 3"),
        ),
        operation => Group::new().add(
            rectangle([OPERATION, top], [OPERATION_WIDTH, BOX], colours::tint(operation))
                .set("stroke", colours::of(operation).hex()),
        ),
    };
    let name = match block.operation {
        Operation::Shortcut => (&colours::MUTED, "shortcut".to_string()),
        operation => (&colours::INK, operation.to_string()),
    };
    let mut group = Group::new()
        .add(ending([NUMBER, base], &(index + 1).to_string(), &colours::MUTED, 12))
        .add(operation)
        .add(text([OPERATION + 8, base], &name.1, name.0, 13));
    if block.operation == Operation::Msa {
        group = group.add(heads(top, shape.heads, kept));
    }
    let label = format!("{}/{}", block.hidden, shape.hidden);
    // The stream goes on through an FFN that is gone.
    group
        .add(outlined([FFN, top], [FFN_WIDTH, BOX], &colours::PAPER))
        .add(rectangle([FFN, top], [width, BOX], &colours::FFN))
        .add(text([FFN + FFN_WIDTH + 6, base], &label, &colours::INK, 12))
        .add(ending([FLOPS, base], &cost(flops), &colours::MUTED, 12))
}

/// A square for each head, filled where it is kept; a text where there are too many.
fn heads(top: usize, heads: usize, kept: &[usize]) -> Group {
    let right = OPERATION + OPERATION_WIDTH - 6;
    let count = if kept.is_empty() { heads } else { kept.len() };
    if heads > MOST_HEADS {
        let text = format!("{count}/{heads}");
        return Group::new().add(ending([right, top + 14], &text, &colours::INK, 11));
    }
    // From 12 pixels for few heads down to 5.
    let pitch = (84 / heads.max(1)).clamp(5, 12);
    let left = right - pitch * heads;
    (0..heads).fold(Group::new(), |group, head| {
        let at = [left + pitch * head, top + BOX / 2 - pitch / 2 + 1];
        let size = [pitch - 2; 2];
        let stays = kept.is_empty() || kept.contains(&head);
        let fill = if stays { &colours::ATTENTION } else { &colours::PAPER };
        let square = rectangle(at, size, fill).set("rx", 1);
        group.add(square.set("stroke", colours::ATTENTION.hex()).set("stroke-width", 0.8))
    })
}

fn rectangle([left, top]: [usize; 2], [width, height]: [usize; 2], fill: &Colour) -> Rectangle {
    Rectangle::new()
        .set("x", left)
        .set("y", top)
        .set("width", width)
        .set("height", height)
        .set("rx", 3)
        .set("fill", fill.hex())
}

fn outlined(at: [usize; 2], size: [usize; 2], fill: &Colour) -> Rectangle {
    rectangle(at, size, fill).set("stroke", colours::OUTLINE.hex())
}

fn line([left, top]: [usize; 2], [right, bottom]: [usize; 2], colour: &Colour) -> Line {
    Line::new()
        .set("x1", left)
        .set("y1", top)
        .set("x2", right)
        .set("y2", bottom)
        .set("stroke", colour.hex())
        .set("stroke-width", 1.5)
}

fn text([left, base]: [usize; 2], content: &str, colour: &Colour, size: usize) -> Text {
    Text::new(content)
        .set("x", left)
        .set("y", base)
        .set("font-size", size)
        .set("fill", colour.hex())
}

/// A text that ends at its place.
fn ending(at: [usize; 2], content: &str, colour: &Colour, size: usize) -> Text {
    text(at, content, colour, size).set("text-anchor", "end")
}

/// The dense model's picture as a page shows it, where nothing is derived yet.
pub(crate) fn dense(model: &ModelConfig, cost_model: spvit_search::CostModel) -> Figure {
    figure(&Architecture::dense(model.clone(), cost_model), "The dense model")
}

#[cfg(test)]
mod tests {
    use spvit_search::{BlockArchitecture, CostModel};

    use super::*;

    fn architecture(preset: &str) -> Architecture {
        let model = ModelConfig::preset(preset).unwrap();
        let operations =
            [Operation::Shortcut, Operation::BConv(1), Operation::BConv(3), Operation::Msa];
        let block = |(index, shape): (usize, BlockShape)| BlockArchitecture {
            operation: operations[index % 4],
            kept: (0..shape.hidden / (1 + index % 3)).collect(),
            heads: if index % 4 == 3 { vec![0] } else { vec![] },
        };
        let blocks = model.blocks().into_iter().enumerate().map(block).collect();
        Architecture::new(model, CostModel::Paper, blocks, None)
    }

    #[test]
    fn every_block_has_an_operation_and_an_ffn() {
        let own = architecture("vit_micro");
        let svg = draw(&own, &Profile::new(&own));
        for words in ["shortcut", "bconv1x1", "bconv3x3", "msa", "256/256", "128/256", "85/256"] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
        assert_eq!(svg.matches("/256").count(), own.blocks.len());
        assert!(svg.contains("<title>") && svg.contains("prefers-color-scheme"));
        let figure = figure(&own, "a");
        assert!(
            figure.alternative.contains("1 shortcut with 256 of 256"),
            "{}",
            figure.alternative
        );
    }

    #[test]
    fn a_swin_has_stages() {
        let own = architecture("swin_tiny");
        let figure = figure(&own, "a");
        for words in ["stage 1: 56×56 tokens, 96", "stage 2: 28×28", "stage 4: 7×7 tokens, 768"]
        {
            assert!(figure.svg.contains(words), "{words}");
        }
        assert_eq!(figure.svg.matches("stage ").count(), 4);
        let deep = architecture("swin_small");
        assert!(super::figure(&deep, "a").size[1] < 900);
    }
}
