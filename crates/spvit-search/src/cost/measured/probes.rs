//! Models that show what a choice takes: all blocks of one shape have it, all others nothing.

use serde::{Deserialize, Serialize};
use spvit_layers::{BlockConfig, BlockShape, ModelConfig, Operation};

use super::{Entry, Timing};

/// A choice for one block, all else being a shortcut without an FFN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Choice {
    /// An operation in attention's place.
    Operation {
        /// The operation.
        operation: Operation,
        /// Heads of attention; absent for all, and for other operations.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heads: Option<usize>,
    },
    /// An FFN.
    Ffn {
        /// Its hidden dimensions.
        hidden: usize,
    },
}

/// A model to be timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its blocks.
    pub blocks: Vec<BlockConfig>,
    /// The blocks whose choice it shows, and the choice; `None` for the dense model and the one that is
    /// bare of everything.
    pub shows: Option<(Vec<usize>, Choice)>,
}

/// The models whose times tell what every choice takes: the dense one, one whose blocks are all shortcuts
/// without FFNs, then one for each choice and shape of block.
///
/// The choices are every operation, attention with one head, half of them and all, and FFNs of an eighth,
/// a quarter, half, three quarters and all of the hidden dimensions, rounded to multiples of 8 where that
/// leaves them apart.
pub fn probes(model: &ModelConfig) -> Vec<Probe> {
    let bare = BlockConfig { operation: Operation::Shortcut, hidden: 0, heads: None };
    let bare = vec![bare; model.depth()];
    let whole = |blocks: Vec<BlockConfig>| Probe { blocks, shows: None };
    let mut all = vec![whole(model.dense_blocks()), whole(bare.clone())];
    for (shape, own) in groups(model) {
        for choice in choices(model, &shape) {
            let mut blocks = bare.clone();
            for &block in &own {
                match choice {
                    Choice::Operation { operation, heads } => {
                        blocks[block] = BlockConfig { operation, hidden: 0, heads };
                    }
                    Choice::Ffn { hidden } => blocks[block].hidden = hidden,
                }
            }
            all.push(Probe { blocks, shows: Some((own.clone(), choice)) });
        }
    }
    all
}

/// The shapes of a model's blocks, each with the blocks that have it.
pub(super) fn groups(model: &ModelConfig) -> Vec<(BlockShape, Vec<usize>)> {
    let mut groups: Vec<(BlockShape, Vec<usize>)> = Vec::new();
    for (index, shape) in model.blocks().into_iter().enumerate() {
        match groups.iter_mut().find(|(own, _)| *own == shape) {
            Some((_, blocks)) => blocks.push(index),
            None => groups.push((shape, vec![index])),
        }
    }
    groups
}

fn choices(model: &ModelConfig, shape: &BlockShape) -> Vec<Choice> {
    let operations = model.operations().into_iter();
    let operations = operations
        .filter(|operation| shape.searches_attention() || *operation == Operation::Msa)
        .map(|operation| Choice::Operation { operation, heads: None });
    let mut fewer = match shape.searches_attention() {
        true => vec![1, shape.heads / 2],
        false => Vec::new(),
    };
    fewer.dedup();
    fewer.retain(|&heads| heads > 0 && heads < shape.heads);
    let fewer = fewer.into_iter();
    let fewer =
        fewer.map(|heads| Choice::Operation { operation: Operation::Msa, heads: Some(heads) });
    let widths = widths(shape).into_iter().map(|hidden| Choice::Ffn { hidden });
    operations.chain(fewer).chain(widths).collect()
}

/// Widths of an FFN that are measured, ascending, the whole one last.
fn widths(shape: &BlockShape) -> Vec<usize> {
    let whole = shape.hidden;
    let shares = [1, 2, 4, 6].map(|eighths| whole * eighths / 8);
    let mut widths = shares.map(|width| if width >= 8 { width / 8 * 8 } else { width }).to_vec();
    widths.push(whole);
    widths.dedup();
    widths.retain(|&width| width > 0 && (shape.searches_ffn() || width == whole));
    widths
}

/// What the choices take in one block: their models' times above the bare model's, round by round.
pub(super) fn entries(probes: &[Probe], times: &[Vec<f64>]) -> Vec<Entry> {
    let bare = &times[1];
    let shown = probes.iter().zip(times).filter_map(|(probe, own)| {
        let (blocks, choice) = probe.shows.clone()?;
        let count = blocks.len().max(1) as f64;
        let above: Vec<f64> =
            own.iter().zip(bare).map(|(own, bare)| (own - bare) / count).collect();
        Some(Entry { blocks, choice, time: Timing::of(&above) })
    });
    shown.collect()
}
