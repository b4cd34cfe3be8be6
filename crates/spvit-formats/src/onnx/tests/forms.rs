//! What the forms of a file change, and what they leave.

use std::collections::BTreeMap;

use super::{Array, all_kinds, data, decode, distance, eval, logits};
use crate::FormatError;
use crate::StateDict;
use crate::onnx::{Form, NetworkDescription, Normal, Pool, proto, write};

fn export(
    network: &NetworkDescription,
    state: &StateDict,
    form: &Form,
) -> Result<proto::Model, FormatError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("network.onnx");
    write(&path, network, state, form)?;
    Ok(decode(&std::fs::read(path).expect("written")))
}

fn images() -> Array {
    let input = data("allkinds.io.safetensors").remove("input").expect("an input");
    Array::new(&input.shape, input.data)
}

/// The type of every tensor, where all operators get what ONNX lets them have: floats of one type.
fn types(model: &proto::Model) -> BTreeMap<String, i32> {
    let graph = model.graph.as_ref().expect("a graph");
    let mut types: BTreeMap<String, i32> =
        graph.initializer.iter().map(|t| (t.name.clone(), t.data_type)).collect();
    let value = |value: &proto::ValueInfo| {
        let r#type = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        (value.name.clone(), r#type.expect("a tensor").elem_type)
    };
    types.extend(graph.input.iter().map(value));
    for node in &graph.node {
        let inputs: Vec<i32> = node.input.iter().map(|name| types[name]).collect();
        let out = match node.op_type.as_str() {
            "Cast" => node.attribute[0].i.expect("a type") as i32,
            _ => {
                let floats = inputs.iter().filter(|own| **own != proto::INT64);
                assert!(floats.clone().all(|own| *own == inputs[0]), "{}: {inputs:?}", node.name);
                inputs[0]
            }
        };
        types.extend(node.output.iter().map(|name| (name.clone(), out)));
    }
    let (name, expected) = value(&graph.output[0]);
    assert_eq!(types[&name], expected);
    types
}

#[test]
fn bytes_are_normalised_inside() {
    let (network, state) = all_kinds();
    let (mean, std) = (vec![0.5, 0.4, 0.3], vec![0.2, 0.25, 0.3]);
    let form =
        Form { bytes: Some(Normal { mean: mean.clone(), std: std.clone() }), ..Form::default() };
    let model = export(&network, &state, &form).expect("written");
    types(&model);
    let input = &model.graph.as_ref().expect("a graph").input[0];
    let expected = proto::ValueInfo::batch_of("input", proto::UINT8, None, &[32, 32, 3]);
    assert_eq!(*input, expected);
    let byte =
        |b: usize, y: usize, x: usize, c: usize| ((b * 91 + y * 7 + x * 13 + c * 50) % 256) as f32;
    let mut bytes = Vec::new();
    let mut values = Vec::new();
    for (y, x) in (0..32).flat_map(|y| (0..32).map(move |x| (y, x))) {
        bytes.extend((0..3).map(|c| byte(0, y, x, c)));
    }
    for c in 0..3 {
        for (y, x) in (0..32).flat_map(|y| (0..32).map(move |x| (y, x))) {
            values.push((byte(0, y, x, c) / 255.0 - mean[c]) / std[c]);
        }
    }
    let found = eval::run(&model, Array::new(&[1, 32, 32, 3], bytes));
    let plain = export(&network, &state, &Form::default()).expect("written");
    let expected = eval::run(&plain, Array::new(&[1, 3, 32, 32], values));
    let off = distance(&found.data, &expected.data);
    assert!(off < 1e-4, "off by {off}");
}

/// Logits of float16 point the same way, and whatever normalises is in float32.
#[test]
fn float16_keeps_norms_in_float32() {
    let (mut network, mut state) = all_kinds();
    for pool in [Pool::Token, Pool::Average] {
        network.pool = pool;
        let form = Form { half: true, ..Form::default() };
        let model = export(&network, &state, &form).expect("written");
        let types = types(&model);
        let graph = model.graph.as_ref().expect("a graph");
        let mut seen = BTreeMap::new();
        for node in &graph.node {
            let full = ["LayerNormalization", "BatchNormalization", "Softmax", "ReduceMean"];
            let expected = match node.op_type.as_str() {
                own if full.contains(&own) => proto::FLOAT,
                "MatMul" | "Conv" | "Gemm" | "Erf" => proto::FLOAT16,
                _ => continue,
            };
            assert_eq!(types[&node.input[0]], expected, "{}", node.name);
            *seen.entry(node.op_type.as_str()).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), if pool == Pool::Token { 7 } else { 8 }, "{seen:?}");
        let found = eval::run(&model, images()).data;
        let expected = logits(&network, &state);
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let cosine =
            dot(&found, &expected) / (dot(&found, &found) * dot(&expected, &expected)).sqrt();
        assert!(cosine >= 0.9999 && found != expected, "cosine {cosine}");
    }
    state.get_mut("blocks.1.mlp.fc1.weight").expect("present").data[5] = 7e4;
    let form = Form { half: true, ..Form::default() };
    let error = export(&network, &state, &form).expect_err("too large").to_string();
    for word in ["blocks.1.mlp.fc1.weight", "65504", "70000", "float32"] {
        assert!(error.contains(word), "expected {word} in: {error}");
    }
}

#[test]
fn a_file_says_what_it_is_told() {
    let (network, state) = all_kinds();
    let metadata = vec![("labels".to_string(), r#"["cat"]"#.to_string())];
    let (batch, input) = (Some(4), Some("pixel_values".to_string()));
    let form = Form { batch, input, metadata, ..Form::default() };
    let model = export(&network, &state, &form).expect("written");
    let graph = model.graph.as_ref().expect("a graph");
    let of =
        |name: &str, rest: &[usize]| proto::ValueInfo::batch_of(name, proto::FLOAT, Some(4), rest);
    assert_eq!(graph.input, [of("pixel_values", &[3, 32, 32])]);
    assert_eq!(graph.output, [of("logits", &[10])]);
    assert_eq!(model.metadata_props[1].key, "labels");
    assert_eq!(eval::run(&model, images()).data, logits(&network, &state));
    let refused = |form: Form| export(&network, &state, &form).expect_err("refused").to_string();
    assert!(refused(Form { batch: Some(0), ..Form::default() }).contains("batch from 1"));
    let grey = Normal { mean: vec![0.5], std: vec![0.5] };
    assert!(refused(Form { bytes: Some(grey), ..Form::default() }).contains("each of 3 channels"));
    let flat = Normal { mean: vec![0.5; 3], std: vec![0.0; 3] };
    assert!(refused(Form { bytes: Some(flat), ..Form::default() }).contains("std above 0"));
}
