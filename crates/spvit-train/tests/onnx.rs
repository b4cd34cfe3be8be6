//! ONNX networks as teachers, by onnxruntime.

#[path = "run/support.rs"]
mod support;

use std::{fs, path::Path};

use burn::backend::Flex;
use spvit_interchange::{Target, write};
use spvit_train::{RunConfig, Silent};

use support::{finish, following, run};

#[test]
fn a_file_that_is_no_onnx_network_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.ONNX");
    fs::write(&path, "no network").unwrap();
    let root = folder.path().join("run");
    let error = run::<Flex>(&following(&path, &[]), &root, &mut Silent).unwrap_err().to_string();
    let expected = match std::env::var_os("ORT_DYLIB_PATH") {
        None => "ORT_DYLIB_PATH",
        Some(_) => "it is no ONNX network",
    };
    assert!(!error.contains('\n') && error.contains(expected), "{error}");
    assert!(!root.join("searched.safetensors").exists());
}

/// The dense model as an ONNX network chooses the same classes, so that fine-tuning gives the same
/// weights.
#[test]
fn an_onnx_network_teaches_as_the_model_that_it_was_made_of() {
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        eprintln!("passed over: ORT_DYLIB_PATH names no library of onnxruntime");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.onnx");
    let dense = following(Path::new(""), &[]);
    let read = spvit_interchange::read::<Flex>(
        &dense.dense.weights,
        &Default::default(),
        0,
        &Default::default(),
    );
    let read = read.unwrap();
    write(&path, Target::Onnx, &read.model, &read.architecture, &read.input).unwrap();
    let tensors = |name: &str, config: &RunConfig| {
        let root = folder.path().join(name);
        finish::<Flex>(config, &root);
        let bytes = fs::read(root.join("compact.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, view)| (name.to_string(), view.data().to_vec()));
        tensors.collect::<std::collections::BTreeMap<_, _>>()
    };
    assert!(tensors("dense", &dense) == tensors("onnx", &following(&path, &[])));
}
