//! `spvit measure`, and runs whose budget is one of time. Nothing here depends on how fast the machine is.

use std::fs;

use serde_json::Value;

use crate::{Place, small};

/// The small model's shape.
const SHAPE: &str = "[model]\nimage_size = [28, 28]\npatch_size = 4\nchannels = 1\nclasses = 10\ndim = 16\n\
                     depth = 2\nheads = 2\nhidden = 32\n";

/// A place with the small model's configuration and a dense model of it.
fn trained() -> Place {
    let place = Place::new();
    place.write("small.toml", SHAPE);
    place.succeed(&format!("pretrain --out dense{}", small()));
    place
}

/// A run from that model, without steps of search.
fn run(more: &str) -> String {
    let settings = "--set dense.weights=dense/dense.safetensors --set search.epochs=0 --set \
                    search.start=magnitude --set search.projected=true --set search.heads=true";
    format!("run {settings} {}{more}", small().replace(" --set search.epochs=1", ""))
}

fn json(place: &Place, name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(place.path(name)).unwrap()).unwrap()
}

#[test]
fn a_table_holds_every_choice_and_what_it_is_of() {
    let place = Place::new();
    place.write("small.toml", SHAPE);
    let text = place.succeed("measure small.toml --batch 2 --seconds 1");
    for words in ["dense model", "bconv3x3", "msa, 1 head", "ffn of 16", "batch 2", "nothing was"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let table = json(&place, "latency.json");
    assert_eq!(table["batch"], 2);
    assert_eq!(table["place"]["device"], "flex");
    assert_eq!(table["model"]["hidden"], 32);
    let entries = table["entries"].as_array().unwrap();
    // Two convolutions, attention with one and two heads, FFNs of 4, 8, 16, 24 and 32.
    assert_eq!(entries.len(), 9);
    for entry in entries {
        let [lower, median, upper] =
            ["lower", "ms", "upper"].map(|key| entry[key].as_f64().unwrap());
        assert!(lower <= median && median <= upper, "{entry}");
    }
    assert_eq!(table["whole"].as_array().unwrap().len(), 16);

    let text = place.succeed("measure small.toml --against latency.json");
    assert!(text.contains("% of the dense model's"), "{text}");
    place.write("other.toml", SHAPE.replace("dim = 16", "dim = 32"));
    let error = place.fail("measure other.toml --against latency.json", 2);
    assert!(error.contains("latency.json") && error.contains("model.dim"), "{error}");
}

#[test]
fn what_cannot_be_measured_is_told() {
    let place = Place::new();
    place.write("small.toml", SHAPE);
    let error = place.fail("measure none.toml", 1);
    assert!(error.contains("none.toml"), "{error}");
    let error = place.fail("measure small.toml --runtime tensorrt", 2);
    assert!(error.contains("burn or onnxruntime"), "{error}");
    let error = place.fail("measure small.toml --batch 0", 2);
    assert!(error.contains("--batch"), "{error}");
    let error = place.fail("measure small.toml --seconds 0 --out none/latency.json", 1);
    assert!(error.contains("none"), "{error}");
    let mut command = place.command("measure small.toml --runtime onnxruntime");
    let output = command.env("ORT_DYLIB_PATH", "/none.so").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--features onnxruntime") || error.contains("/none.so"), "{error}");
    assert!(!place.path("latency.json").exists());

    place.write("latency.json", "{\"version\": 7}");
    let error = place.fail(&run(" --budget 1ms --latency-table latency.json"), 2);
    assert!(error.contains("latency.json") && error.contains("version 7"), "{error}");
}

#[test]
fn a_run_keeps_to_a_time_and_remembers_its_table() {
    let place = trained();
    let text = place.succeed(&run(" --budget 70%ms --round 8 --out timed"));
    assert!(text.contains("Budget") && text.contains("ms, reached"), "{text}");
    let table = json(&place, "timed/latency.json");
    let architecture = json(&place, "timed/architecture.json");
    let target = architecture["target_milliseconds"].as_f64().unwrap();
    let dense = table["dense"]["ms"].as_f64().unwrap();
    assert!((target / (0.7 * dense) - 1.0).abs() < 1e-9, "{target} of {dense}");
    for block in architecture["blocks"].as_array().unwrap() {
        assert!(block["kept"].as_array().unwrap().len().is_multiple_of(8), "{block}");
    }
    let summary = json(&place, "timed/summary.json");
    assert_eq!(summary["target_milliseconds"].as_f64(), Some(target));
    assert!(summary["models"][2]["milliseconds"].as_f64().unwrap() > 0.0, "{summary}");

    // What is done is not measured anew, and another search is.
    let before = fs::read_to_string(place.path("timed/latency.json")).unwrap();
    place.succeed("run --resume timed --redo finetune");
    assert_eq!(fs::read_to_string(place.path("timed/latency.json")).unwrap(), before);
    place.succeed("run --resume timed --redo search");
    assert_ne!(fs::read_to_string(place.path("timed/latency.json")).unwrap(), before);

    // The table of another machine gives a model, but no measured time.
    place.write("far.json", before.replace("\"machine\": \"", "\"machine\": \"a far one, "));
    let output = place.call(&run(" --budget 70%ms --latency-table far.json --out far"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("a far one"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("not measured here"));
    assert_eq!(json(&place, "far/architecture.json")["target_milliseconds"].as_f64(), Some(target));

    let error = place.fail(&run(" --budget 0.0001ms --latency-table far.json --out none"), 2);
    assert!(error.contains("0.0001 ms") && error.contains("smallest"), "{error}");
}
