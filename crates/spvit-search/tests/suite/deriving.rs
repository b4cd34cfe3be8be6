//! Deriving an architecture from gate probabilities at a budget.

use spvit_layers::{ModelConfig, Operation, Pool, VitConfig};
use spvit_search::{
    Architecture, BlockProbabilities, Budget, CostModel, CostTable, DeriveError, Limit, Limits,
    derive, derive_within, sighted,
};

use crate::support::Noise;

const SLACK: f64 = 0.005;

/// The same probability for every gate.
fn uniform(config: &ModelConfig, operations: f32, ffn: f32) -> Vec<BlockProbabilities> {
    let block = BlockProbabilities {
        operations: vec![operations; config.operations().len()],
        ffn: vec![ffn; hidden(config)],
        heads: vec![],
    };
    vec![block; config.depth()]
}

fn hidden(config: &ModelConfig) -> usize {
    config.blocks()[0].hidden
}

/// A model whose classifier sees the patches themselves, so that it can do without attention.
fn averaging() -> ModelConfig {
    let vit = ModelConfig::preset("vit_micro").unwrap().as_vit().unwrap().clone();
    VitConfig { pool: Pool::Average, ..vit }.into()
}

/// Random probabilities between two bounds.
fn random(
    config: &ModelConfig,
    noise: &mut Noise,
    [low, high]: [f32; 2],
) -> Vec<BlockProbabilities> {
    let mut draws = |count: usize| -> Vec<f32> {
        (0..count).map(|_| low + (high - low) * noise.uniform()).collect()
    };
    let blocks = 0..config.depth();
    blocks
        .map(|_| BlockProbabilities {
            operations: draws(config.operations().len()),
            ffn: draws(hidden(config)),
            heads: vec![],
        })
        .collect()
}

/// The operation that a block's gates expect.
fn expected(config: &ModelConfig, block: &BlockProbabilities) -> Operation {
    match block.operations.iter().take_while(|&&p| p > 0.5).count() {
        0 => Operation::Shortcut,
        level => config.operations()[level - 1],
    }
}

fn operations(architecture: &Architecture) -> Vec<Operation> {
    architecture.blocks.iter().map(|block| block.operation).collect()
}

/// FLOPs with these operations and FFNs of this width.
fn cost(table: &CostTable, operations: &[Operation], hidden: usize) -> u64 {
    let block = |&operation| spvit_layers::BlockConfig { operation, hidden, heads: None };
    table.total(&operations.iter().map(block).collect::<Vec<_>>()).unwrap() as u64
}

/// Calls `check` for shapes, cost models, kinds of probabilities and targets from 10 to 100 %.
fn for_many(check: impl Fn(&ModelConfig, CostModel, &[BlockProbabilities], u64)) {
    let mut noise = Noise::new(1);
    for (preset, seeds) in [("vit_micro", 40), ("deit_tiny", 4)] {
        let config = ModelConfig::preset(preset).unwrap();
        for model in [CostModel::Paper, CostModel::Macs] {
            let dense = CostTable::new(&config, model).dense() as u64;
            for bounds in [[0.0, 1.0], [0.5, 1.0], [0.0, 0.5], [0.45, 0.95]] {
                for _ in 0..seeds {
                    let probabilities = random(&config, &mut noise, bounds);
                    for percent in [10, 25, 40, 50, 60, 75, 90, 99, 100] {
                        check(&config, model, &probabilities, dense * percent / 100);
                    }
                }
            }
        }
    }
}

#[test]
fn the_budget_is_met_within_half_a_percent() {
    for_many(|config, model, probabilities, target| {
        let architecture = derive(config, model, probabilities, target).unwrap();
        let blocks = architecture.block_configs();
        let flops = CostTable::new(config, model).total(&blocks).unwrap() as u64;
        assert!(flops <= target, "{flops} > {target}");
        assert!(flops as f64 >= target as f64 * (1.0 - SLACK), "{flops} is far below {target}");
        assert_eq!((architecture.flops, architecture.target_flops), (flops, Some(target)));
        assert_eq!(architecture.cost_model, model);
        // Among others: kept dimensions in ascending order.
        architecture.validate().unwrap();
    });
}

#[test]
fn likelier_dimensions_of_the_whole_network_are_kept_first() {
    for_many(|config, model, probabilities, target| {
        let architecture = derive(config, model, probabilities, target).unwrap();
        let mut least_kept = f32::INFINITY;
        let mut most_dropped = 0.0f32;
        for (block, p) in architecture.blocks.iter().zip(probabilities) {
            for (dimension, &p) in p.ffn.iter().enumerate() {
                match block.kept.binary_search(&dimension).is_ok() {
                    true => least_kept = least_kept.min(p),
                    // An FFN's first dimension costs its norm, too, and may be too dear alone.
                    false if block.kept.is_empty() => {}
                    false => most_dropped = most_dropped.max(p),
                }
            }
        }
        assert!(most_dropped <= least_kept, "dropped {most_dropped}, kept {least_kept}");
    });
}

#[test]
fn operations_follow_the_expected_gates_where_ffns_can_make_up_the_difference() {
    let seen = std::cell::Cell::new([0, 0]);
    for_many(|config, model, probabilities, target| {
        let table = CostTable::new(config, model);
        let expected: Vec<_> = probabilities.iter().map(|block| expected(config, block)).collect();
        let fits = sighted(expected.iter().copied())
            && cost(&table, &expected, 0) <= target
            && cost(&table, &expected, hidden(config)) as f64 >= target as f64 * (1.0 - SLACK);
        let found = operations(&derive(config, model, probabilities, target).unwrap());
        assert_eq!(found == expected, fits);
        let [yes, no] = seen.get();
        seen.set(if fits { [yes + 1, no] } else { [yes, no + 1] });
    });
    assert!(seen.get().iter().all(|&count| count > 100), "both happen often: {seen:?}");
}

#[test]
fn the_least_likely_open_operation_is_lowered_first() {
    let config = ModelConfig::preset("vit_micro").unwrap();
    let table = CostTable::new(&config, CostModel::Paper);
    let mut probabilities = uniform(&config, 0.9, 0.9);
    probabilities[2].operations = vec![0.9, 0.9, 0.6];
    probabilities[4].operations = vec![0.9, 0.7, 0.8];
    let derived =
        |target| operations(&derive(&config, CostModel::Paper, &probabilities, target).unwrap());
    let mut expected = vec![Operation::Msa; 6];
    for (block, operation) in [
        (2, Operation::BConv(3)),
        (4, Operation::BConv(3)),
        // Block 4's 3×3 gate, at 0.7, is now the least likely open one.
        (4, Operation::BConv(1)),
    ] {
        let before = expected.clone();
        expected[block] = operation;
        // One multiply-add less than the operations need before, and the last that suffices.
        assert_eq!(derived(cost(&table, &before, 0) - 1), expected);
        assert_eq!(derived(cost(&table, &before, 0)), before);
    }
}

#[test]
fn the_likeliest_closed_operation_is_raised_first() {
    let config = averaging();
    let table = CostTable::new(&config, CostModel::Paper);
    let mut probabilities = uniform(&config, 0.1, 0.9);
    probabilities[1].operations = vec![0.4, 0.2, 0.3];
    probabilities[3].operations = vec![0.3, 0.4, 0.1];
    let derived =
        |target| operations(&derive(&config, CostModel::Paper, &probabilities, target).unwrap());
    let mut expected = vec![Operation::Shortcut; 6];
    for (block, operation) in [
        (1, Operation::BConv(1)),
        (3, Operation::BConv(1)),
        // Its next gate, at 0.4, is likelier than block 1's, at 0.2.
        (3, Operation::BConv(3)),
        (1, Operation::BConv(3)),
        (1, Operation::Msa),
    ] {
        let before = expected.clone();
        let most = cost(&table, &before, hidden(&config)) as f64;
        assert_eq!(derived((most / (1.0 - SLACK)) as u64), before);
        expected[block] = operation;
        assert_eq!(derived((most / (1.0 - SLACK)) as u64 + 1), expected);
    }
    let dense = table.dense() as u64;
    let whole = derive(&config, CostModel::Paper, &probabilities, dense).unwrap();
    assert_eq!(whole.blocks, Architecture::dense(config, CostModel::Paper).blocks);
}

#[test]
fn a_budget_below_the_smallest_model_is_an_error_that_says_so() {
    let config = averaging();
    for model in [CostModel::Paper, CostModel::Macs] {
        let table = CostTable::new(&config, model);
        let smallest = cost(&table, &[Operation::Shortcut; 6], 0);
        let probabilities = uniform(&config, 0.9, 0.9);
        let least = derive(&config, model, &probabilities, smallest).unwrap();
        assert_eq!(operations(&least), [Operation::Shortcut; 6]);
        assert!(least.blocks.iter().all(|block| block.kept.is_empty()));

        let target = smallest - 1;
        let error = derive(&config, model, &probabilities, target).unwrap_err();
        let budget = Budget::flops(target);
        assert_eq!(
            error,
            DeriveError::TooSmall { budget, sighted: false, smallest: smallest as f64 }
        );
        let text = error.to_string();
        assert!(
            text.contains(&target.to_string()) && text.contains(&smallest.to_string()),
            "{text}"
        );
    }
}

/// By hand: what a token sees that attention alone shows the image to.
#[test]
fn attention_is_seen_by_unless_a_convolution_mixes_patches_after_it() {
    use Operation::{BConv, Msa, Shortcut};
    for (operations, expected) in [
        (vec![Msa, Msa], true),
        (vec![BConv(3), Msa, Shortcut], true),
        (vec![Msa, BConv(1), Shortcut], true),
        (vec![Msa, BConv(3)], false),
        (vec![Msa, BConv(3), BConv(1)], false),
        (vec![BConv(3), Shortcut], false),
        (vec![Shortcut], false),
    ] {
        assert_eq!(sighted(operations.clone()), expected, "{operations:?}");
    }
}

#[test]
fn a_class_token_never_loses_sight_of_the_patches() {
    for_many(|config, model, probabilities, target| {
        let architecture = derive(config, model, probabilities, target).unwrap();
        assert!(sighted(operations(&architecture)), "{:?} at {target}", operations(&architecture));
        assert_eq!(architecture.blind(), None);
    });
}

#[test]
fn attention_returns_where_it_is_likeliest_and_a_model_without_it_is_called_blind() {
    let config = ModelConfig::preset("vit_micro").unwrap();
    let mut probabilities = uniform(&config, 0.1, 0.9);
    // A convolution of 3×3 in block 3: attention has to be there or later.
    probabilities[3].operations = vec![0.9, 0.9, 0.2];
    probabilities[1].operations = vec![0.9, 0.4, 0.9];
    probabilities[4].operations = vec![0.9, 0.4, 0.4];
    let table = CostTable::new(&config, CostModel::Paper);
    let target = table.dense() as u64 * 6 / 10;
    let derived = |config: &ModelConfig| {
        operations(&derive(config, CostModel::Paper, &probabilities, target).unwrap())
    };
    use Operation::{BConv, Msa, Shortcut};
    // 0.162 in block 3, 0.144 in block 4.
    assert_eq!(derived(&config), [Shortcut, BConv(1), Shortcut, Msa, BConv(1), Shortcut]);
    assert_eq!(derived(&averaging()), [Shortcut, BConv(1), Shortcut, BConv(3), BConv(1), Shortcut]);

    let mut blind = Architecture::dense(config, CostModel::Paper);
    assert_eq!(blind.blind(), None);
    blind.blocks.iter_mut().for_each(|block| block.operation = BConv(3));
    assert!(blind.blind().is_some_and(|line| line.contains("class token")));
    blind.model = averaging();
    assert_eq!(blind.blind(), None);
}

#[test]
fn the_smallest_model_with_a_class_token_has_one_attention() {
    let config = ModelConfig::preset("vit_micro").unwrap();
    let table = CostTable::new(&config, CostModel::Paper);
    let mut least = [Operation::Shortcut; 6];
    least[4] = Operation::Msa;
    let smallest = cost(&table, &least, 0);
    let mut probabilities = uniform(&config, 0.4, 0.9);
    probabilities[4].operations = vec![0.5; 3];
    let found = derive(&config, CostModel::Paper, &probabilities, smallest).unwrap();
    assert_eq!(operations(&found), least);
    let budget = Budget::flops(smallest - 1);
    let error = derive(&config, CostModel::Paper, &probabilities, smallest - 1).unwrap_err();
    assert_eq!(error, DeriveError::TooSmall { budget, sighted: true, smallest: smallest as f64 });
    assert!(error.to_string().contains("one attention"), "{error}");
}

/// Two budgets of different units: both are met, and the one that binds is met closely.
#[test]
fn of_two_budgets_both_are_met() {
    let config = ModelConfig::preset("vit_micro").unwrap();
    let probabilities = uniform(&config, 0.9, 0.9);
    let flops = CostTable::new(&config, CostModel::Paper);
    let parameters = CostTable::parameters(&config);
    let limit = |table: &CostTable, share: f64| Limit {
        table: table.clone(),
        target: (share * table.dense()).trunc(),
    };
    for (flops_share, parameters_share) in [(0.6, 0.9), (0.9, 0.5), (0.5, 0.5), (0.3, 0.4)] {
        let both =
            Limits::new(limit(&flops, flops_share), vec![limit(&parameters, parameters_share)]);
        let found = derive_within(&config, CostModel::Paper, &both, &probabilities).unwrap();
        assert_eq!(both.met(&found.block_configs()), Some(true));
        let reached = both.iter().map(|limit| found.cost(&limit.table).unwrap() / limit.target);
        let nearest = reached.fold(0.0, f64::max);
        assert!(nearest > 0.98, "{flops_share} {parameters_share}: {nearest}");
        assert_eq!(found.budgets(), both.iter().map(Limit::budget).collect::<Vec<_>>());
    }
    // One that is no limit changes nothing.
    let alone = Limits::one(flops.clone(), limit(&flops, 0.6).target);
    let loose = Limits::new(limit(&flops, 0.6), vec![limit(&parameters, 1.0)]);
    let [alone, loose] = [alone, loose].map(|limits| {
        derive_within(&config, CostModel::Paper, &limits, &probabilities).unwrap().blocks
    });
    assert_eq!(alone, loose);

    let small = Limits::new(limit(&flops, 0.9), vec![limit(&parameters, 0.01)]);
    let error = derive_within(&config, CostModel::Paper, &small, &probabilities).unwrap_err();
    assert!(error.to_string().contains("parameters"), "{error}");
}

/// Costs of several units together, each as a share of its budget: the mean of both in the first's unit.
#[test]
fn costs_together_are_weighed_by_the_budgets() {
    let config = ModelConfig::preset("vit_micro").unwrap();
    let tables = [CostTable::new(&config, CostModel::Paper), CostTable::parameters(&config)];
    let [flops, parameters] = tables.map(|table| Limit { target: table.dense() / 2.0, table });
    let both = Limits::new(flops.clone(), vec![parameters.clone()]).together();
    // Where both may cost half, one parameter weighs as many FLOPs as the dense model has for each.
    let rate = flops.table.dense() / parameters.table.dense();
    let [a, b] = [&flops, &parameters].map(|limit| limit.table.blocks[0].hidden_dimension);
    let found = both.blocks[0].hidden_dimension;
    assert!((2.0 * found / (a + rate * b) - 1.0).abs() < 1e-9, "{found}");
    assert!((both.dense() / flops.table.dense() - 1.0).abs() < 1e-9);
}

/// Every kept FFN is a multiple, costs stay within the budgets, and no further multiple fits; 1 changes
/// nothing.
#[test]
fn widths_are_kept_to_multiples() {
    let mut noise = Noise::new(7);
    let config = ModelConfig::preset("vit_micro").unwrap();
    let flops = CostTable::new(&config, CostModel::Paper).with_heads();
    let parameters = CostTable::parameters(&config).with_heads();
    for share in [0.3, 0.5, 0.7, 0.9] {
        let mut probabilities = random(&config, &mut noise, [0.2, 1.0]);
        for block in &mut probabilities {
            block.heads = (0..4).map(|_| noise.uniform()).collect();
        }
        let limit = |table: &CostTable, share: f64| Limit {
            table: table.clone(),
            target: (share * table.dense()).trunc(),
        };
        let limits = Limits::new(limit(&flops, share), vec![limit(&parameters, 0.95)]);
        let derived = |limits: &Limits| {
            derive_within(&config, CostModel::Paper, limits, &probabilities).unwrap()
        };
        let plain = derived(&limits);
        assert_eq!(derived(&limits.clone().in_multiples(1)), plain);
        for multiple in [8, 16, 24] {
            let limits = limits.clone().in_multiples(multiple);
            let found = derived(&limits);
            let blocks = found.block_configs();
            assert_eq!(limits.met(&blocks), Some(true));
            for (own, before) in found.blocks.iter().zip(&plain.blocks) {
                assert!(own.kept.len().is_multiple_of(multiple), "{multiple}: {}", own.kept.len());
                // A whole FFN of 256 is no multiple of 24, so that an operation may be raised for it.
                let same = (own.operation, &own.heads) == (before.operation, &before.heads);
                assert!(same || multiple == 24);
            }
            for block in 0..blocks.len() {
                let mut wider = blocks.clone();
                wider[block].hidden += multiple;
                assert!(wider[block].hidden > 256 || limits.met(&wider) == Some(false));
            }
        }
    }
}
