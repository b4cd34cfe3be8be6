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

/// What other programs check is in tests/interop; here is what the options change.
#[test]
fn onnx_comes_in_the_form_that_is_asked_for() {
    let place = Place::new();
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    let size = |options: &str| {
        place.succeed(&format!("convert {model} out.onnx {options}"));
        fs::read(place.path("out.onnx")).unwrap()
    };
    let whole = size("");
    let half = size("--half --batch 1 --fuse-preprocess");
    let share = half.len() as f64 / whole.len() as f64;
    assert!((0.5..0.6).contains(&share), "{share}");
    let holds =
        |file: &[u8], text: &str| file.windows(text.len()).any(|own| own == text.as_bytes());
    for text in ["\"class 9\"", "labels", "mean", "std"] {
        assert!(holds(&whole, text) && holds(&half, text), "{text}");
    }
    assert!(holds(&half, "images.normal") && !holds(&whole, "images.normal"));

    let error = place.fail(&format!("convert {model} own.safetensors --half"), 2);
    assert!(error.contains("--half"), "{error}");
    let bare = checkout("crates/spvit-interchange/tests/data/timm_layer_scale.pth");
    let error = place.fail(&format!("convert {bare} b.onnx --heads 2 --fuse-preprocess"), 2);
    assert!(error.contains("--fuse-preprocess") && error.contains("mean, std"), "{error}");
    assert!(!place.path("b.onnx").exists());
}

#[test]
fn a_folder_for_the_hub_says_how_images_come() {
    let place = Place::new();
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    place.succeed(&format!("convert {model} fashion --form hub"));
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(place.path(name)).unwrap()).unwrap()
    };
    let config = json("fashion/config.json");
    assert_eq!(config["id2label"]["9"], "class 9");
    assert_eq!(config["label2id"]["class 9"], 9);
    assert_eq!((&config["num_channels"], &config["image_size"]), (&1.into(), &28.into()));
    let images = json("fashion/preprocessor_config.json");
    assert_eq!(
        (&images["do_convert_grayscale"], &images["size"]["shortest_edge"]),
        (&true.into(), &28.into())
    );
    assert_eq!(images["image_mean"].as_array().unwrap().len(), 1);
    let card = fs::read_to_string(place.path("fashion/README.md")).unwrap();
    for text in ["16.56 M FLOPs", "| 6 | msa | 4 | 256 |", "class 9", "pixel_values"] {
        assert!(card.contains(text), "{text} in {card}");
    }
    let length = |name: &str| fs::metadata(place.path(name)).unwrap().len();
    assert!(length("fashion/onnx/model_fp16.onnx") * 3 < length("fashion/onnx/model.onnx") * 2);

    let error = place.fail(&format!("convert {model} fashion --form hub"), 1);
    assert!(error.contains("fashion") && error.contains("there already"), "{error}");
    let bare = checkout("crates/spvit-interchange/tests/data/timm_layer_scale.pth");
    let error = place.fail(&format!("convert {bare} bare --heads 2 --form hub"), 1);
    assert!(error.contains("mean, std") && !place.path("bare").exists(), "{error}");
    let left: Vec<_> =
        fs::read_dir(place.path("")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("part")), "{left:?}");
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
