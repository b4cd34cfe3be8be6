//! `spvit profile`.

use std::fs;

use crate::{Place, checkout};

#[test]
fn a_dense_model_costs_what_the_paper_says() {
    let place = Place::new();
    let text = place.succeed(&format!("profile {}", checkout("configs/deit_ti.toml")));
    // Eq. 14 at DeiT-Ti's shape, and timm's number of parameters.
    assert!(text.contains("1.251 G"), "{text}");
    assert!(text.contains("5 717 416"), "{text}");
    assert!(text.contains("multiply-adds counted once"), "{text}");
}

#[test]
fn a_model_can_be_measured_and_drawn() {
    let place = Place::new();
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    let text = place.succeed(&format!("profile {model} --measure --svg picture.svg"));
    assert!(text.contains("16.56 M") && text.contains("one image"), "{text}");
    let picture = fs::read_to_string(place.path("picture.svg")).unwrap();
    assert_eq!(picture.matches("256/256").count(), 6, "{picture}");
}

#[test]
fn architectures_that_are_wrong_are_refused() {
    let place = Place::new();
    let good = r#"{
        "model": {"image_size": [8, 8], "patch_size": 4, "channels": 1, "classes": 2, "dim": 8,
                  "depth": 1, "heads": 2, "hidden": 4},
        "cost_model": "paper",
        "blocks": [{"operation": "bconv3x3", "kept": [0, 3]}]
    }"#;
    place.write("a.json", good);
    let text = place.succeed("profile a.json");
    assert!(text.contains("bconv3x3") && text.contains("2/4"), "{text}");
    place.write("a.json", good.replace("[0, 3]", "[]"));
    let text = place.succeed("profile a.json");
    assert!(text.contains("0/4"), "{text}");
    for (from, to, expected) in [
        ("bconv3x3", "bconv5x5", "blocks[0].operation"),
        ("bconv3x3", "conv", "unknown operation 'conv'"),
        ("[0, 3]", "[3, 0]", "blocks[0].kept"),
        ("[0, 3]", "[0, 4]", "blocks[0].kept"),
        ("\"depth\": 1", "\"depth\": 2", "1 blocks, but the model has 2"),
        ("\"heads\": 2", "\"heads\": 3", "model.heads"),
        ("paper", "papers", "papers"),
        ("}]", "", "line"),
    ] {
        place.write("a.json", good.replace(from, to));
        let error = place.fail("profile a.json", 1);
        assert!(error.contains("a.json") && error.contains(expected), "{to}: {error}");
    }
    let error = place.fail("profile none.json", 1);
    assert!(error.contains("none.json"), "{error}");
    let error = place.fail("profile a.onnx", 2);
    assert!(error.contains("a.onnx") && error.contains(".json"), "{error}");
}

/// As `spvit profile | head -1` does.
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let place = Place::new();
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    let mut command = place.command(&format!("profile {model}"));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{}: {errors}", output.status);
}
