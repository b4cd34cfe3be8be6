//! Thresholds that begin in an order instead of all alike.

use burn::tensor::backend::Backend;
use spvit_layers::{Operation, Vit};

use crate::{BlockCost, BlockImportance, CostTable, PartImportance};

/// How far the thresholds of a ranking lie apart: their standard deviation, in logits.
const SPREAD: f64 = 2.0;

/// Farthest threshold from the middle, in logits.
const FARTHEST: f64 = 8.0;

/// What of one block is worth keeping, more being better; comparable between blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockScores {
    /// Of attention in place of the cheapest operation.
    pub attention: f64,
    /// Of every hidden dimension that has a gate.
    pub ffn: Vec<f64>,
    /// Of every head that has one.
    pub heads: Vec<f64>,
}

impl BlockScores {
    /// Logarithms of the losses without a part, each divided by what the part costs.
    ///
    /// Between two measured numbers of dimensions or heads the loss is taken as convex, so that the
    /// first are worth the most, and every one's part of it changes evenly.
    pub fn of_importance(cost: &BlockCost, importance: &BlockImportance) -> Self {
        let path: Vec<(Operation, f64)> = cost.path().collect();
        let spared = match (path.first(), path.last()) {
            (Some((_, least)), Some((_, most))) => most - least,
            _ => 0.0,
        };
        let scores = |parts: &PartImportance, gates: usize, cost: f64| {
            let mut scores = vec![0.0; gates];
            for (&part, density) in parts.order.iter().zip(densities(parts)) {
                if let Some(score) = scores.get_mut(part) {
                    *score = density - scale(cost);
                }
            }
            scores
        };
        Self {
            attention: logarithm(importance.attention) - scale(spared),
            ffn: scores(&importance.ffn, cost.ffn_gates(), cost.hidden_dimension),
            heads: scores(&importance.heads, cost.head_gates(), cost.head),
        }
    }

    /// Norms of the weights of every hidden dimension, before and after the activation, multiplied.
    pub fn of_magnitude<B: Backend>(dense: &Vit<B>, table: &CostTable) -> Vec<Self> {
        let norms = |index: usize| -> Option<Vec<f64>> {
            let ffn = &dense.blocks[index].mlp;
            let squares = |x: burn::tensor::Tensor<B, 2>, along: usize| -> Vec<f64> {
                x.square().sum_dim(along).into_data().iter::<f64>().collect()
            };
            let hidden = ffn.hidden();
            let mut before = vec![0.0; hidden];
            for map in [&ffn.fc1, &ffn.fc1_g, &ffn.fc1_x].into_iter().flatten() {
                for (i, square) in squares(map.weight.val(), 0).into_iter().enumerate() {
                    before[i % hidden] += square;
                }
            }
            let after = squares(ffn.fc2.as_ref()?.weight.val(), 1);
            Some(before.iter().zip(after).map(|(a, b)| (a * b).sqrt()).collect())
        };
        let blocks = table.blocks.iter().enumerate().map(|(index, cost)| {
            let mut ffn = norms(index).unwrap_or_default();
            ffn.truncate(cost.ffn_gates());
            Self { attention: f64::INFINITY, ffn, heads: vec![f64::INFINITY; cost.head_gates()] }
        });
        blocks.collect()
    }

    /// The same with attention before everything, or after.
    pub fn with_attention(self, kept: bool) -> Self {
        let attention = if kept { f64::INFINITY } else { f64::NEG_INFINITY };
        Self { attention, ..self }
    }

    /// The same share of every FFN: the hidden dimensions' places in their own block's order.
    pub fn level(mut self) -> Self {
        let count = self.ffn.len() as f64;
        let mut order: Vec<usize> = (0..self.ffn.len()).collect();
        order.sort_by(|&a, &b| self.ffn[b].total_cmp(&self.ffn[a]));
        for (place, dimension) in order.into_iter().enumerate() {
            self.ffn[dimension] = -(place as f64) / count;
        }
        self
    }

    /// Thresholds in the scores' order, their mean 0; infinite scores are farthest.
    pub(crate) fn thresholds(scores: &[Self]) -> Vec<Self> {
        let all = || {
            scores
                .iter()
                .flat_map(|block| block.ffn.iter().chain(&block.heads).chain([&block.attention]))
        };
        let finite: Vec<f64> = all().copied().filter(|score| score.is_finite()).collect();
        let count = finite.len().max(1) as f64;
        let mean = finite.iter().sum::<f64>() / count;
        let variance = finite.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / count;
        let scale = SPREAD / variance.sqrt().max(1e-12);
        let threshold = |score: f64| ((score - mean) * scale).clamp(-FARTHEST, FARTHEST);
        let block = |block: &Self| Self {
            attention: threshold(block.attention),
            ffn: block.ffn.iter().copied().map(threshold).collect(),
            heads: block.heads.iter().copied().map(threshold).collect(),
        };
        scores.iter().map(block).collect()
    }
}

/// Logarithm of a cost in any unit, of which milliseconds are far below 1; of no cost that of 1.
fn scale(cost: f64) -> f64 {
    if cost > 0.0 { cost.ln() } else { 0.0 }
}

/// Of nothing at all, a number far below that of the least loss that float32 shows.
fn logarithm(density: f64) -> f64 {
    density.max(1e-18).ln()
}

/// Logarithms of what every place in an order adds to the predictions, the most important first.
fn densities(importance: &PartImportance) -> Vec<f64> {
    // Neighbouring stretches whose means rise are one: the convex hull of the losses.
    let mut stretches: Vec<(f64, f64)> = Vec::new();
    for pair in importance.losses.windows(2) {
        let [(from, before), (to, after)] = pair else { continue };
        let mut stretch = ((to - from) as f64, (before - after).max(0.0));
        while let Some((length, loss)) = stretches.last().copied() {
            if loss / length > stretch.1 / stretch.0 {
                break;
            }
            stretches.pop();
            stretch = (stretch.0 + length, stretch.1 + loss);
        }
        stretches.push(stretch);
    }
    // Between the stretches' middles the logarithm is even.
    let mut at = 0.0;
    let points: Vec<(f64, f64)> = stretches
        .iter()
        .map(|&(length, loss)| {
            at += length;
            (at - length / 2.0, logarithm(loss / length))
        })
        .collect();
    let slope = 1e-6;
    (0..importance.order.len())
        .map(|place| {
            let x = place as f64 + 0.5;
            let after = points.iter().position(|&(middle, _)| middle >= x);
            let even = match after {
                None => points.last().map_or(0.0, |&(_, y)| y),
                Some(0) => points[0].1,
                Some(i) => {
                    let [(x0, y0), (x1, y1)] = [points[i - 1], points[i]];
                    y0 + (y1 - y0) * (x - x0) / (x1 - x0)
                }
            };
            even - slope * x
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn importance(losses: &[(usize, f64)]) -> PartImportance {
        let count = losses.last().map_or(0, |&(count, _)| count);
        PartImportance { order: (0..count).rev().collect(), losses: losses.to_vec() }
    }

    #[test]
    fn what_is_lost_between_two_widths_is_spread_over_their_dimensions() {
        let found = densities(&importance(&[(0, 1.0), (10, 0.2), (20, 0.0)]));
        assert_eq!(found.len(), 20);
        assert!(found.windows(2).all(|pair| pair[0] > pair[1]));
        assert!((found[4] - 0.08_f64.ln()).abs() < 0.1, "{}", found[4]);
        assert!((found[15] - 0.02_f64.ln()).abs() < 0.1, "{}", found[15]);
    }

    /// A loss that rises with the width is noise, and its stretch is shared.
    #[test]
    fn a_rising_loss_counts_with_its_neighbours() {
        let found = densities(&importance(&[(0, 1.0), (10, 0.1), (20, 0.2), (30, 0.0)]));
        assert!(found.windows(2).all(|pair| pair[0] > pair[1]));
        assert!(found.iter().all(|density| density.is_finite()));
    }

    #[test]
    fn thresholds_keep_the_order_and_have_the_spread() {
        let block =
            |attention, ffn: &[f64]| BlockScores { attention, ffn: ffn.to_vec(), heads: vec![] };
        let scores = [block(f64::INFINITY, &[3.0, 1.0, 2.0]), block(2.5, &[0.0, 5.0])];
        let thresholds = BlockScores::thresholds(&scores);
        assert_eq!(thresholds[0].attention, FARTHEST);
        let [a, b] = [&thresholds[0].ffn, &thresholds[1].ffn];
        let order = [b[1], a[0], thresholds[1].attention, a[2], a[1], b[0]];
        assert!(order.windows(2).all(|pair| pair[0] > pair[1]));
        let mean = order.iter().sum::<f64>() / 6.0;
        let deviation = (order.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 6.0).sqrt();
        assert!(mean.abs() < 1e-9 && (deviation - SPREAD).abs() < 1e-9);
    }
}
