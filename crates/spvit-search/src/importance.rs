//! What a dense model loses with each of its parts, measured before a search.

use burn::module::{AutodiffModule, Module};
use burn::tensor::{
    Tensor,
    activation::{log_softmax, softmax},
    backend::Backend,
};
use spvit_core::{FusedOps, TrainBackend, fused};
use spvit_layers::{Block, Mode, Vit};

use crate::moments::{Moments, device, host};

/// Shares of an FFN's hidden dimensions that are tried.
const SHARES: [f64; 6] = [0.0, 0.0625, 0.125, 0.25, 0.5, 0.75];

/// Weight of the dense map in least squares, in units of the features' variance.
const RIDGE: f64 = 1e-2;

/// What the predictions lose with parts of one block, the rest of the model being whole.
///
/// Losses are `KL(p ‖ q)` of the dense predictions p and those without the part q, in nats, the mean
/// over images.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockImportance {
    /// Without the attention layer.
    pub attention: f64,
    /// Hidden dimensions of the FFN, the most important first: by the mean over images of the squared
    /// gradient of the cross-entropy for the dimension's gate (the diagonal of Fisher's matrix).
    pub order: Vec<usize>,
    /// The first so many of them kept, fc2 fitted to what the whole FFN gives: that number and the
    /// loss, ascending. Empty where the FFN has no gates.
    pub widths: Vec<(usize, f64)>,
}

/// Images `[batch, channels, height, width]` and their targets `[batch, classes]`.
pub type Labelled<B> = (Tensor<B, 4>, Tensor<B, 2>);

/// Measures every block of a dense model on some images.
///
/// One forward and backward pass, and for every block seven passes from there on.
pub fn importance<B: TrainBackend>(
    dense: &Vit<B>,
    images: &[Labelled<B::InnerBackend>],
    mut progress: impl FnMut(usize, usize),
) -> Vec<BlockImportance> {
    let fisher = fisher(dense, images);
    let model = dense.valid();
    let mut streams: Vec<_> = images.iter().map(|(batch, _)| model.embed(batch.clone())).collect();
    let logits = |streams: &[Tensor<B::InnerBackend, 3>], after: usize| {
        let of = |x: &Tensor<B::InnerBackend, 3>| rest(&model, x.clone(), after);
        streams.iter().map(of).collect::<Vec<_>>()
    };
    let whole = logits(&streams, 0);
    let lost = |without: Vec<Tensor<B::InnerBackend, 2>>| {
        let count: usize = whole.iter().map(|logits| logits.dims()[0]).sum();
        let pairs = whole.iter().zip(without);
        pairs.map(|(p, q)| divergence(p.clone(), q)).sum::<f64>() / count as f64
    };

    let mut found = Vec::new();
    for (index, (block, fisher)) in model.blocks.iter().zip(fisher).enumerate() {
        progress(index, model.blocks.len());
        let mode = Mode::Evaluate;
        let mixed: Vec<_> = streams.iter().map(|x| block.mix(x.clone(), index, &mode)).collect();
        let fed = |x: Tensor<_, 3>| model.merge(index, block.feed(x, index, &mode));
        let without: Vec<_> = constant(&streams, &mixed).into_iter().map(fed).collect();
        let attention = lost(logits(&without, index + 1));

        let mut order: Vec<usize> = (0..fisher.len()).collect();
        order.sort_by(|&a, &b| fisher[b].total_cmp(&fisher[a]));
        let cut = Cut::new(block, &mixed);
        let widths = cut.map(|cut| {
            let hidden = order.len();
            let mut counts: Vec<usize> =
                SHARES.iter().map(|share| (share * hidden as f64).round() as usize).collect();
            counts.dedup();
            let mut widths: Vec<(usize, f64)> = counts
                .into_iter()
                .map(|count| {
                    let merged = |x| model.merge(index, x);
                    let fed = cut
                        .feed(&order[..count], &mixed)
                        .into_iter()
                        .map(merged)
                        .collect::<Vec<_>>();
                    (count, lost(logits(&fed, index + 1)))
                })
                .collect();
            widths.push((hidden, 0.0));
            widths
        });
        let widths = widths.unwrap_or_default();
        found.push(BlockImportance { attention, order, widths });
        streams = mixed.into_iter().map(fed).collect();
    }
    found
}

/// Logits of the tokens that enter a block.
fn rest<B: FusedOps>(model: &Vit<B>, x: Tensor<B, 3>, from: usize) -> Tensor<B, 2> {
    let blocks = model.blocks.iter().enumerate().skip(from);
    let x = blocks
        .fold(x, |x, (index, block)| model.merge(index, block.forward(x, index, &Mode::Evaluate)));
    model.classify(x).mean()
}

/// `Σ KL(p ‖ q)` of logits `[batch, classes]`.
pub(crate) fn divergence<B: Backend>(p: Tensor<B, 2>, q: Tensor<B, 2>) -> f64 {
    let logs = log_softmax(p.clone(), 1) - log_softmax(q, 1);
    (softmax(p, 1) * logs).sum().into_data().iter::<f64>().sum()
}

/// A branch that is its mean over all tokens of all images.
fn constant<B: Backend>(before: &[Tensor<B, 3>], after: &[Tensor<B, 3>]) -> Vec<Tensor<B, 3>> {
    let branch = |(x, y): (&Tensor<B, 3>, &Tensor<B, 3>)| y.clone() - x.clone();
    let pairs = || before.iter().zip(after);
    let count: usize = before.iter().map(|x| x.dims()[0] * x.dims()[1]).sum();
    let sum = pairs().map(|pair| branch(pair).sum_dim(0).sum_dim(1)).reduce(|a, b| a + b);
    match sum {
        Some(sum) => before.iter().map(|x| x.clone() + sum.clone() / count as f64).collect(),
        None => Vec::new(),
    }
}

/// One FFN, to be cut to some of its dimensions.
struct Cut<'a, B: Backend> {
    block: &'a Block<B>,
    /// `[hidden, dim]`, of what the FFN gives before its scale.
    weight: nalgebra::DMatrix<f64>,
    moments: Moments,
    features: Vec<Tensor<B, 3>>,
}

impl<'a, B: FusedOps> Cut<'a, B> {
    /// Of tokens after the mixer; `None` of an FFN without fc2 or with a norm before it.
    fn new(block: &'a Block<B>, mixed: &[Tensor<B, 3>]) -> Option<Self> {
        let ffn = &block.mlp;
        let fc2 = ffn.fc2.as_ref().filter(|_| ffn.norm.is_none())?;
        let weight = host(fc2.weight.val());
        let (hidden, dim) = weight.shape();
        let mut moments = Moments::new(hidden, dim);
        let features: Vec<_> =
            mixed.iter().map(|x| ffn.features(block.norm2.forward(x.clone()))).collect();
        for z in &features {
            moments.add(z.clone(), fc2.forward(z.clone()));
        }
        Some(Self { block, weight, moments, features })
    }

    /// The block's output with these dimensions alone.
    fn feed(&self, kept: &[usize], mixed: &[Tensor<B, 3>]) -> Vec<Tensor<B, 3>> {
        let mut weight = self.weight.clone() * 0.0;
        let prior = self.weight.select_rows(kept);
        let (fitted, bias) = match kept.is_empty() {
            true => (prior, self.moments.mean_target()),
            false => self.moments.solve(kept, &prior, RIDGE).unwrap_or_else(|| {
                let bias = self.moments.mean_target() * 0.0;
                (prior, bias)
            }),
        };
        for (row, &dimension) in kept.iter().enumerate() {
            weight.set_row(dimension, &fitted.row(row));
        }
        let place = self.block.norm2.weight.device();
        let weight = device::<B>(&weight, &place);
        let bias = device::<B>(&bias, &place).squeeze_dim::<1>(0);
        let fed = mixed.iter().zip(&self.features).map(|(x, z)| {
            let y = fused::affine(z.clone(), weight.clone(), Some(bias.clone()));
            let y = match &self.block.ls2 {
                Some(scale) => scale.forward(y),
                None => y,
            };
            x.clone() + y
        });
        fed.collect()
    }
}

/// Of every block's hidden dimensions the mean over images of `(∂loss/∂gate)²`, the gates being open
/// and an image's own.
fn fisher<B: TrainBackend>(dense: &Vit<B>, images: &[Labelled<B::InnerBackend>]) -> Vec<Vec<f64>> {
    let mut sums: Vec<Vec<f64>> =
        dense.blocks.iter().map(|block| vec![0.0; block.mlp.hidden()]).collect();
    // Probes alone are in the graph: zeros that are added to what an FFN gives.
    let model = dense.clone().no_grad();
    let mut count = 0;
    for (batch, targets) in images {
        let mut probes = Vec::new();
        let mut x = model.embed(Tensor::from_inner(batch.clone()));
        for (index, block) in model.blocks.iter().enumerate() {
            x = block.mix(x, index, &Mode::Evaluate);
            let z = (block.mlp.hidden() > 0)
                .then(|| block.mlp.features(block.norm2.forward(x.clone())).inner());
            let probe = x.clone().inner().zeros_like();
            let probe = Tensor::<B, 3>::from_inner(probe).require_grad();
            x = block.feed(x, index, &Mode::Evaluate) + probe.clone();
            probes.push((probe, z));
            x = model.merge(index, x);
        }
        let logs = log_softmax(model.classify(x).mean(), 1);
        let loss = -(logs * Tensor::from_inner(targets.clone())).sum();
        let gradients = loss.backward();
        count += batch.dims()[0];
        for ((block, (probe, z)), sums) in model.blocks.iter().zip(probes).zip(&mut sums) {
            let (Some(gradient), Some(z), Some(fc2)) = (probe.grad(&gradients), z, &block.mlp.fc2)
            else {
                continue;
            };
            let gradient = match &block.ls2 {
                Some(scale) => gradient * scale.gamma.val().inner().unsqueeze(),
                None => gradient,
            };
            let back = gradient.matmul(fc2.weight.val().inner().transpose().unsqueeze());
            let gates: Tensor<B::InnerBackend, 3> = (back * z).sum_dim(1);
            let squares = gates.square().sum_dim(0).into_data();
            for (sum, square) in sums.iter_mut().zip(squares.iter::<f64>()) {
                *sum += square;
            }
        }
    }
    for sum in sums.iter_mut().flatten() {
        *sum /= f64::from(u32::try_from(count.max(1)).unwrap_or(u32::MAX));
    }
    sums
}
