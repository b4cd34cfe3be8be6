//! What parts of a dense model are worth, and models that are cut and fitted by it.

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Param};
use burn::tensor::{Tensor, activation::log_softmax};
use spvit_core::FusedOps;
use spvit_layers::{Init, Mixer, Mode, ModelConfig, Operation, Vit, VitConfig};
use spvit_search::{
    Architecture, BlockArchitecture, BlockScores, Budget, CostModel, CostTable, Gates, Labelled,
    Limits, candidates, expand, importance, prune, refit, sighted,
};

use crate::support::{Noise, host};

on_all_backends!(
    a_gate_is_worth_its_squared_gradient,
    what_does_nothing_is_worth_nothing,
    a_whole_model_is_fitted_to_itself,
    a_fitted_model_follows_the_dense_one_closer,
    thresholds_move_together_to_a_cost,
    candidates_meet_the_budget_and_see,
);

const HIDDEN: usize = 12;
const DEPTH: usize = 3;

fn config() -> ModelConfig {
    let deit = VitConfig::deit([16, 4, 1, 5, 16, DEPTH, 2]);
    VitConfig { hidden: HIDDEN, ..deit }.into()
}

fn dense<B: FusedOps>() -> Vit<B> {
    let config = config();
    let init = &mut Init::new(0, &B::Device::default());
    Noise::new(5).fill(Vit::new(&config, &config.dense_blocks(), init))
}

fn images<B: FusedOps>(count: usize) -> Vec<Tensor<B, 4>> {
    (0..2).map(|seed| Noise::new(40 + seed).tensor([count, 1, 16, 16], 1.5)).collect()
}

fn labelled<B: FusedOps>(count: usize) -> Vec<Labelled<B>> {
    let target = |batch: Tensor<B, 4>| {
        let count = batch.dims()[0];
        let ones: Tensor<B, 2> = Tensor::ones([count, 1], &batch.device());
        (batch, Tensor::cat(vec![ones.clone(), Tensor::zeros([count, 4], &ones.device())], 1))
    };
    images(count).into_iter().map(target).collect()
}

/// One image a batch: the mean of squares against squares of differences of the loss at either side of
/// the gate, each computed with a dimension's weights scaled.
fn a_gate_is_worth_its_squared_gradient<B: FusedOps>() {
    let (model, images) = (dense::<Autodiff<B>>(), labelled::<B>(1));
    let found = importance(&model, &images, |_, _| true);
    let inner = model.valid();
    let loss = |block: usize, dimension: usize, gate: f64, batch: usize| {
        let mut model: Vit<B> = inner.clone();
        let fc2 = model.blocks[block].mlp.fc2.as_mut().unwrap();
        let weight = fc2.weight.val();
        let row = weight.clone().narrow(0, dimension, 1) * gate;
        let width = weight.dims()[1];
        fc2.weight =
            Param::from_tensor(weight.slice_assign([dimension..dimension + 1, 0..width], row));
        let logits = model.forward(images[batch].0.clone(), &Mode::Evaluate);
        -f64::from(host(log_softmax(logits, 1))[0])
    };
    for (block, found) in found.iter().enumerate() {
        let worth = |&dimension: &usize| {
            let slope = |batch| {
                (loss(block, dimension, 1.05, batch) - loss(block, dimension, 0.95, batch)) / 0.1
            };
            (0..images.len()).map(|batch| f64::powi(slope(batch), 2)).sum::<f64>()
        };
        let worths: Vec<f64> = found.ffn.order.iter().map(worth).collect();
        let most = worths[0];
        for pair in worths.windows(2) {
            assert!(pair[0] >= pair[1] - 0.02 * most, "block {block}: {worths:?}");
        }
        assert!(most > 2.0 * worths[HIDDEN - 1], "the order of block {block} means nothing");
    }
}

fn what_does_nothing_is_worth_nothing<B: FusedOps>() {
    let mut model = dense::<B>();
    let Mixer::Msa(msa) = &mut model.blocks[1].attn else { panic!("dense models have attention") };
    msa.proj.weight = Param::from_tensor(msa.proj.weight.val().zeros_like());
    let fc2 = model.blocks[2].mlp.fc2.as_mut().unwrap();
    let weight = fc2.weight.val();
    fc2.weight = Param::from_tensor(
        weight.clone().slice_assign([7..8, 0..16], weight.narrow(0, 7, 1).zeros_like()),
    );
    let model = Vit::<Autodiff<B>>::from_inner(model);
    let found = importance(&model, &labelled::<B>(4), |_, _| true);
    assert!(found[1].attention.abs() < 1e-5, "{}", found[1].attention);
    assert!(found[0].attention > 1e-3 && found[2].attention > 1e-3);
    assert_eq!(found[2].ffn.order.last(), Some(&7));
    for block in &found {
        let losses: Vec<f64> = block.ffn.losses.iter().map(|&(_, loss)| loss).collect();
        assert!(losses[0] > 1e-3 && losses[losses.len() - 1] == 0.0, "{losses:?}");
        assert!(losses[0] > losses[losses.len() - 2], "{losses:?}");
    }
}

fn architecture(operation: Operation, step: usize) -> Architecture {
    let block = |index: usize| BlockArchitecture {
        operation: if index == 1 { operation } else { Operation::Msa },
        kept: (0..HIDDEN).step_by(step).collect(),
        heads: vec![],
    };
    Architecture::new(config(), CostModel::Paper, (0..DEPTH).map(block).collect(), None)
}

fn cut<B: FusedOps>(architecture: &Architecture) -> Vit<B> {
    let search = expand(&dense::<B>(), &config(), &mut Init::new(0, &B::Device::default()));
    prune(&search, architecture)
}

/// Largest difference of logits from the dense model's.
fn distance<B: FusedOps>(model: &Vit<B>, images: &[Tensor<B, 4>]) -> f32 {
    let dense = dense::<B>();
    let mode = Mode::Evaluate;
    let differences = images.iter().map(|batch| {
        let difference = model.forward(batch.clone(), &mode) - dense.forward(batch.clone(), &mode);
        host(difference.square().mean())[0]
    });
    differences.sum()
}

fn a_whole_model_is_fitted_to_itself<B: FusedOps>() {
    let images = images::<B>(16);
    let fitted = refit(cut(&architecture(Operation::Msa, 1)), &dense(), &images, |_, _| {});
    assert!(distance(&fitted, &images) < 1e-6, "{}", distance(&fitted, &images));
}

fn a_fitted_model_follows_the_dense_one_closer<B: FusedOps>() {
    let images = images::<B>(32);
    for operation in [Operation::Msa, Operation::BConv(1), Operation::BConv(3), Operation::Shortcut]
    {
        let cut = cut::<B>(&architecture(operation, 2));
        let before = distance(&cut, &images);
        let after = distance(&refit(cut, &dense(), &images, |_, _| {}), &images);
        assert!(after < 0.7 * before, "{operation}: {after} after {before}");
    }
    // Images that it was not fitted to.
    let others = vec![Noise::new(77).tensor([32, 1, 16, 16], 1.5)];
    let cut = cut::<B>(&architecture(Operation::Msa, 2));
    let before = distance(&cut, &others);
    let after = distance(&refit(cut, &dense(), &images, |_, _| {}), &others);
    assert!(after < before, "{after} after {before}");
}

fn thresholds_move_together_to_a_cost<B: FusedOps>() {
    let table = CostTable::new(&config(), CostModel::Paper).with_heads();
    let mut noise = Noise::new(9);
    let mut score = || f64::from(noise.uniform());
    let scores: Vec<BlockScores> = (0..DEPTH)
        .map(|_| BlockScores {
            attention: score(),
            ffn: (0..HIDDEN).map(|_| score()).collect(),
            heads: (0..2).map(|_| score()).collect(),
        })
        .collect();
    let gates = Gates::<B>::ranked(&table, &scores, &B::Device::default());
    let before = host(gates.ffn.val());
    for share in [0.9, 0.6, 0.35] {
        let target = share * table.dense();
        let moved = gates.clone().projected(&Limits::one(table.clone(), target));
        let probabilities = moved.probabilities();
        let cost = |probabilities: &[spvit_search::BlockProbabilities]| {
            let blocks = probabilities
                .iter()
                .zip(&table.blocks)
                .map(|(own, cost)| cost.at(own.level(), own.open()));
            table.fixed() + blocks.sum::<f64>()
        };
        let most = table.blocks[0].operations.last().unwrap().1;
        let reached = cost(&probabilities);
        assert!(reached <= target && reached > target - most, "{share}: {reached} for {target}");
        let shift = host(moved.ffn.val())[0] - before[0];
        let after = host(moved.ffn.val());
        assert!(before.iter().zip(after).all(|(a, b)| (b - a - shift).abs() < 1e-4));
    }
    // Every operation of a path begins with attention's threshold.
    let layout = gates.layout()[0].operations.len();
    assert!(
        host(gates.operations.val()).chunks(layout).all(|own| own.iter().all(|t| *t == own[0]))
    );
}

fn candidates_meet_the_budget_and_see<B: FusedOps>() {
    let (config, dense) = (config(), dense::<B>());
    let table = CostTable::new(&config, CostModel::Paper).with_heads();
    let scores: Vec<BlockScores> = (0..DEPTH)
        .map(|block| BlockScores {
            attention: block as f64,
            ffn: (0..HIDDEN).map(|i| -(i as f64)).collect(),
            heads: vec![0.5, -0.5],
        })
        .collect();
    let budget = Budget::flops((0.5 * table.dense()) as u64);
    let limits = Limits::one(table, budget.target);
    let found = candidates(&dense, (&config, &limits), &scores, &images(8), |_, _| true);
    assert!(!found.is_empty());
    for candidate in &found {
        assert!(candidate.architecture.flops as f64 <= budget.target);
        let operations = candidate.architecture.blocks.iter().map(|block| block.operation);
        assert!(sighted(operations.clone()));
        let kept = operations.map(|operation| operation == Operation::Msa);
        assert_eq!(kept.collect::<Vec<_>>(), candidate.kept);
        assert!(candidate.loss.is_finite() && candidate.loss >= 0.0);
    }
    let counts: Vec<usize> =
        found.iter().map(|own| own.kept.iter().filter(|kept| **kept).count()).collect();
    assert!(counts.windows(2).all(|pair| pair[0] == pair[1] + 1), "{counts:?}");
    assert_eq!(counts.last(), Some(&1), "one attention has to stay");
}
