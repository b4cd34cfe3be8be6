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
