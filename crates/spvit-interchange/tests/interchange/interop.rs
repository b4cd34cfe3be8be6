//! With the files that tests/interop/make_cases.py makes: real timm and transformers models load
//! with equal logits, and models are written for the checks that follow. See
//! tests/interop/README.md.

use std::path::{Path, PathBuf};

use serde_json::Value;
use spvit_formats::onnx::NetworkDescription;
use spvit_interchange::{Form, ReadOptions, Target, read_dense, write, write_onnx};
use spvit_layers::{ModelConfig, Operation};

use crate::support::{B, difference, imported, off_by, tensor, tensors};

/// The entries of a folder of the cases, or `None`, said aloud, where there are no cases.
pub fn cases(kind: &str) -> Option<Vec<PathBuf>> {
    let Some(folder) = std::env::var_os("SPVIT_INTEROP_DIR") else {
        println!("skipped: SPVIT_INTEROP_DIR names no folder made by tests/interop/make_cases.py");
        return None;
    };
    let found = entries(&Path::new(&folder).join(kind));
    assert!(!found.is_empty(), "no {kind} in {folder:?}");
    Some(found)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let list = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut list: Vec<_> = list.map(|entry| entry.unwrap().path()).collect();
    list.sort();
    list
}

pub fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[track_caller]
pub fn check(what: &str, off: f32, limit: f32) {
    println!("{what}: off by {off:.1e}");
    assert!(off <= limit, "{what}: off by {off}");
}

/// Logits are compared where they are as large as a trained model's: with a share of their scale.
pub fn logits_limit(io: &Path) -> f32 {
    let largest = tensors(io)["logits"].data.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    1e-5 * largest.max(1.0)
}

#[test]
fn every_packaging_gives_timms_logits() {
    let Some(models) = cases("checkpoints") else { return };
    for folder in models {
        let config = ModelConfig::preset(&name(&folder)).unwrap();
        let io = folder.join("io.safetensors");
        for path in entries(&folder).iter().filter(|path| **path != io) {
            let dense = read_dense::<B>(path, &config, 0, &Default::default());
            let dense = dense.unwrap_or_else(|e| panic!("{e}"));
            assert!(!dense.new_head);
            let what = format!("{}/{}", name(&folder), name(path));
            check(&what, off_by(&dense.model, &io, "logits"), logits_limit(&io));
        }
        let bare = imported(&folder.join("plain.zip.pth"), &ReadOptions::default());
        assert_eq!(bare.architecture.model, config);
    }
}

#[test]
fn hugging_faces_models_give_their_logits() {
    let Some(models) = cases("hugging_face") else { return };
    for folder in models {
        let io = folder.join("io.safetensors");
        for file in ["model.safetensors", "pytorch_model.bin", "modules.pth"] {
            let read = imported(&folder.join(file), &ReadOptions::default());
            let what = format!("hugging_face/{}/{file}", name(&folder));
            check(&what, off_by(&read.model, &io, "logits"), logits_limit(&io));
        }
    }
}

#[test]
fn other_resolutions_give_timms_position_embeddings_and_logits() {
    let Some(cases) = cases("resized") else { return };
    for folder in cases {
        let io = folder.join("io.safetensors");
        let expected = tensors(&io);
        let size: [usize; 2] = expected["input"].shape[2..].try_into().unwrap();
        let mut config = ModelConfig::preset("deit_tiny").unwrap();
        config.set_image_size(size);
        let path = folder.join("trained_at_224.safetensors");
        let dense = read_dense::<B>(&path, &config, 0, &Default::default()).unwrap();
        let positions = dense.model.pos_embed.as_ref().unwrap().val().into_data();
        let positions: Vec<f32> = positions.iter::<f32>().collect();
        let what = format!("resized/{}", name(&folder));
        check(
            &format!("{what} positions"),
            difference(&positions, &expected["pos_embed"].data),
            1e-5,
        );
        check(&format!("{what} logits"), off_by(&dense.model, &io, "logits"), logits_limit(&io));
    }
}

/// Reads every network as a bare file, compares its logits, and writes it for check_exports.py and
/// tract.
#[test]
fn every_network_is_read_and_written() {
    let Some(networks) = cases("networks") else { return };
    for folder in networks {
        let json = std::fs::read(folder.join("network.json")).unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        let network: NetworkDescription = serde_json::from_value(json).unwrap();
        let options = ReadOptions {
            heads: Some(network.blocks[0].heads),
            image_size: Some(network.image_size),
            shortcut_adds_norm: network.blocks[0].shortcut_adds_norm,
            ..ReadOptions::default()
        };
        let weights = folder.join("weights.safetensors");
        let read = imported(&weights, &options);
        let io = folder.join("io.safetensors");
        check(&name(&folder), off_by(&read.model, &io, "logits"), logits_limit(&io));
        let save = |file: &str, target| {
            let path = folder.join(file);
            write(&path, target, &read.model, &read.architecture, &read.input).unwrap();
        };
        save("model.safetensors", Target::Safetensors);
        save("model.onnx", Target::Onnx);
        let half = Form { half: true, ..Form::default() };
        let path = folder.join("half.onnx");
        write_onnx(&path, &read.model, &read.architecture, &half).unwrap();
        let again = imported(&folder.join("model.safetensors"), &ReadOptions::default());
        let input = tensor::<4>(&tensors(&io)["input"]);
        let [a, b] = [&again.model, &read.model]
            .map(|model| model.forward(input.clone(), &spvit_layers::Mode::Evaluate).into_data());
        assert_eq!(a, b);
        let convolutions = read.architecture.blocks.iter();
        let convolutions = convolutions.filter(|b| matches!(b.operation, Operation::BConv(_)));
        println!("{}: {} convolutions", name(&folder), convolutions.count());
    }
}
