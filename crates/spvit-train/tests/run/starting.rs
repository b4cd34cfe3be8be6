//! Searches that begin in an order.

use std::fs;

use burn::backend::{Flex, NdArray};
use spvit_layers::Operation;
use spvit_search::Architecture;
use spvit_train::RunConfig;

use crate::{Stopper, finish, results, run, support::short};

pub const MEASURED: [&str; 7] = [
    "search.heads=true",
    "search.start=importance",
    "search.start_images=60",
    "search.trial_steps=2",
    "finetune.init=dense",
    "finetune.refit=60",
    "search.budget=0.4",
];

fn measured(more: &[&str]) -> RunConfig {
    short(&[&MEASURED, more].concat())
}

/// Nothing is trained before the cut, and two runs have the same bits, also where one was stopped while
/// its candidates were tried.
#[test]
fn a_search_without_steps_is_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    let config = measured(&["search.epochs=0"]);
    let summary = finish::<Flex>(&config, &whole);
    let target = summary.target_flops.unwrap();
    let compact = &summary.models[2];
    assert!(compact.flops <= target && compact.flops as f64 > 0.99 * target as f64);
    let metrics = fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    assert!(!metrics.contains("\"search\""), "{metrics}");

    let mut observer = Stopper { after: 0, ..Stopper::default() };
    assert!(run::<Flex>(&config, &stopped, &mut observer).unwrap().is_none());
    finish::<Flex>(&config, &stopped);
    assert_eq!(results(&whole), results(&stopped));
}

#[test]
fn a_search_goes_on_from_where_importance_began_it() {
    crate::resuming::same_bits::<NdArray>(
        &[&MEASURED, &["search.projected=true", "search.budget_fall=0.5"][..]].concat(),
    );
}

/// The weights stay, the thresholds move, and the cost is the budget's in every epoch after its fall.
#[test]
fn held_weights_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let config = measured(&["search.hold_weights=true", "search.projected=true"]);
    let summary = finish::<Flex>(&config, folder.path());
    let searched = spvit_formats::read(folder.path().join("searched.safetensors")).unwrap();
    let dense = spvit_formats::read(&config.dense.weights).unwrap();
    for name in ["blocks.0.mlp.fc1.weight", "head.weight", "pos_embed"] {
        let bytes = |file: &spvit_formats::Checkpoint| file.tensors[name].clone();
        assert_eq!(bytes(&searched), bytes(&dense), "{name}");
    }
    let metrics = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    let target = summary.target_flops.unwrap();
    for line in metrics.lines().filter(|line| line.contains("\"search\"")) {
        let flops = line.split("\"flops\":").nth(1).unwrap().split([',', '}']).next().unwrap();
        assert!(flops.parse::<u64>().unwrap() <= target, "{line}");
    }
}

/// What may not be chosen is not.
#[test]
fn operations_are_among_those_that_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let among =
        "search.operations=[\"shortcut\",\"msa\",\"bconv1x1\",\"msa\",\"shortcut|msa\",\"msa\"]";
    let settings = ["search.epochs=0", "search.start=uniform", "finetune.init=dense", among];
    let config = short(&[&settings[..], &["search.budget=0.5"]].concat());
    finish::<Flex>(&config, folder.path());
    let text = fs::read_to_string(folder.path().join("architecture.json")).unwrap();
    let architecture = Architecture::from_json(&text).unwrap();
    let operations: Vec<Operation> =
        architecture.blocks.iter().map(|block| block.operation).collect();
    assert_eq!(
        operations[..4],
        [Operation::Shortcut, Operation::Msa, Operation::BConv(1), Operation::Msa]
    );
    let widths: Vec<usize> = architecture.blocks.iter().map(|block| block.kept.len()).collect();
    let (least, most) = (widths.iter().min().unwrap(), widths.iter().max().unwrap());
    assert!(most - least <= 1, "{widths:?}");
}

#[test]
fn what_cannot_be_searched_is_said_before_the_first_step() {
    let said = |settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        let path = crate::checkout().join("configs").join("demo.toml");
        RunConfig::read(&path, &settings).unwrap_err().to_string()
    };
    let constant = ["search.epochs=0", "search.start=constant"];
    assert!(said(&constant).contains("search.start to importance"), "{}", said(&constant));
    let three = ["search.operations=[\"msa\",\"msa\",\"msa\"]"];
    assert!(said(&three).contains("3 entries"), "{}", said(&three));
    let unknown = ["search.operations=[\"mlp\"]"];
    assert!(said(&unknown).contains("unknown operation 'mlp'"), "{}", said(&unknown));
    let nowhere = ["search.operations=[\"bconv5x5\"]"];
    assert!(said(&nowhere).contains("block 0 can be none of them"), "{}", said(&nowhere));
}
