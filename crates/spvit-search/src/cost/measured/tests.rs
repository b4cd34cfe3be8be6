use spvit_layers::BlockShape;

use super::*;

/// What a made-up machine takes for a block, in milliseconds: a 3×3 convolution more than attention.
fn block_time(shape: &BlockShape, block: &BlockConfig) -> f64 {
    let operation = match block.operation {
        Operation::Shortcut => 0.0,
        Operation::BConv(1) => 0.02,
        Operation::BConv(_) => 0.2,
        Operation::Msa => 0.03 + 0.03 * block.heads.unwrap_or(shape.heads) as f64,
    };
    let ffn = if block.hidden > 0 { 0.01 + 0.001 * block.hidden as f64 } else { 0.0 };
    operation * shape.patches() as f64 / 49.0 + ffn
}

/// A pass on a machine that takes 0.5 ms around the blocks, and where whole models take more than their
/// parts.
fn pass(model: &ModelConfig, blocks: &[BlockConfig]) -> f64 {
    let shapes = model.blocks();
    let parts = shapes.iter().zip(blocks).map(|(shape, block)| block_time(shape, block));
    0.5 + parts.sum::<f64>()
}

fn place() -> Place {
    Place {
        date: "2026-11-26".into(),
        machine: "a made-up one".into(),
        device: "flex".into(),
        runtime: "none".into(),
        threads: 2,
    }
}

/// Rounds of a machine whose speed changes, with interrupts here and there.
fn rounds(times: Vec<f64>) -> Vec<Vec<f64>> {
    let speed = |round: usize| [1.0, 1.1, 3.0, 0.9, 1.0, 2.0, 1.0, 1.2, 1.0][round];
    let hit = |model: usize, round: usize| (7 * model + 3 * round).is_multiple_of(11);
    let own = |(model, time): (usize, f64)| {
        (0..9)
            .map(|round| time * speed(round) * if hit(model, round) { 4.0 } else { 1.0 })
            .collect()
    };
    times.into_iter().enumerate().map(own).collect()
}

/// Models from small to dense.
fn whole(model: &ModelConfig) -> Vec<Vec<BlockConfig>> {
    let operations =
        [Operation::Shortcut, Operation::BConv(1), Operation::BConv(3), Operation::Msa];
    let block = |number: usize, index: usize, shape: &BlockShape| {
        let operation = operations[(number + index) % 4];
        let heads = (operation == Operation::Msa && number.is_multiple_of(3)).then_some(1);
        BlockConfig { operation, hidden: shape.hidden * (number + 1) / 12, heads }
    };
    let blocks = |number: usize| {
        model.blocks().iter().enumerate().map(|(i, shape)| block(number, i, shape)).collect()
    };
    (0..12).map(blocks).collect()
}

fn table(model: &ModelConfig, beyond: impl Fn(f64) -> f64) -> LatencyTable {
    let whole = whole(model);
    let mut times: Vec<f64> =
        probes(model).iter().map(|probe| pass(model, &probe.blocks)).collect();
    times[0] = beyond(times[0]);
    times.extend(whole.iter().map(|blocks| beyond(pass(model, blocks))));
    LatencyTable::of_times(model, (place(), 1), &whole, &rounds(times)).unwrap()
}

fn near(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-6, "{found} in place of {expected}");
}

#[test]
fn parts_add_up_to_models_whatever_the_machine_does_meanwhile() {
    for name in ["vit_micro", "swin_tiny"] {
        let model = ModelConfig::preset(name).unwrap();
        let table = table(&model, |time| time);
        let costs = table.cost_table();
        assert_eq!(costs.unit, Unit::Milliseconds);
        for blocks in whole(&model) {
            near(costs.total(&blocks).unwrap(), pass(&model, &blocks));
        }
        near(costs.dense(), pass(&model, &model.dense_blocks()));
        assert!(table.error.largest < 1e-6 && table.error.uncorrected < 1e-6, "{:?}", table.error);
        assert_eq!(table.rounds, 9);
    }
}

#[test]
fn what_whole_models_take_beyond_their_parts_is_fitted_and_told() {
    let model = ModelConfig::preset("vit_micro").unwrap();
    let table = table(&model, |time| 0.1 + 1.2 * time);
    near(table.correction.factor, 1.2);
    near(table.correction.offset, 0.1);
    let costs = table.cost_table();
    for (blocks, own) in whole(&model).iter().zip(&table.whole) {
        near(costs.total(blocks).unwrap(), own.time.median);
        near(own.predicted, own.time.median);
    }
    assert!(table.error.uncorrected > 0.15 && table.error.median < 1e-6, "{:?}", table.error);
    assert_eq!(table.whole.iter().filter(|own| own.fitted).count(), 6);
}

#[test]
fn a_convolution_dearer_than_attention_leaves_the_path() {
    let model = ModelConfig::preset("vit_micro").unwrap();
    let costs = table(&model, |time| time).cost_table();
    for block in &costs.blocks {
        let path: Vec<Operation> = block.path().map(|(operation, _)| operation).collect();
        assert_eq!(path, [Operation::Shortcut, Operation::BConv(1), Operation::Msa]);
    }
    let line = costs.dominated().unwrap();
    assert!(line.contains("bconv3x3 in every block") && line.contains("fewer ms"), "{line}");
}

#[test]
fn a_file_gives_the_same_table_and_says_what_is_wrong() {
    let model = ModelConfig::preset("vit_micro").unwrap();
    let table = table(&model, |time| 1.1 * time);
    let text = table.to_json().unwrap();
    assert_eq!(LatencyTable::from_json(&text).unwrap(), table);
    let entry = text.lines().find(|line| line.contains("\"hidden\":128")).unwrap();
    assert!(entry.contains("[0,1,2,3,4,5]") && entry.contains("\"ms\":"), "{entry}");
    for (from, to, expected) in [
        ("\"version\": 1", "\"version\": 2", "version 2"),
        ("\"factor\": ", "\"factor\": -", "above 0"),
        ("\"depth\": 6", "\"depth\": 7", "block 6 is in 0 shapes"),
        ("\"batch\"", "\"bunch\"", "bunch"),
        ("\"head\": ", "\"head\": -", "below 0"),
        ("{", "", "no table of latencies"),
    ] {
        let broken = text.replacen(from, to, 1);
        assert_ne!(broken, text, "{from}");
        let error = LatencyTable::from_json(&broken).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("spvit measure"), "{to}: {error}");
    }
}

#[test]
fn times_that_tell_nothing_are_refused() {
    let model = ModelConfig::preset("vit_micro").unwrap();
    let times = vec![vec![1.0; 5]; probes(&model).len()];
    let error = LatencyTable::of_times(&model, (place(), 1), &[], &times).unwrap_err().to_string();
    assert!(error.contains("block 0") && error.contains("too busy"), "{error}");
}

#[test]
fn quartiles_lie_between_samples() {
    let found = Timing::of(&[4.0, 1.0, 3.0, 2.0]);
    assert_eq!(found, Timing { median: 2.5, lower: 1.75, upper: 3.25 });
    assert_eq!(Timing::of(&[]), Timing { median: 0.0, lower: 0.0, upper: 0.0 });
}
