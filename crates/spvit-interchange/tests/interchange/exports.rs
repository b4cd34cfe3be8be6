//! What is written here is read here again, whole and unchanged.

use spvit_interchange::{ReadOptions, Target, describe, network, weights, write};
use spvit_layers::{Family, FfnKind, state};

use crate::support::{B, data, golden, imported, two_heads};

#[test]
fn every_layout_is_read_back_as_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let shortcuts = ReadOptions { shortcut_adds_norm: true, ..ReadOptions::default() };
    for (name, source, options) in [
        ("dense", data("hugging_face.safetensors"), two_heads()),
        ("compact", golden("allkinds.weights.safetensors"), shortcuts),
    ] {
        let read = imported(&source, &options);
        for target in [Target::Safetensors, Target::Published] {
            let path = folder.path().join(format!("{name}.safetensors"));
            write(&path, target, &read.model, &read.architecture, &read.input).unwrap();
            // The metadata says what the tensors do not: heads, ε, what shortcuts add.
            let again = imported(&path, &ReadOptions::default());
            assert_eq!(again.architecture, read.architecture, "{name} {target:?}");
            let [a, b] = [&again.model, &read.model].map(|m| weights::to_host(state::export(m)));
            assert!(a == b, "{name} {target:?}");
            let described = describe(&path, &ReadOptions::default()).unwrap().architecture;
            assert_eq!(described, read.architecture);
        }
        let path = folder.path().join(format!("{name}.json"));
        write(&path, Target::Architecture, &read.model, &read.architecture, &read.input).unwrap();
        assert_eq!(
            spvit_interchange::weights::read_architecture(&path).unwrap(),
            read.architecture
        );
        let path = folder.path().join(format!("{name}.onnx"));
        write(&path, Target::Onnx, &read.model, &read.architecture, &read.input).unwrap();
        assert!(path.metadata().unwrap().len() > 50_000);
        let network = network(&read.architecture);
        assert_eq!(network.blocks.len(), read.architecture.model.depth());
        assert_eq!(
            network.blocks[0].shortcut_adds_norm,
            read.architecture.model.blocks()[0].style.shortcut_adds_norm
        );
    }
}

#[test]
fn a_run_reads_an_exported_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let read = imported(&golden("allkinds.optimized.safetensors"), &ReadOptions::default());
    write(&path, Target::Safetensors, &read.model, &read.architecture, &read.input).unwrap();
    let (model, architecture) = weights::read_model::<B>(&path, &Default::default()).unwrap();
    assert_eq!(architecture, read.architecture);
    assert!(state::export(&model) == state::export(&read.model));
}

#[test]
fn onnx_that_is_not_of_the_model_is_refused_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let read = imported(&data("timm_layer_scale.pth"), &two_heads());
    let mut gated = read.architecture.clone();
    if let Family::Vit(vit) = &mut gated.model.family {
        vit.style.ffn = FfnKind::Split;
    }
    let error = write(&path, Target::Onnx, &read.model, &gated, &read.input).unwrap_err();
    assert!(error.to_string().contains("blocks.0.mlp.fc1_g.weight"), "{error}");
    assert!(!path.exists());
    write(&path, Target::Onnx, &read.model, &read.architecture, &read.input).unwrap();
    // Zeros stand in for biases that are not there.
    let read = imported(&data("timm_without_qkv_bias.pth"), &two_heads());
    write(&path, Target::Onnx, &read.model, &read.architecture, &read.input).unwrap();
}
