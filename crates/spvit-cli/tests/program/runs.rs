//! Runs from the first command to the last table.

use std::fs;

use crate::{Place, small};

#[test]
fn phases_give_what_a_whole_run_gives() {
    let place = Place::new();
    let small = small();
    place.succeed(&format!("pretrain --out dense{small}"));
    let dense = "--set dense.weights=dense/dense.safetensors";
    let text = place.succeed(&format!("run --out whole{small} {dense}"));
    for part in ["dense", "searched", "compact", "batch of 64", "Budget", "counted once"] {
        assert!(text.contains(part), "'{part}' is not in:\n{text}");
    }

    place.succeed(&format!("search --out parts{small} {dense}"));
    place.succeed("prune --out parts");
    place.succeed("finetune --out parts");
    place.succeed("evaluate --out parts");
    for name in ["config.toml", "metrics.jsonl", "architecture.json", "compact.safetensors"] {
        let [a, b] = ["whole", "parts"].map(|run| fs::read(place.path(run).join(name)).unwrap());
        assert!(a == b, "{name} differs");
    }
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("whole/summary.json")).unwrap()).unwrap();
    assert_eq!(summary["models"][2]["name"], "compact");
    assert!(summary["models"][2]["flops"].as_u64() <= summary["target_flops"].as_u64());

    let text = place.succeed("finetune --out parts");
    assert!(text.contains("nothing to do"), "{text}");
}

#[test]
fn a_searched_model_can_be_pruned_to_another_budget() {
    let place = Place::new();
    let small = small();
    place.succeed(&format!("pretrain --out run{small}"));
    place.succeed("search --resume run");
    place.succeed("prune --out run --set search.budget=0.5");
    let error = place.fail("prune --out run --set search.budget=0.8", 2);
    assert!(error.contains("--redo prune"), "{error}");
    place.succeed("prune --out run --redo prune --set search.budget=0.8");
    let text = place.succeed("profile run/architecture.json");
    assert!(text.contains("79.") || text.contains("80.00"), "{text}");

    let json = place.path("run/architecture.json");
    let text = fs::read_to_string(&json).unwrap();
    fs::write(&json, text.replace("\"classes\": 10", "\"classes\": 7")).unwrap();
    let error = place.fail("prune --out run", 2);
    assert!(error.contains("architecture.json") && error.contains("model"), "{error}");
}

#[test]
fn a_run_without_a_folder_takes_the_next_free_one() {
    let place = Place::new();
    let small = small();
    place.succeed(&format!("pretrain --seed 3{small}"));
    place.succeed(&format!("pretrain --seed 3{small}"));
    let weights = |run: &str| fs::read(place.path(run).join("dense.safetensors")).unwrap();
    assert!(weights("runs/pretrain-3") == weights("runs/pretrain-3-2"), "one seed, one result");
    let other = format!("pretrain --seed 4{small}");
    place.succeed(&other);
    assert!(weights("runs/pretrain-3") != weights("runs/pretrain-4"));
}

#[cfg(feature = "ndarray")]
#[test]
fn every_cpu_device_runs() {
    let place = Place::new();
    place.succeed(&format!("pretrain --out run --device ndarray{}", small()));
    let text = place.succeed("run --resume run --device ndarray");
    assert!(text.contains("ndarray"), "{text}");
}

#[test]
fn help_and_version_go_to_standard_output() {
    let place = Place::new();
    assert!(place.succeed("--help").contains("--resume"));
    assert!(place.succeed("run --help").contains("--set"));
    assert!(place.succeed("--version").starts_with("spvit "));
    let nothing = place.call("");
    assert_eq!(nothing.status.code(), Some(2));
}

/// What two devices share is what two micro-batches are.
#[test]
fn devices_share_a_run() {
    let place = Place::new();
    let options = small();
    place.succeed(&format!("pretrain --out parts{options} --set run.micro_batches=2"));
    place.succeed(&format!("pretrain --out devices{options} --devices flex,flex"));
    let [parts, devices] = ["parts", "devices"]
        .map(|run| fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap());
    assert_eq!(parts, devices);
    for (list, word) in [
        ("flex,ndarray", "of one kind"),
        ("flex:1", "no devices with numbers"),
        ("flex,", "expected one of"),
        ("flex --device flex", "cannot be used with"),
    ] {
        let error = place.fail(&format!("pretrain --out none{options} --devices {list}"), 2);
        assert!(error.contains(word), "{list}: {error}");
        assert!(!place.path("none").exists());
    }
}
