//! What cannot become a model is refused with every tensor named, and with what to do.

use spvit_formats::{HostTensor, StateDict, write_safetensors};
use spvit_interchange::{ReadOptions, read, read_dense};
use spvit_layers::{ModelConfig, VitConfig};

use crate::support::{B, data, golden, small, small_vit, tensors, two_heads};

/// The error of loading changed weights of Hugging Face's.
fn changed(change: impl FnOnce(&mut StateDict)) -> String {
    let mut state = tensors(&data("hugging_face.safetensors"));
    change(&mut state);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.safetensors");
    write_safetensors(&path, &state, &Default::default()).unwrap();
    let dense = read_dense::<B>(&path, &small(), 0, &Default::default()).unwrap_err().to_string();
    let bare = read::<B>(&path, &two_heads(), 0, &Default::default()).unwrap_err().to_string();
    for error in [&dense, &bare] {
        assert!(error.contains("changed.safetensors"), "{error}");
    }
    dense
}

const LAYER: &str = "vit.encoder.layer.1";

#[track_caller]
fn assert_names(error: &str, names: &[String]) {
    for name in names {
        assert!(error.contains(name), "no {name} in: {error}");
    }
}

#[test]
fn missing_unexpected_and_misshapen_tensors_have_their_names_in_the_file() {
    let fc1 = format!("{LAYER}.intermediate.dense.bias");
    let fc2 = format!("{LAYER}.output.dense.bias");
    let error = changed(|state| {
        state.remove(&fc1);
        let short = HostTensor::new([3], vec![0.0; 3]).unwrap();
        state.insert(fc2.clone(), short.clone());
        state.insert("vit.extra.weight".into(), short);
    });
    let shape = format!("{fc2} has shape [3] where the model has [32]");
    assert_names(&error, &[format!("missing {fc1}"), "unexpected vit.extra.weight".into(), shape]);
}

#[test]
fn a_missing_part_of_attention_is_named_and_the_others_are_not() {
    let key = format!("{LAYER}.attention.attention.key.weight");
    let error = changed(|state| {
        state.remove(&key);
    });
    assert_names(&error, &[format!("missing {key}")]);
    assert!(!error.contains("query") && !error.contains("unexpected"), "{error}");
}

#[test]
fn a_misshapen_part_of_attention_is_named() {
    let key = format!("{LAYER}.attention.attention.key.bias");
    let error = changed(|state| {
        state.insert(key.clone(), HostTensor::new([5], vec![0.0; 5]).unwrap());
    });
    assert_names(&error, &[format!("{key} has shape [5] where the model has [32]")]);
    assert!(!error.contains("missing"), "{error}");
}

#[test]
fn another_shape_says_which_settings_the_file_needs() {
    let config = ModelConfig::preset("deit_tiny").unwrap();
    let path = data("timm_without_qkv_bias.pth");
    let error = read_dense::<B>(&path, &config, 0, &Default::default()).unwrap_err().to_string();
    let settings =
        ["model.patch_size = 8", "model.dim = 32", "model.depth = 2", "model.hidden = 64"];
    assert_names(&error, &settings.map(String::from));
    assert_names(&error, &["missing blocks.2.norm1.weight".into()]);
}

#[test]
fn a_model_of_another_form_than_the_configuration_is_refused() {
    for (file, setting) in [
        ("timm_distilled.pth", "model.distilled = true"),
        ("timm_layer_scale.pth", "model.layer_scale = true"),
    ] {
        let error = read_dense::<B>(&data(file), &small(), 0, &Default::default());
        assert_names(&error.unwrap_err().to_string(), &[setting.into(), file.into()]);
        read::<B>(&data(file), &two_heads(), 0, &Default::default()).unwrap();
    }
}

#[test]
fn layers_that_there_are_not_here_are_named() {
    let refusal = |change: &dyn Fn(&mut StateDict)| {
        let mut state = tensors(&data("hugging_face.safetensors"));
        change(&mut state);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changed.safetensors");
        write_safetensors(&path, &state, &Default::default()).unwrap();
        read::<B>(&path, &two_heads(), 0, &Default::default()).unwrap_err().to_string()
    };
    let error = refusal(&|state| {
        let table = HostTensor::new([12, 2], vec![0.0; 24]).unwrap();
        let name = "relative_position_bias.relative_position_bias_table";
        state.insert(format!("vit.encoder.{name}"), table);
    });
    assert_names(&error, &["relative position bias shared by all blocks, which".into()]);
    // A table in one block of two.
    let error = refusal(&|state| {
        let table = HostTensor::new([12, 2], vec![0.0; 24]).unwrap();
        let name = "attention.attention.relative_position_bias.relative_position_bias_table";
        state.insert(format!("{LAYER}.{name}"), table);
    });
    assert_names(&error, &["missing".into(), "relative_position_bias_table".into()]);
    let error = refusal(&|state| {
        for index in [0, 1] {
            state.remove(&format!("vit.encoder.layer.{index}.layernorm_before.bias"));
        }
    });
    assert_names(&error, &["norms with a shift and norms without one".into()]);
    let error = refusal(&|state| {
        state.remove("vit.layernorm.weight");
        state.remove("vit.layernorm.bias");
    });
    assert_names(&error, &["no norm after the last block".into()]);
}

#[test]
fn search_results_swins_and_other_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |name: &str| {
        let path = folder.path().join("file.safetensors");
        let one = HostTensor::new([1], vec![1.0]).unwrap();
        let state = StateDict::from([(name.to_string(), one)]);
        write_safetensors(&path, &state, &Default::default()).unwrap();
        read::<B>(&path, &ReadOptions::default(), 0, &Default::default()).unwrap_err().to_string()
    };
    let result = refusal("blocks.0.mlp.assigned_indicator_index");
    assert!(result.contains("search result"), "{result}");
    assert!(refusal("layers.0.blocks.0.norm1.weight").contains("patch_embed.proj.weight"));
    assert!(refusal("patch_embed.backbone.conv1.weight").contains("convolutional stem"));
    assert!(refusal("blocks.0.mlp.ffn_thresholds").contains("spvit prune"));
    assert!(refusal("fc.weight").contains("patch_embed.proj.weight"));
}

#[test]
fn an_architecture_must_be_that_of_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("architecture.json");
    let config = VitConfig {
        image_size: [32, 32],
        patch_size: 4,
        dim: 48,
        depth: 4,
        heads: 3,
        hidden: 192,
        classes: 10,
        ..small_vit()
    };
    let dense = spvit_search::Architecture::dense(config.into(), spvit_search::CostModel::Paper);
    std::fs::write(&path, dense.to_json().unwrap()).unwrap();
    let options = ReadOptions { architecture: Some(path), ..ReadOptions::default() };
    let weights = golden("allkinds.weights.safetensors");
    let error = read::<B>(&weights, &options, 0, &Default::default()).unwrap_err().to_string();
    let expected = "blocks[0] has msa and 192 hidden dimensions, but the weights shortcut and 118";
    assert!(error.contains("architecture.json") && error.contains(expected), "{error}");
}
