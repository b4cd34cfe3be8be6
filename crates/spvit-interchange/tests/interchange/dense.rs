//! Dense weights of timm and Hugging Face become the same function here.

use spvit_interchange::{ReadOptions, describe, read_dense, weights};
use spvit_layers::{ModelConfig, VitConfig, state};

use crate::support::{
    B, data, difference, imported, noted, off_by, small, small_vit, tensors, two_heads,
};

#[test]
fn hugging_face_files_and_modules_give_equal_logits() {
    let io = data("hugging_face.io.safetensors");
    let mut vit = small_vit();
    vit.style.epsilon = 1e-12;
    let config = ModelConfig::from(vit);
    for name in ["hugging_face.safetensors", "hugging_face_modules.pth"] {
        let bare = imported(&data(name), &two_heads());
        assert_eq!(bare.architecture.model, config, "{name}");
        assert!(noted(&bare.notes, "joined to attn.qkv in 2 blocks"), "{:?}", bare.notes);
        let off = off_by(&bare.model, &io, "logits");
        assert!(off < 1e-5, "{name}: off by {off}");

        let dense = read_dense::<B>(&data(name), &config, 0, &Default::default()).unwrap();
        assert!(!dense.new_head);
        let off = off_by(&dense.model, &io, "logits");
        assert!(off < 1e-5, "{name}: off by {off}");
    }
}

#[test]
fn another_epsilon_than_usual_is_said() {
    let path = data("hugging_face.safetensors");
    let dense = read_dense::<B>(&path, &small(), 0, &Default::default()).unwrap();
    assert!(noted(&dense.notes, "usually have 1e-12"), "{:?}", dense.notes);
}

#[test]
fn maps_without_a_bias_get_zeros() {
    let path = data("timm_without_qkv_bias.pth");
    let dense = read_dense::<B>(&path, &small(), 0, &Default::default()).unwrap();
    assert!(noted(&dense.notes, "2 maps"), "{:?}", dense.notes);
    let off = off_by(&dense.model, &data("timm_without_qkv_bias.io.safetensors"), "logits");
    assert!(off < 1e-5, "off by {off}");
}

#[test]
fn one_channel_and_an_entry_by_name() {
    let options = ReadOptions { entry: Some("model_ema".into()), ..two_heads() };
    let bare = imported(&data("timm_gray.pth"), &options);
    assert_eq!(bare.architecture.model.channels(), 1);
    assert!(noted(&bare.notes, "under 'model_ema'"), "{:?}", bare.notes);
    let off = off_by(&bare.model, &data("timm_gray.io.safetensors"), "logits");
    assert!(off < 1e-5, "off by {off}");
}

#[test]
fn other_classes_mean_a_new_head_and_nothing_else() {
    let path = data("timm_without_qkv_bias.pth");
    let config = ModelConfig::from(VitConfig { classes: 7, ..small_vit() });
    let load = |seed| read_dense::<B>(&path, &config, seed, &Default::default()).unwrap();
    let dense = load(1);
    assert!(dense.new_head);
    assert!(noted(&dense.notes, "5 classes and the model 7"), "{:?}", dense.notes);
    let mut found = weights::to_host(state::export(&dense.model));
    let mut again = weights::to_host(state::export(&load(1).model));
    assert!(found == again, "the seed decides");
    for part in ["weight", "bias"] {
        let name = format!("head.{part}");
        assert_eq!(found.remove(&name).unwrap().shape[0], 7);
        again.remove(&name);
    }
    for (name, tensor) in tensors(&path) {
        if !name.starts_with("head.") {
            assert!(found[&name] == tensor, "{name}");
        }
    }
}

#[test]
fn a_file_without_a_head_gets_one_of_the_classes_asked_for() {
    let path = data("hugging_face_headless.safetensors");
    let dense = read_dense::<B>(&path, &small(), 0, &Default::default()).unwrap();
    assert!(dense.new_head);
    assert!(noted(&dense.notes, "pooler"), "{:?}", dense.notes);

    let error = describe(&path, &two_heads()).unwrap_err().to_string();
    assert!(error.contains("give the number of classes"), "{error}");
    let options = ReadOptions { classes: Some(3), ..two_heads() };
    assert_eq!(imported(&path, &options).architecture.model.classes(), 3);
}

#[test]
fn position_embeddings_are_resized_as_timm_does() {
    let cases = tensors(&data("positions.safetensors"));
    let small = VitConfig { dim: 6, heads: 2, depth: 1, hidden: 4, ..small_vit() };
    let model = |map: [usize; 2]| {
        ModelConfig::from(VitConfig { image_size: map.map(|n| 8 * n), ..small.clone() })
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let config = model([4, 4]);
    let fresh = spvit_layers::Vit::<B>::new(
        &config,
        &config.dense_blocks(),
        &mut spvit_layers::Init::new(0, &Default::default()),
    );
    let mut own = weights::to_host(state::export(&fresh));
    own.insert("pos_embed".into(), cases["4x4"].clone());
    spvit_formats::write_safetensors(&path, &own, &Default::default()).unwrap();
    for (name, expected) in &cases {
        let (height, width) = name.split_once('x').unwrap();
        let map = [height.parse().unwrap(), width.parse().unwrap()];
        let dense = read_dense::<B>(&path, &model(map), 0, &Default::default()).unwrap();
        let resized = weights::to_host(state::export(&dense.model)).remove("pos_embed").unwrap();
        assert_eq!(resized.shape, expected.shape, "{name}");
        let off = difference(&resized.data, &expected.data);
        // timm sums in float32 and we in float64: a few units in the last place of values up to 4.
        assert!(off < 4e-6, "{name}: off by {off}");
        assert_eq!(resized.data[..6], cases["4x4"].data[..6], "{name}: class token");
        assert_eq!(noted(&dense.notes, "resized from 4×4"), name != "4x4", "{name}");
    }
}

#[test]
fn heads_are_taken_from_their_usual_width_or_asked_for() {
    let error = describe(&data("hugging_face.safetensors"), &ReadOptions::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("dim is 32") && error.contains("give the number of heads"), "{error}");
}
