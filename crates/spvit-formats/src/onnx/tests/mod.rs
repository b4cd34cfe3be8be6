//! The written files: sound graphs, with the published code's logits.

mod eval;

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;

use super::{BlockDescription, NetworkDescription, Operation, proto, write};
use crate::{FormatError, HostTensor, StateDict, read};
use eval::Array;

fn data(name: &str) -> StateDict {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    read(folder.join(name)).expect("the file is there").tensors
}

/// A trained network with one block of each kind, and its description. The published code keeps
/// qk and v apart; the compact layout has them fused.
fn all_kinds() -> (NetworkDescription, StateDict) {
    let mut state = data("allkinds.safetensors");
    for part in ["weight", "bias"] {
        let mut take = |name: &str| {
            state.remove(&format!("blocks.3.attn.{name}.{part}")).expect("the block is attention")
        };
        let (mut qkv, v) = (take("qk"), take("v"));
        qkv.shape[0] += v.shape[0];
        qkv.data.extend(v.data);
        state.insert(format!("blocks.3.attn.qkv.{part}"), qkv);
    }
    let block = |operation, hidden| BlockDescription { operation, hidden };
    let network = NetworkDescription {
        image_size: [32, 32],
        patch_size: 4,
        in_chans: 3,
        num_classes: 10,
        embed_dim: 48,
        num_heads: 3,
        layer_norm_eps: 1e-6,
        bn_eps: 1e-5,
        blocks: vec![
            block(Operation::Shortcut, 118),
            block(Operation::BConv { kernel: 1 }, 72),
            block(Operation::BConv { kernel: 3 }, 151),
            block(Operation::Msa, 192),
        ],
        shortcut_adds_norm1: true,
    };
    (network, state)
}

fn export(network: &NetworkDescription, state: &StateDict) -> Result<Vec<u8>, FormatError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("network.onnx");
    write(&path, network, state)?;
    Ok(std::fs::read(path).expect("written"))
}

fn decode(bytes: &[u8]) -> proto::Model {
    proto::Model::decode(bytes).expect("a protobuf message")
}

/// The logits of the first image: what is compared among our own files needs no second one.
fn logits_of_one(network: &NetworkDescription, state: &StateDict) -> Vec<f32> {
    let mut input = data("allkinds.io.safetensors").remove("input").expect("an input");
    input.data.truncate(3 * 32 * 32);
    let model = decode(&export(network, state).expect("written"));
    eval::run(&model, Array::new(&[1, 3, 32, 32], input.data)).data
}

fn logits(network: &NetworkDescription, state: &StateDict) -> Vec<f32> {
    let input = data("allkinds.io.safetensors").remove("input").expect("an input");
    let model = decode(&export(network, state).expect("written"));
    eval::run(&model, Array::new(&input.shape, input.data)).data
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_kind_of_block_gives_the_published_codes_logits() {
    let (network, state) = all_kinds();
    let expected = &data("allkinds.io.safetensors")["logits"].data;
    let found = distance(&logits(&network, &state), expected);
    assert!(found < 1e-5, "off by {found}");
}

#[test]
fn a_shortcut_adds_nothing_unless_told_to() {
    let (mut network, mut state) = all_kinds();
    network.shortcut_adds_norm1 = false;
    let plain = logits_of_one(&network, &state);
    let expected = &data("allkinds.io.safetensors")["logits"].data;
    assert!(distance(&plain, &expected[..10]) > 1e-2);
    // norm1 = 0 makes the other form add nothing, too.
    for part in ["weight", "bias"] {
        let norm = state.get_mut(&format!("blocks.0.norm1.{part}")).expect("present");
        norm.data.fill(0.0);
    }
    assert_eq!(logits_of_one(&network, &state), plain);
    network.shortcut_adds_norm1 = true;
    assert_eq!(logits_of_one(&network, &state), plain);
}

#[test]
fn an_ffn_cut_to_nothing_leaves_its_bias() {
    let (mut network, mut state) = all_kinds();
    // All hidden dimensions that are left add nothing: the same network with none of them.
    state.get_mut("blocks.1.mlp.fc2.weight").expect("present").data.fill(0.0);
    let expected = logits_of_one(&network, &state);
    let empty = |shape: &[usize]| HostTensor::new(shape, Vec::new()).expect("no values");
    network.blocks[1].hidden = 0;
    state.insert("blocks.1.mlp.fc1.weight".into(), empty(&[0, 48]));
    state.insert("blocks.1.mlp.fc1.bias".into(), empty(&[0]));
    state.insert("blocks.1.mlp.fc2.weight".into(), empty(&[48, 0]));
    assert_eq!(logits_of_one(&network, &state), expected);
}

#[test]
fn the_file_is_a_sound_graph_with_an_open_batch() {
    let (network, state) = all_kinds();
    let bytes = export(&network, &state).expect("written");
    assert_eq!(bytes, export(&network, &state).expect("written"), "not the same bytes twice");
    let model = decode(&bytes);
    assert_eq!(model.opset_import[0].version, 17);
    // Messages whose lengths were counted by hand: encoding them anew gives as many bytes.
    assert_eq!(model.encoded_len(), bytes.len());
    let graph = model.graph.expect("a graph");
    for (value, rest) in [(&graph.input[0], &[3, 32, 32][..]), (&graph.output[0], &[10])] {
        assert_eq!(*value, proto::ValueInfo::batch_of(&value.name, rest));
    }
    let mut known: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(known.len(), graph.initializer.len(), "an initialiser's name occurs twice");
    known.insert(&graph.input[0].name);
    for node in &graph.node {
        for input in &node.input {
            assert!(
                known.contains(input.as_str()),
                "{} uses {input} before it is there",
                node.name
            );
        }
        for output in &node.output {
            assert!(known.insert(output), "{output} occurs twice");
        }
    }
    assert!(known.contains(graph.output[0].name.as_str()));
    let description = &model.metadata_props[0];
    assert_eq!(description.key, "spvit.network");
    let found: NetworkDescription = serde_json::from_str(&description.value).expect("JSON");
    assert_eq!(found, network);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    type Change = fn(&mut NetworkDescription, &mut StateDict);
    let cases: [(Change, &[&str]); 10] = [
        (|_, s| drop(s.remove("norm.bias")), &["norm.bias", "none"]),
        (|_, s| drop(s.remove("blocks.0.norm1.weight")), &["blocks.0.norm1.weight"]),
        (|n, _| n.num_classes = 11, &["head.weight", "[11, 48]", "[10, 48]"]),
        (
            |n, _| n.blocks[2].operation = Operation::BConv { kernel: 5 },
            &["bconv.0.weight", "5, 5"],
        ),
        (|n, _| n.blocks[3].operation = Operation::Shortcut, &["4 more", "blocks.3.attn"]),
        (|n, _| n.blocks[2].operation = Operation::BConv { kernel: 2 }, &["odd kernel in block 2"]),
        (|n, _| n.num_heads = 5, &["embed_dim", "48"]),
        (|n, _| n.patch_size = 5, &["image_size", "[32, 32]"]),
        (|n, _| n.patch_size = 0, &["patch_size from 1"]),
        (|n, _| n.layer_norm_eps = f64::NAN, &["layer_norm_eps"]),
    ];
    for (change, expected) in cases {
        let (mut network, mut state) = all_kinds();
        change(&mut network, &mut state);
        let error = export(&network, &state).expect_err("must be refused").to_string();
        for word in expected.iter().chain(&["network.onnx"]) {
            assert!(error.contains(word), "expected '{word}' in: {error}");
        }
    }
}
