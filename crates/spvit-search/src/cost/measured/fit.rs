//! Lines through measured times, and what corrects their sum.

use serde::{Deserialize, Serialize};
use spvit_layers::{BlockConfig, ModelConfig, Operation};

use super::{Choice, Entry, LatencyError, LatencyTable, Timing, WholeModel, probes::groups};

/// What an operation takes in one block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OperationTime {
    /// The operation, attention with all heads.
    pub operation: Operation,
    /// Milliseconds.
    pub ms: f64,
}

/// Straight lines through what the choices of one shape of block take, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShapeFit {
    /// The blocks of this shape.
    pub blocks: Vec<usize>,
    /// The operations but the shortcut, which takes none.
    pub operations: Vec<OperationTime>,
    /// One head of attention.
    pub head: f64,
    /// One hidden dimension of the FFN.
    pub hidden_dimension: f64,
    /// An FFN besides its hidden dimensions.
    pub ffn_fixed: f64,
    /// Largest distance of a measured FFN from its line, as a share of the whole FFN.
    pub ffn_error: f64,
}

/// From the sum of a model's parts to the model: `offset + factor · sum`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    /// Milliseconds.
    pub offset: f64,
    /// Of the sum.
    pub factor: f64,
}

impl Default for Correction {
    fn default() -> Self {
        Self { offset: 0.0, factor: 1.0 }
    }
}

/// Distance of the table from whole models that nothing was fitted on, as shares of what they take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct FitError {
    /// Median.
    pub median: f64,
    /// Largest.
    pub largest: f64,
    /// Median without the correction.
    pub uncorrected: f64,
}

/// `[a, b]` of `a + b·x`, with the least weighted squares; a slope of 0 where all x are one.
fn line(points: &[[f64; 2]], weight: impl Fn(f64) -> f64) -> [f64; 2] {
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|&[x, y]| weight(y) * of(x, y)).sum()
    };
    let count = sum(&|_, _| 1.0);
    if count <= 0.0 {
        return [0.0; 2];
    }
    let (x, y) = (sum(&|x, _| x) / count, sum(&|_, y| y) / count);
    let spread = sum(&|own, _| (own - x).powi(2));
    let slope = match spread > 0.0 {
        true => sum(&|own, time| (own - x) * (time - y)) / spread,
        false => 0.0,
    };
    [y - slope * x, slope]
}

/// A line that is nowhere below 0 from 0 on.
fn rising(points: &[[f64; 2]]) -> [f64; 2] {
    match line(points, |_| 1.0) {
        [fixed, slope] if fixed >= 0.0 && slope >= 0.0 => [fixed, slope],
        [_, slope] if slope < 0.0 => {
            let mean = points.iter().map(|[_, y]| y).sum::<f64>() / points.len().max(1) as f64;
            [mean.max(0.0), 0.0]
        }
        _ => {
            let [xy, xx] =
                points.iter().fold([0.0; 2], |[xy, xx], [x, y]| [xy + x * y, xx + x * x]);
            [0.0, (xy / xx).max(0.0)]
        }
    }
}

/// Lines through the entries of every shape.
pub(super) fn shapes(
    model: &ModelConfig,
    entries: &[Entry],
) -> Result<Vec<ShapeFit>, LatencyError> {
    let fit = |(shape, blocks): (spvit_layers::BlockShape, Vec<usize>)| {
        let own = || entries.iter().filter(|entry| entry.blocks == blocks);
        let heads: Vec<[f64; 2]> = own()
            .filter_map(|entry| match entry.choice {
                Choice::Operation { operation: Operation::Msa, heads } => {
                    Some([heads.unwrap_or(shape.heads) as f64, entry.time.median])
                }
                _ => None,
            })
            .collect();
        let widths: Vec<[f64; 2]> = own()
            .filter_map(|entry| match entry.choice {
                Choice::Ffn { hidden } => Some([hidden as f64, entry.time.median]),
                Choice::Operation { .. } => None,
            })
            .collect();
        let [attention, head] = rising(&heads);
        let [ffn_fixed, hidden_dimension] = rising(&widths);
        let attention = attention + head * shape.heads as f64;
        let whole = ffn_fixed + hidden_dimension * shape.hidden as f64;
        for (name, time) in [("attention", attention), ("the whole FFN", whole)] {
            if time <= 0.0 && shape.hidden > 0 {
                return Err(LatencyError::Values(format!(
                    "{name} of block {} seems to take no time: the machine was too busy to tell",
                    blocks[0]
                )));
            }
        }
        let operations = own().filter_map(|entry| match entry.choice {
            Choice::Operation { operation, heads: None } => Some(OperationTime {
                operation,
                ms: match operation {
                    Operation::Msa => attention,
                    _ => entry.time.median.max(0.0),
                },
            }),
            _ => None,
        });
        let far = widths.iter().map(|[x, y]| (y - ffn_fixed - hidden_dimension * x).abs());
        let ffn_error = far.fold(0.0, f64::max) / whole.max(f64::MIN_POSITIVE);
        let operations = operations.collect();
        Ok(ShapeFit { blocks, operations, head, hidden_dimension, ffn_fixed, ffn_error })
    };
    groups(model).into_iter().map(fit).collect()
}

/// Fits the correction on every second whole model, from the first on, and on the dense one; the others
/// give the error.
pub(super) fn correct(table: &mut LatencyTable, whole: &[Vec<BlockConfig>], times: &[Vec<f64>]) {
    let parts = table.cost_table();
    let sum = |blocks: &[BlockConfig]| parts.total(blocks).unwrap_or(f64::NAN);
    let timed: Vec<(f64, Timing)> =
        whole.iter().zip(times).map(|(blocks, own)| (sum(blocks), Timing::of(own))).collect();
    let mut points: Vec<[f64; 2]> =
        timed.iter().step_by(2).map(|(sum, time)| [*sum, time.median]).collect();
    points.push([parts.dense(), table.dense.median]);
    // Errors count as shares.
    let [offset, factor] = line(&points, |time| time.powi(-2));
    if points.len() > 2 && factor > 0.0 {
        table.correction = Correction { offset, factor };
    }
    let Correction { offset, factor } = table.correction;
    table.whole = whole
        .iter()
        .zip(&timed)
        .enumerate()
        .map(|(index, (blocks, &(sum, time)))| WholeModel {
            operations: blocks.iter().map(|block| block.operation).collect(),
            heads: blocks
                .iter()
                .zip(table.model.blocks())
                .map(|(block, shape)| match block.operation {
                    Operation::Msa => block.heads.unwrap_or(shape.heads),
                    _ => 0,
                })
                .collect(),
            hidden: blocks.iter().map(|block| block.hidden).collect(),
            time,
            predicted: offset + factor * sum,
            fitted: index % 2 == 0,
        })
        .collect();
    let held_out = || timed.iter().skip(1).step_by(2);
    let errors: Vec<f64> =
        held_out().map(|(sum, time)| ((offset + factor * sum) / time.median - 1.0).abs()).collect();
    let plain: Vec<f64> = held_out().map(|(sum, time)| (sum / time.median - 1.0).abs()).collect();
    table.error = FitError {
        median: Timing::of(&errors).median,
        largest: errors.iter().copied().fold(0.0, f64::max),
        uncorrected: Timing::of(&plain).median,
    };
}
