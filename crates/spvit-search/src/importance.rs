//! What a dense model loses with each of its parts, measured before a search.

use burn::module::{AutodiffModule, Module};
use burn::tensor::{Tensor, TensorData, Transaction, activation::softmax, backend::Backend};
use nalgebra::DMatrix;
use spvit_core::{FusedOps, TrainBackend, fused};
use spvit_layers::{Block, LayerScale, Linear, Mixer, Mode, Vit};

use crate::moments::{Moments, RIDGE, device, host};

/// Shares of an FFN's hidden dimensions, or of attention's heads, that are tried.
const SHARES: [f64; 6] = [0.0, 0.0625, 0.125, 0.25, 0.5, 0.75];

/// What the predictions lose with parts of one block, the rest of the model being whole.
///
/// Losses are `KL(p ‖ q)` of the dense predictions p and those without the part q, in nats, the mean
/// over images.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockImportance {
    /// Without the attention layer, its branch at its mean.
    pub attention: f64,
    /// Of the FFN's hidden dimensions.
    pub ffn: PartImportance,
    /// Of attention's heads.
    pub heads: PartImportance,
}

/// Hidden dimensions or heads, and what is lost with some of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PartImportance {
    /// Indices, the most important first: by the mean over images of the squared gradient of the
    /// cross-entropy for the part's gate (the diagonal of Fisher's matrix).
    pub order: Vec<usize>,
    /// The first so many kept, the map behind them fitted to what all of them give: that number and
    /// the loss, ascending. Empty where nothing may be cut.
    pub losses: Vec<(usize, f64)>,
}

/// Images `[batch, channels, height, width]` and their targets `[batch, classes]`.
pub type Labelled<B> = (Tensor<B, 4>, Tensor<B, 2>);

/// Measures every block of a dense model on some images.
///
/// One forward and backward pass, and for every block at most 13 passes from there on. Before every
/// block `progress` is told its number and how many there are; where it says no, what has been found is
/// returned.
pub fn importance<B: TrainBackend>(
    dense: &Vit<B>,
    images: &[Labelled<B::InnerBackend>],
    mut progress: impl FnMut(usize, usize) -> bool,
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
        if !progress(index, model.blocks.len()) {
            break;
        }
        let mode = Mode::Evaluate;
        let mixed: Vec<_> = streams.iter().map(|x| block.mix(x.clone(), index, &mode)).collect();
        let fed = |x: Tensor<_, 3>| model.merge(index, block.feed(x, index, &mode));
        let without: Vec<_> = constant(&streams, &mixed).into_iter().map(fed).collect();
        let attention = lost(logits(&without, index + 1));

        let [ffn, heads] = fisher.map(|fisher| {
            let mut order: Vec<usize> = (0..fisher.len()).collect();
            order.sort_by(|&a, &b| fisher[b].total_cmp(&fisher[a]));
            order
        });
        let tried = |cut: Option<Cut<'_, B::InnerBackend>>,
                     order: Vec<usize>,
                     after: &dyn Fn(Tensor<_, 3>) -> Tensor<_, 3>| {
            let Some(cut) = cut else { return PartImportance { order, losses: Vec::new() } };
            let all = order.len();
            let mut counts: Vec<usize> =
                SHARES.iter().map(|share| (share * all as f64).round() as usize).collect();
            counts.dedup();
            counts.retain(|&count| count < all);
            let of = |count: usize| {
                let left = cut.outputs(&order[..count]).into_iter().map(after).collect::<Vec<_>>();
                (count, lost(logits(&left, index + 1)))
            };
            let losses = counts.into_iter().map(of).chain([(all, 0.0)]).collect();
            PartImportance { order, losses }
        };
        let ffn = tried(Cut::of_ffn(block, &mixed), ffn, &|x| model.merge(index, x));
        let heads = tried(Cut::of_heads(block, &streams), heads, &fed);
        found.push(BlockImportance { attention, ffn, heads });
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

/// `Σ KL(p ‖ q)` of logits `[batch, classes]`, one wait for the device. On the host: Burn's fusion of
/// these operations panics on a GPU now and then, by the kernels around it.
pub(crate) fn divergence<B: Backend>(p: Tensor<B, 2>, q: Tensor<B, 2>) -> f64 {
    let classes = p.dims()[1];
    let read = Transaction::default().register(p).register(q).execute();
    let [p, q] = [0, 1].map(|index| {
        let data: Option<&TensorData> = read.get(index);
        let logits: Vec<f64> = data.map_or_else(Vec::new, |data| data.iter().collect());
        logits.chunks(classes).flat_map(log_probabilities).collect::<Vec<f64>>()
    });
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// Logarithms of the softmax of one image's logits.
fn log_probabilities(logits: &[f64]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|x| (x - most).exp()).sum();
    logits.iter().map(|x| x - most - sum.ln()).collect()
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

/// A branch's last map, to be cut to some of its features.
struct Cut<'a, B: Backend> {
    /// What the branch is added to.
    before: &'a [Tensor<B, 3>],
    scale: &'a Option<LayerScale<B>>,
    /// `[features, dim]`.
    weight: DMatrix<f64>,
    /// Features that are kept or cut together.
    group: usize,
    moments: Moments,
    features: Vec<Tensor<B, 3>>,
}

impl<'a, B: FusedOps> Cut<'a, B> {
    fn new(
        map: &Linear<B>,
        group: usize,
        features: Vec<Tensor<B, 3>>,
        (before, scale): (&'a [Tensor<B, 3>], &'a Option<LayerScale<B>>),
    ) -> Self {
        let weight = host(map.weight.val());
        let (width, dim) = weight.shape();
        let mut moments = Moments::new(width, dim);
        for z in &features {
            moments.add(z.clone(), map.forward(z.clone()));
        }
        Self { before, scale, weight, group, moments, features }
    }

    /// Of tokens after the mixer; `None` of an FFN without fc2 or with a norm before it.
    fn of_ffn(block: &'a Block<B>, mixed: &'a [Tensor<B, 3>]) -> Option<Self> {
        let ffn = &block.mlp;
        let fc2 = ffn.fc2.as_ref().filter(|_| ffn.norm.is_none())?;
        let features = mixed.iter().map(|x| ffn.features(block.norm2.forward(x.clone())));
        Some(Self::new(fc2, 1, features.collect(), (mixed, &block.ls2)))
    }

    /// Of tokens before the block; `None` of what is not attention, or has a norm before its
    /// projection.
    fn of_heads(block: &'a Block<B>, streams: &'a [Tensor<B, 3>]) -> Option<Self> {
        let Mixer::Msa(msa) = &block.attn else { return None };
        if msa.norm.is_some() {
            return None;
        }
        let d = msa.proj.weight.dims()[0] / msa.heads();
        let features = streams.iter().map(|x| msa.features(block.norm1.forward(x.clone())));
        Some(Self::new(&msa.proj, d, features.collect(), (streams, &block.ls1)))
    }

    /// The stream after the branch with these parts alone.
    fn outputs(&self, parts: &[usize]) -> Vec<Tensor<B, 3>> {
        let group = self.group;
        let kept: Vec<usize> =
            parts.iter().flat_map(|part| (0..group).map(move |i| part * group + i)).collect();
        let prior = self.weight.select_rows(&kept);
        let fitted = match kept.is_empty() {
            true => None,
            false => self.moments.solve(&kept, &prior, RIDGE),
        };
        let (fitted, bias) = fitted.unwrap_or_else(|| (prior, self.moments.mean_target()));
        let mut weight = self.weight.clone() * 0.0;
        for (row, &feature) in kept.iter().enumerate() {
            weight.set_row(feature, &fitted.row(row));
        }
        let Some(place) = self.before.first().map(Tensor::device) else { return Vec::new() };
        let weight = device::<B>(&weight, &place);
        let bias = device::<B>(&bias, &place).squeeze_dim::<1>(0);
        let outputs = self.before.iter().zip(&self.features).map(|(x, z)| {
            let y = fused::affine(z.clone(), weight.clone(), Some(bias.clone()));
            let y = match self.scale {
                Some(scale) => scale.forward(y),
                None => y,
            };
            x.clone() + y
        });
        outputs.collect()
    }
}

/// Of every block's hidden dimensions and heads the mean over images of `(∂loss/∂gate)²`, the gates
/// being open and an image's own.
fn fisher<B: TrainBackend>(
    dense: &Vit<B>,
    images: &[Labelled<B::InnerBackend>],
) -> Vec<[Vec<f64>; 2]> {
    let heads = |block: &Block<B>| match &block.attn {
        Mixer::Msa(msa) if msa.norm.is_none() => msa.heads(),
        _ => 0,
    };
    let mut sums: Vec<[Vec<f64>; 2]> = dense
        .blocks
        .iter()
        .map(|block| [vec![0.0; block.mlp.hidden()], vec![0.0; heads(block)]])
        .collect();
    // Probes alone are in the graph: zeros that are added to what a branch gives.
    let model = dense.clone().no_grad();
    let mode = Mode::Evaluate;
    let mut count = 0;
    for (batch, targets) in images {
        let mut probes = Vec::new();
        let mut x = model.embed(Tensor::from_inner(batch.clone()));
        let probe = |x: &Tensor<B, 3>| {
            Tensor::<B, 3>::from_inner(x.clone().inner().zeros_like()).require_grad()
        };
        for (index, block) in model.blocks.iter().enumerate() {
            let mixed = match &block.attn {
                Mixer::Msa(msa) => Some(msa.features(block.norm1.forward(x.clone())).inner()),
                _ => None,
            };
            let first = probe(&x);
            x = block.mix(x, index, &mode) + first.clone();
            let hidden = (block.mlp.hidden() > 0)
                .then(|| block.mlp.features(block.norm2.forward(x.clone())).inner());
            let second = probe(&x);
            x = model.merge(index, block.feed(x, index, &mode) + second.clone());
            probes.push([(second, hidden), (first, mixed)]);
        }
        // The cross-entropy's gradient for the logits, without a logarithm's reciprocal, which Burn's
        // ndarray backend rounds by where a tensor lies.
        let logits = model.classify(x).mean();
        let p = softmax(logits.clone().inner(), 1);
        let slope = p * targets.clone().sum_dim(1) - targets.clone();
        let gradients = (logits * Tensor::from_inner(slope)).sum().backward();
        count += batch.dims()[0];
        for ((block, probes), sums) in model.blocks.iter().zip(probes).zip(&mut sums) {
            let proj = match &block.attn {
                Mixer::Msa(msa) => Some(&msa.proj),
                _ => None,
            };
            let maps = [(&block.mlp.fc2.as_ref(), &block.ls2), (&proj, &block.ls1)];
            for (((probe, z), (map, scale)), sums) in probes.into_iter().zip(maps).zip(sums) {
                let (Some(gradient), Some(z), Some(map)) = (probe.grad(&gradients), z, map) else {
                    continue;
                };
                let gradient = match scale {
                    Some(scale) => gradient * scale.gamma.val().inner().unsqueeze(),
                    None => gradient,
                };
                let back = gradient.matmul(map.weight.val().inner().transpose().unsqueeze());
                let [images, _, width] = z.dims();
                let parts = sums.len();
                if parts == 0 {
                    continue;
                }
                let gates: Tensor<B::InnerBackend, 3> =
                    (back * z).sum_dim(1).reshape([images, parts, width / parts]).sum_dim(2);
                let squares = gates.square().sum_dim(0).into_data();
                for (sum, square) in sums.iter_mut().zip(squares.iter::<f64>()) {
                    *sum += square;
                }
            }
        }
    }
    for sum in sums.iter_mut().flatten().flatten() {
        *sum /= count.max(1) as f64;
    }
    sums
}
