//! `spvit convert`.

use std::fs;

use crate::{Place, checkout};

#[test]
fn a_model_goes_through_every_form() {
    let place = Place::new();
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    place.succeed(&format!("convert {model} own.safetensors"));
    place.succeed("convert own.safetensors published.safetensors --form published");
    place.succeed("convert published.safetensors back.safetensors");
    let [own, back] =
        ["own", "back"].map(|name| fs::read(place.path(&format!("{name}.safetensors"))).unwrap());
    assert!(own == back, "the published form holds the same weights");

    place.succeed("convert own.safetensors model.onnx");
    assert!(fs::metadata(place.path("model.onnx")).unwrap().len() > 1_000_000);
    place.succeed("convert own.safetensors architecture.json");
    let text = place.succeed("profile architecture.json");
    assert!(text.contains("16.56 M"), "{text}");

    let output =
        place.call("convert own.safetensors wide.safetensors --image-size 28x32 --classes 3");
    assert!(output.status.success());
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(notes.contains("position") && notes.contains("head"), "{notes}");
}

#[test]
fn files_that_cannot_be_converted_are_refused() {
    let place = Place::new();
    let error = place.fail("convert a.safetensors b.bin", 2);
    assert!(error.contains("b.bin") && error.contains("--form"), "{error}");
    let error = place.fail("convert a.safetensors b.onnx", 1);
    assert!(error.contains("a.safetensors"), "{error}");
    let error = place.fail("convert a.safetensors b.onnx --image-size big", 2);
    assert!(error.contains("224x160"), "{error}");
    place.write("a.pth", b"not a checkpoint");
    let error = place.fail("convert a.pth b.onnx", 1);
    assert!(error.contains("a.pth"), "{error}");
    assert!(!place.path("b.onnx").exists(), "nothing half written");
}

#[test]
fn assumptions_are_one_line_that_options_and_a_configuration_make_needless() {
    let place = Place::new();
    let file = checkout("crates/spvit-interchange/tests/data/timm_layer_scale.pth");
    let said = |arguments: &str| {
        let output = place.call(&format!("convert {file} out.safetensors {arguments}"));
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), text)
    };
    let (ok, text) = said("");
    assert!(!ok && text.contains("give the number of heads"), "{text}");
    let (ok, text) = said("--heads 2");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("assumed")).collect();
    assert!(ok && lines.len() == 1 && lines[0].contains("class token"), "{text}");
    let (ok, text) = said("--heads 2 --pool attention");
    assert!(!ok && text.contains("token, average or max"), "{text}");
    let (ok, text) = said("--timm vit_base_patch16_224");
    assert!(!ok && text.contains("dim 768") && text.contains("dim 32"), "{text}");

    place.write("model/model.pth", fs::read(&file).unwrap());
    place.write("model/pytorch_model.bin", fs::read(&file).unwrap());
    let config = r#"{"architecture": "deit3_small_patch16_224", "model_args":
        {"embed_dim": 32, "num_heads": 2, "img_size": 16}}"#;
    place.write("model/config.json", config.as_bytes());
    for input in ["model/model.pth", "model"] {
        let output = place.call(&format!("convert {input} out.safetensors"));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !text.contains("assumed"), "{text}");
    }
    place.succeed("convert model out.onnx");
    assert!(place.succeed("profile model").contains("msa"));
    // What cannot be read is not passed over: the images would come to the model otherwise.
    place.write("model/preprocessor_config.json", "{");
    let error = place.fail("profile model", 1);
    assert!(error.contains("preprocessor_config.json"), "{error}");
}
