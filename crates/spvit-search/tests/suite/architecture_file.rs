//! The architecture file: what is written is read back, and what is wrong is named.

use serde_json::{Value, json};
use spvit_layers::{Family, ModelConfig, Operation, SearchSpace, VitConfig};
use spvit_search::{Architecture, ArchitectureError, BlockArchitecture, CostModel};

fn architecture() -> Architecture {
    let deit = VitConfig::deit([28, 4, 1, 10, 64, 4, 4]);
    let config = ModelConfig {
        family: Family::Vit(VitConfig { hidden: 6, image_size: [28, 56], ..deit }),
        space: SearchSpace { kernels: vec![1, 3, 5], alpha: 0.01, separate: false },
    };
    let block = |operation, kept: &[usize]| BlockArchitecture {
        operation,
        kept: kept.to_vec(),
        heads: vec![],
    };
    let blocks = vec![
        block(Operation::Msa, &[0, 1, 2, 3, 4, 5]),
        block(Operation::BConv(5), &[0, 5]),
        block(Operation::Shortcut, &[3]),
        block(Operation::BConv(1), &[1, 2]),
    ];
    Architecture::new(config, CostModel::Macs, blocks, Some(1_000_000))
}

/// The file with one value changed.
fn edited(pointer: &str, value: Value) -> String {
    let mut file: Value = serde_json::from_str(&architecture().to_json().unwrap()).unwrap();
    *file.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    file.to_string()
}

/// The error of a file, which must name each of `words`.
#[track_caller]
fn error(text: &str, words: &[&str]) -> ArchitectureError {
    let error = Architecture::from_json(text).unwrap_err();
    for word in words {
        assert!(error.to_string().contains(word), "'{error}' does not name {word}");
    }
    error
}

#[test]
fn what_is_written_is_read_back() {
    let architecture = architecture();
    let text = architecture.to_json().unwrap();
    assert_eq!(Architecture::from_json(&text).unwrap(), architecture);
    let lines = text.lines().filter(|line| line.contains("\"operation\"")).count();
    assert_eq!(lines, 4, "one line for each block:\n{text}");
}

#[test]
fn figures_are_computed_anew() {
    let architecture = architecture();
    let text = edited("/flops", json!(1));
    let text =
        text.replace(&format!("\"dense_flops\":{}", architecture.dense_flops), "\"dense_flops\":2");
    assert!(text.contains("\"flops\":1,") && text.contains("\"dense_flops\":2"), "{text}");
    assert_eq!(Architecture::from_json(&text).unwrap(), architecture);

    let text = edited("/blocks/0/operation", json!("shortcut"));
    assert!(Architecture::from_json(&text).unwrap().flops < architecture.flops);
}

#[test]
fn what_a_person_may_leave_out_has_a_default() {
    let mut file: Value = serde_json::from_str(&architecture().to_json().unwrap()).unwrap();
    let fields = file.as_object_mut().unwrap();
    for field in ["flops", "dense_flops", "target_flops"] {
        assert!(fields.remove(field).is_some());
    }
    for field in ["alpha", "layer_norm_epsilon", "shortcut_adds_norm"] {
        assert!(fields["model"].as_object_mut().unwrap().remove(field).is_some());
    }
    let expected = Architecture { target_flops: None, ..architecture() };
    assert_eq!(Architecture::from_json(&file.to_string()).unwrap(), expected);
}

#[test]
fn text_that_is_no_architecture() {
    let json = |text: &str, words: &[&str]| {
        let error = error(text, words);
        assert!(matches!(error, ArchitectureError::Json(_)), "{error:?}");
    };
    json("", &["EOF"]);
    json("{", &["line 1"]);
    json("[]", &["not an architecture"]);
    json("{}", &["model"]);
    json(&edited("/cost_model", json!("flops")), &["flops", "paper", "macs"]);
    json(&edited("/blocks", json!(3)), &["expected a sequence"]);
    json(&edited("/model/dim", json!(-64)), &["-64"]);
    let text = architecture().to_json().unwrap();
    json(&text.replace("\"depth\"", "\"layers\""), &["layers", "depth"]);
    json(&(text.clone() + "{}"), &["trailing"]);
    json(&text.replacen("\"model\"", "\"colour\": 1, \"model\"", 1), &["colour"]);
}

#[test]
fn blocks_of_another_form() {
    let block = |text: &str, words: &[&str]| {
        let error = error(text, words);
        assert!(matches!(error, ArchitectureError::Block { .. }), "{error:?}");
    };
    let unknown = edited("/blocks/1/operation", json!("conv"));
    block(&unknown, &["blocks[1].operation", "'conv'", "shortcut", "msa", "bconv3x3"]);
    for name in ["bconv2x2", "bconv3x5", "bconv", "bconvx", "bconv0x0", "bconv-1x-1", "MSA", ""] {
        block(&edited("/blocks/3/operation", json!(name)), &["blocks[3].operation", name]);
    }
    block(&edited("/blocks/3/operation", json!(3)), &["blocks[3].operation"]);
    block(&edited("/blocks/2/kept", json!([-1])), &["blocks[2].kept", "-1"]);
    block(&edited("/blocks/2/kept", json!("all")), &["blocks[2].kept", "all"]);
    block(&edited("/blocks/2", json!({"operation": "msa"})), &["blocks[2]", "`kept`"]);
    block(&edited("/blocks/2", json!({"kept": [1]})), &["blocks[2]", "`operation`"]);
    let extra = json!({"operation": "msa", "kept": [1], "keep": [2]});
    block(&edited("/blocks/2", extra), &["blocks[2]", "`keep`"]);
}

#[test]
fn models_that_cannot_be() {
    let config = |pointer: &str, value: Value, words: &[&str]| {
        let error = error(&edited(pointer, value), words);
        assert!(matches!(error, ArchitectureError::Config(_)), "{error:?}");
    };
    for field in ["patch_size", "channels", "classes", "dim", "depth", "heads", "hidden"] {
        config(&format!("/model/{field}"), json!(0), &[&format!("model.{field}")]);
    }
    config("/model/image_size", json!([28, 0]), &["model.image_size"]);
    config("/model/image_size", json!([28, 30]), &["model.image_size", "30", "model.patch_size 4"]);
    config("/model/heads", json!(5), &["model.dim 64", "model.heads 5"]);
    for kernels in [json!([]), json!([2]), json!([3, 1]), json!([3, 3])] {
        config("/model/kernels", kernels, &["model.kernels"]);
    }
    config("/model/alpha", json!(0.0), &["model.alpha"]);
    config("/model/layer_norm_epsilon", json!(-1e-6), &["model.layer_norm_epsilon"]);
}

#[test]
fn blocks_that_do_not_fit_the_model() {
    let text = edited("/model/depth", json!(5));
    let fault = error(&text, &["4 blocks", "the model has 5"]);
    assert!(matches!(fault, ArchitectureError::Depth { expected: 5, found: 4 }));

    let text = edited("/blocks/3/operation", json!("bconv7x7"));
    let fault = error(&text, &["blocks[3].operation", "bconv7x7", "model.kernels"]);
    assert!(matches!(
        fault,
        ArchitectureError::Operation { block: 3, operation: Operation::BConv(7) }
    ));

    for (kept, problem) in [
        (json!([2, 1]), "1 follows 2"),
        (json!([1, 1]), "1 follows 1"),
        (json!([1, 6]), "6 is too large"),
    ] {
        let text = edited("/blocks/1/kept", kept);
        let fault = error(&text, &["blocks[1].kept", "6 hidden", problem]);
        assert!(matches!(fault, ArchitectureError::Kept { block: 1, hidden: 6, .. }));
    }
}
