//! The written files: sound graphs, with the published code's logits.

mod eval;
mod forms;

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;

use super::{
    Activation, BlockDescription, Ffn, Form, MergeDescription, NetworkDescription, NormKind,
    Operation, Places, Pool, Positions, RopeDescription, WindowDescription, proto, write,
};
use crate::{FormatError, StateDict, read};
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
    let block = |index, operation, hidden| BlockDescription {
        name: format!("blocks.{index}"),
        operation,
        dim: 48,
        heads: 3,
        kept_heads: 3,
        hidden,
        map: [8, 8],
        prefix_tokens: 1,
        window: None,
        epsilon: 1e-6,
        norm_kind: NormKind::Layer,
        ffn: Ffn::Plain,
        activation: Activation::Gelu,
        qkv_bias: true,
        qk_norm: false,
        relative_positions: false,
        rope: None,
        attn_norm: false,
        mlp_norm: false,
        layer_scale: false,
        shortcut_adds_norm: true,
    };
    let network = NetworkDescription {
        image_size: [32, 32],
        patch_size: 4,
        channels: 3,
        classes: 10,
        dim: 48,
        epsilon: 1e-6,
        norm_kind: NormKind::Layer,
        batch_norm_epsilon: 1e-5,
        patch_bias: true,
        patch_norm: false,
        class_token: true,
        distilled: false,
        registers: 0,
        positions: Positions::All,
        pre_norm: false,
        norm: true,
        fc_norm: false,
        pool: Pool::Token,
        pool_prefix: false,
        head: "head".into(),
        blocks: vec![
            block(0, Operation::Shortcut, 118),
            block(1, Operation::BConv { kernel: 1 }, 72),
            block(2, Operation::BConv { kernel: 3 }, 151),
            block(3, Operation::Msa, 192),
        ],
        merges: Vec::new(),
    };
    (network, state)
}

fn export(network: &NetworkDescription, state: &StateDict) -> Result<Vec<u8>, FormatError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("network.onnx");
    write(&path, network, state, &Form::default())?;
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
    network.blocks[0].shortcut_adds_norm = false;
    let plain = logits_of_one(&network, &state);
    let expected = &data("allkinds.io.safetensors")["logits"].data;
    assert!(distance(&plain, &expected[..10]) > 1e-2);
    // norm1 = 0 makes the other form add nothing, too.
    for part in ["weight", "bias"] {
        let norm = state.get_mut(&format!("blocks.0.norm1.{part}")).expect("present");
        norm.data.fill(0.0);
    }
    assert_eq!(logits_of_one(&network, &state), plain);
    network.blocks[0].shortcut_adds_norm = true;
    assert_eq!(logits_of_one(&network, &state), plain);
}

/// Leaves nothing of a block's FFN but its bias.
fn empty_ffn(network: &mut NetworkDescription, state: &mut StateDict, block: usize) {
    network.blocks[block].hidden = 0;
    let name = format!("blocks.{block}.mlp");
    for tensor in ["fc1.weight", "fc1.bias", "fc2.weight"] {
        state.remove(&format!("{name}.{tensor}")).expect("present");
    }
    let bias = state.remove(&format!("{name}.fc2.bias")).expect("present");
    state.insert(format!("{name}.bias"), bias);
}

#[test]
fn an_ffn_cut_to_nothing_leaves_its_bias() {
    let (mut network, mut state) = all_kinds();
    // All hidden dimensions that are left add nothing: the same network with none of them.
    state.get_mut("blocks.1.mlp.fc2.weight").expect("present").data.fill(0.0);
    let expected = logits_of_one(&network, &state);
    empty_ffn(&mut network, &mut state, 1);
    assert_eq!(logits_of_one(&network, &state), expected);
}

#[test]
fn a_block_that_adds_nothing_leaves_no_node() {
    let (mut network, mut state) = all_kinds();
    network.blocks[0].shortcut_adds_norm = false;
    empty_ffn(&mut network, &mut state, 0);
    let nodes = |state: &StateDict| {
        let model = decode(&export(&network, state).expect("written"));
        let graph = model.graph.expect("a graph");
        let of_block = graph.node.iter().filter(|node| node.name.starts_with("blocks.0"));
        (of_block.count(), graph.initializer.iter().any(|t| t.name.contains("blocks.0")))
    };
    assert_eq!(nodes(&state), (1, true), "the FFN's bias is added");
    state.get_mut("blocks.0.mlp.bias").expect("present").data.fill(0.0);
    assert_eq!(nodes(&state), (0, false));
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
        assert_eq!(*value, proto::ValueInfo::batch_of(&value.name, proto::FLOAT, None, rest));
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
    fn window(size: [usize; 2], shift: [usize; 2]) -> Option<WindowDescription> {
        Some(WindowDescription { size, shift })
    }
    fn merge(after: usize) -> MergeDescription {
        MergeDescription { name: "merge".into(), after }
    }
    fn rope(temperature: f64, places: Places) -> Option<RopeDescription> {
        let (offset, columns_first, half) = (0.0, false, false);
        Some(RopeDescription { places, temperature, offset, columns_first, half })
    }
    fn pool(heads: usize) -> Pool {
        Pool::Attention { heads, hidden: 96, activation: Activation::Gelu, qk_norm: false }
    }
    let cases: [(Change, &[&str]); 32] = [
        (|_, s| drop(s.remove("norm.bias")), &["norm.bias", "none"]),
        (|_, s| drop(s.remove("blocks.0.norm1.weight")), &["blocks.0.norm1.weight"]),
        (|n, _| n.classes = 11, &["head.weight", "[11, 48]", "[10, 48]"]),
        (
            |n, _| n.blocks[2].operation = Operation::BConv { kernel: 5 },
            &["bconv.0.weight", "5, 5"],
        ),
        (|n, _| n.blocks[3].operation = Operation::Shortcut, &["4 more", "blocks.3.attn"]),
        (
            |n, _| n.blocks[2].operation = Operation::BConv { kernel: 2 },
            &["odd kernel", "blocks[2]"],
        ),
        (|n, _| n.blocks[1].heads = 5, &["blocks[1].dim", "heads 5", "48"]),
        (|n, _| n.patch_size = 5, &["image_size", "[32, 32]"]),
        (|n, _| n.patch_size = 0, &["patch_size from 1"]),
        (|n, _| n.epsilon = f64::NAN, &["epsilon"]),
        (|n, _| n.blocks[1].epsilon = 0.0, &["blocks[1].epsilon"]),
        (|n, _| n.blocks[1].map = [4, 16], &["blocks[1]", "[8, 8]", "[4, 16]"]),
        (|n, _| n.blocks[1].name = "blocks.0".into(), &["blocks.0 twice"]),
        (|n, _| n.registers = 2, &["(48, [8, 8], 3)"]),
        (|n, _| n.class_token = false, &["class_token"]),
        (|n, _| n.positions = Positions::Patches, &["pos_embed", "[1, 64, 48]"]),
        (|n, _| n.blocks[3].window = window([9, 4], [0, 0]), &["blocks[3].window", "[9, 4]"]),
        (|n, _| n.blocks[3].window = window([4, 4], [0, 4]), &["blocks[3].window", "[0, 4]"]),
        (|n, _| n.blocks[3].window = window([4, 4], [0, 0]), &["without prefix tokens"]),
        (|n, _| n.merges.push(merge(4)), &["merges in order", "4 blocks"]),
        (|n, _| n.blocks[1].norm_kind = NormKind::Rms, &["2 more", "blocks.1.norm1.bias"]),
        (|n, _| n.blocks[1].ffn = Ffn::GateFirst, &["mlp.fc1.weight", "[144, 48]"]),
        (|n, _| n.blocks[1].ffn = Ffn::Split, &["mlp.fc1_g.weight", "none"]),
        (|n, _| n.blocks[3].attn_norm = true, &["blocks.3.attn.norm.weight", "none"]),
        (|n, _| n.blocks[2].mlp_norm = true, &["blocks.2.mlp.norm.weight", "none"]),
        (|n, _| n.blocks[3].relative_positions = true, &["position_bias_table", "[228, 3]"]),
        (
            |n, s| {
                (n.distilled, n.blocks[3].relative_positions) = (true, true);
                n.blocks.iter_mut().for_each(|block| block.prefix_tokens = 2);
                s.clear();
            },
            &["blocks[3].relative_positions", "prefix_tokens 1"],
        ),
        (
            |n, _| {
                n.blocks[3].rope = rope(100.0, Places::Centred);
                n.blocks[3].heads = 8;
            },
            &["blocks[3].rope", "multiple of 4", "6"],
        ),
        (|n, _| n.blocks[3].rope = rope(0.0, Places::Counted), &["temperature above 0"]),
        (|n, _| n.blocks[3].rope = rope(1.0, Places::Scaled([2, 0])), &["blocks[3].rope.places"]),
        (|n, _| n.pool = pool(5), &["pool.heads", "48", "5"]),
        (|n, _| n.pool = pool(4), &["attn_pool.latent", "[1, 1, 48]"]),
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
