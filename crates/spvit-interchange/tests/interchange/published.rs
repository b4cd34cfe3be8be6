//! The forms of the published code: search results, fine-tuned models, compact ones.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use spvit_formats::{StateDict, write_safetensors};
use spvit_interchange::{
    ReadOptions, Target, read_operations, read_search_result, search_result_shape, write,
};
use spvit_layers::{ModelConfig, Operation, VitConfig};
use spvit_search::Architecture;

use crate::support::{golden, golden_of, imported, noted, off_by, tensors};

const CASES: [&str; 2] = ["allkinds.weights.safetensors", "allkinds.optimized.safetensors"];

fn published() -> ReadOptions {
    ReadOptions { shortcut_adds_norm: true, ..ReadOptions::default() }
}

fn case() -> Value {
    serde_json::from_slice(&std::fs::read(golden("allkinds.json")).unwrap()).unwrap()
}

#[test]
fn fine_tuned_and_compact_checkpoints_give_the_published_logits() {
    for name in CASES {
        let Imported { model, architecture } = load(name, &published());
        let off = off_by(&model, &golden("allkinds.io.safetensors"), "eval.logits");
        println!("{name}: off by {off:.1e}");
        assert!(off < 1e-5, "{name}: off by {off}");
        let operations: Vec<_> = architecture.blocks.iter().map(|b| b.operation).collect();
        let expected =
            [Operation::Shortcut, Operation::BConv(1), Operation::BConv(3), Operation::Msa];
        assert_eq!(operations, expected, "{name}");
    }
}

#[test]
fn fine_tuned_and_compact_swins_give_the_published_logits() {
    for case in ["w4_allkinds", "w7_skip"] {
        let [json, io] = ["json", "io.safetensors"]
            .map(|end| golden_of("swin_finetune", &format!("{case}.{end}")));
        let json: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        let side = json["config"]["img_size"].as_u64().unwrap() as usize;
        let options = ReadOptions {
            alpha: json["alpha"].as_f64(),
            image_size: Some([side; 2]),
            ..published()
        };
        for form in ["weights", "optimized_fixed"] {
            let name = format!("{case}.{form}.safetensors");
            let read = imported(&golden_of("swin_finetune", &name), &options);
            let off = off_by(&read.model, &io, "eval.logits");
            println!("{name}: off by {off:.1e}");
            assert!(off < 1e-5, "{name}: off by {off}");
        }
    }
}

#[test]
fn the_head_distributions_of_a_fine_tuned_swin_are_flat_unless_alpha_says_otherwise() {
    let path = golden_of("swin_finetune", "w4_allkinds.weights.safetensors");
    let io = golden_of("swin_finetune", "w4_allkinds.io.safetensors");
    let read = imported(&path, &ReadOptions { image_size: Some([32; 2]), ..published() });
    assert_eq!(read.architecture.model.space.alpha, 100.0);
    let off = off_by(&read.model, &io, "eval.logits");
    assert!(off > 1e-3, "off by {off}");
}

struct Imported {
    model: spvit_layers::Vit<crate::support::B>,
    architecture: Architecture,
}

fn load(name: &str, options: &ReadOptions) -> Imported {
    let read = imported(&golden(name), options);
    Imported { model: read.model, architecture: read.architecture }
}

#[test]
fn published_shortcuts_are_different_without_the_option_and_that_is_said() {
    for name in CASES {
        let read = imported(&golden(name), &ReadOptions::default());
        assert!(noted(&read.notes, "shortcut_adds_norm"), "{:?}", read.notes);
        let off = off_by(&read.model, &golden("allkinds.io.safetensors"), "eval.logits");
        assert!(off > 1e-2, "{name}: off by {off}");
    }
}

/// A search result of the golden case, as a file, with the operations beside it.
fn search_result(folder: &Path) -> [PathBuf; 2] {
    let io = tensors(&golden("allkinds.io.safetensors"));
    let indicators = (0..4).map(|i| {
        let name = format!("blocks.{i}.mlp.assigned_indicator_index");
        (name, io[&format!("ffn_indicators.{i}")].clone())
    });
    let path = folder.join("result.safetensors");
    write_safetensors(&path, &indicators.collect::<StateDict>(), &Default::default()).unwrap();
    [path, golden("allkinds.json")]
}

#[test]
fn a_search_result_becomes_the_architecture_of_the_fine_tuned_model() {
    let folder = tempfile::tempdir().unwrap();
    let [result, operations] = search_result(folder.path());
    let shape = ModelConfig::from(VitConfig::deit([32, 4, 3, 10, 48, 4, 3]));
    let architecture = read_search_result(&result, &operations, &shape).unwrap();
    let kept: Vec<Vec<usize>> = serde_json::from_value(case()["ffn_keep"].clone()).unwrap();
    assert_eq!(architecture.blocks.iter().map(|b| b.kept.clone()).collect::<Vec<_>>(), kept);

    // With it, the weights know which dimensions they kept.
    let file = folder.path().join("architecture.json");
    std::fs::write(&file, architecture.to_json().unwrap()).unwrap();
    let options = ReadOptions { architecture: Some(file), ..published() };
    for name in CASES {
        let read = imported(&golden(name), &options);
        assert_eq!(read.architecture.blocks, architecture.blocks);
        assert!(!noted(&read.notes, "numbers them from 0"), "{:?}", read.notes);
    }
}

#[test]
fn operations_are_read_in_every_form_and_errors_name_the_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("operations.json");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_operations(&path, &[1, 3]).map_err(|error| error.to_string())
    };
    let expected = Ok(vec![Operation::Shortcut, Operation::BConv(3), Operation::Msa]);
    assert_eq!(read(r#"["skip", "bconv3x3", "msa"]"#), expected);
    assert_eq!(read(r#"["shortcut", "bconv3x3", "msa"]"#), expected);
    let blocks = r#"{"name": "x", "blocks": [{"i": 0, "msa": "skip"}, {"operation": "bconv3x3"},
        {"msa": "msa"}]}"#;
    assert_eq!(read(blocks), expected);
    assert_eq!(read(r#"{"msa_indicators": [[0, 0, 0], [1, 1.0, 0], [1, 1, 1]]}"#), expected);
    let error = read(r#"["msa", "conv"]"#).unwrap_err();
    assert!(error.contains("block 1") && error.contains("'conv'"), "{error}");
    let error = read(r#"{"msa_indicators": [[0, 0]]}"#).unwrap_err();
    assert!(error.contains("block 0 has 2 gates; expected 3"), "{error}");
    assert!(read("{}").unwrap_err().contains("expected a list of operations"));
}

#[test]
fn a_search_result_of_another_depth_or_width_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let [result, operations] = search_result(folder.path());
    let deit = VitConfig::deit([224, 16, 3, 1000, 192, 3, 3]);
    let shape = ModelConfig::from(VitConfig { hidden: 100, ..deit });
    let error = read_search_result(&result, &operations, &shape).unwrap_err().to_string();
    let name = "blocks.0.mlp.assigned_indicator_index has shape [192] where the model has [100]";
    assert!(error.contains(name), "{error}");
    assert!(error.contains("unexpected blocks.3.mlp.assigned_indicator_index"), "{error}");
}

/// Name, operations and figures here; kept indices as SHA-256 of their JSON without spaces.
const RELEASED: [(&str, &str); 4] = [
    ("deit_bs_l008_t60", "61fb6b47b810b6b0d42df364d620526ef039544273e2f72cec5b9dec83da458b"),
    ("deit_sm_l30_t32", "229396336f05cd2cd68391341fdf796a94264281f35f480deca3a7dd28853404"),
    ("deit_ti_l200_t10", "ae247c4c418079c3a16f534c5c1b679d233ff821e8fa03a1a19f8b46fd0afa0d"),
    ("swin_tn_l28_t32", "c7c900d3661415b02bc9fb3af1dd0a51b31cc107602f7dd68b7d14bf851af5e8"),
];

/// The authors' files are not part of the project; SPVIT_OFFICIAL names a folder that has them.
#[test]
fn released_search_results_become_the_released_architectures() {
    let Some(official) = std::env::var_os("SPVIT_OFFICIAL") else {
        println!("skipped: SPVIT_OFFICIAL names no folder with the published search results");
        return;
    };
    let archs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spvit-search/tests/archs");
    for (name, kept_digest) in RELEASED {
        let file = match name {
            // Its file is named after the size alone.
            "swin_tn_l28_t32" => "spvit_swin_t_l28_t32_search_12epoch.pth".to_string(),
            name => format!("spvit_{name}_search_10epoch.pth"),
        };
        let result = Path::new(&official).join(file);
        let operations = archs.join(format!("spvit_{name}.json"));
        let shape = search_result_shape(&result).unwrap_or_else(|e| panic!("{e}"));
        let architecture =
            read_search_result(&result, &operations, &shape).unwrap_or_else(|e| panic!("{e}"));
        let kept: Vec<_> = architecture.blocks.iter().map(|block| &block.kept).collect();
        let digest = Sha256::digest(serde_json::to_string(&kept).unwrap());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, kept_digest, "{name}");
        let json: Value = serde_json::from_slice(&std::fs::read(&operations).unwrap()).unwrap();
        assert_eq!(Some(architecture.flops), json["flops_formula_exact_int"].as_u64(), "{name}");
        // The file that spvit writes gives the same architecture again.
        let text = architecture.to_json().unwrap();
        assert_eq!(Architecture::from_json(&text).unwrap(), architecture, "{name}");
        println!(
            "{name}: {} FLOPs, {} kept",
            architecture.flops,
            kept.iter().map(|kept| kept.len()).sum::<usize>()
        );
    }
}

#[test]
fn the_published_layout_written_here_is_the_published_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compact.safetensors");
    let read = imported(&golden("allkinds.weights.safetensors"), &published());
    write(&path, Target::Published, &read.model, &read.architecture, &read.input).unwrap();
    let (found, expected) = (tensors(&path), tensors(&golden("allkinds.optimized.safetensors")));
    assert!(found.keys().eq(expected.keys()));
    for (name, tensor) in &found {
        assert_eq!(tensor.shape, expected[name].shape, "{name}");
        let off = crate::support::difference(&tensor.data, &expected[name].data);
        assert!(off < 1e-5, "{name}: off by {off}");
    }
}
