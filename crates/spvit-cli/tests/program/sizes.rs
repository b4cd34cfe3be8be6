//! Models whose sizes cannot be, in every file that may claim them.
#![cfg(unix)]

use std::fs;

use serde_json::{Value, json};

use crate::{Place, checkout, hostile::shell, shared::refused};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const MODEL: &str = "models/vit_micro-fashion-mnist.safetensors";

/// Numbers that overflow when they are multiplied, and one that only takes too much.
const HUGE: [u64; 3] = [u64::MAX, i64::MAX as u64, 1 << 40];

/// No reader gets more than this; what cannot be does not need it.
const MEMORY: &str = "ulimit -v 4000000; ";

fn architecture(more: &[(&str, Value)]) -> Value {
    let mut model = json!({"image_size": [8, 8], "patch_size": 4, "channels": 1, "classes": 2,
        "dim": 8, "depth": 1, "heads": 2, "hidden": 4});
    for (key, value) in more {
        model[*key] = value.clone();
    }
    json!({"model": model, "cost_model": "paper", "blocks": [{"operation": "msa", "kept": [0, 3]}]})
}

fn swin(more: &[(&str, Value)]) -> Value {
    let mut model = json!({"family": "swin", "image_size": [32, 32], "patch_size": 4, "channels": 1,
        "classes": 2, "dim": 8, "depths": [1, 1], "heads": [2, 2], "window": 4});
    for (key, value) in more {
        model[*key] = value.clone();
    }
    let block = json!({"operation": "msa", "kept": [0, 3]});
    json!({"model": model, "cost_model": "macs", "blocks": [block, block]})
}

#[test]
fn sizes_in_a_configuration_are_told() {
    let place = Place::new();
    for setting in [
        "model.dim=1000000",
        "model.hidden=100000000000",
        "model.depth=4000000000",
        "model.classes=9223372036854775807",
        "model.kernels=[1,1000001]",
        "model.registers=9223372036854775807",
        "model.image_size=[4000000000,4000000000]",
    ] {
        let error = place.fail(&format!("run --set {setting}"), USAGE);
        assert!(error.contains("model"), "{error}");
    }
}

#[test]
fn sizes_in_an_architecture_are_told() {
    let place = Place::new();
    let fields =
        ["patch_size", "channels", "classes", "dim", "depth", "heads", "hidden", "registers"];
    let mut all = Vec::new();
    for huge in HUGE {
        all.extend(fields.map(|field| architecture(&[(field, json!(huge))])));
        all.extend([
            architecture(&[("image_size", json!([huge / 4 * 4, huge / 4 * 4]))]),
            architecture(&[("image_size", json!([4, huge / 4 * 4]))]),
            architecture(&[("dim", json!(huge)), ("heads", json!(huge))]),
            architecture(&[("dim", json!(1)), ("heads", json!(1)), ("depth", json!(huge))]),
            architecture(&[("kernels", json!([1, huge | 1]))]),
            architecture(&[("pool", json!("map")), ("pool_hidden", json!(huge))]),
            architecture(&[("pool", json!("map")), ("pool_heads", json!(huge))]),
            swin(&[("depths", json!([huge, huge]))]),
            swin(&[("dim", json!(huge))]),
            swin(&[("heads", json!([huge, huge]))]),
            swin(&[("mlp_ratio", json!(1e300))]),
            swin(&[("depths", json!(vec![1; 90])), ("heads", json!(vec![1; 90]))]),
        ]);
    }
    // In one call of the shell each; a wide window is cut to the map.
    for (number, architecture) in all.iter().enumerate() {
        place.write("a.json", architecture.to_string());
        let line = format!("{MEMORY}$SPVIT profile a.json");
        let said = shell(&place, &line);
        assert!(!said.status.success(), "{number}: {architecture}");
        refused(&place, &line, &["a.json"]);
    }
    let model = checkout(MODEL);
    let line = format!("{MEMORY}$SPVIT convert {model} a.onnx --architecture a.json");
    refused(&place, &line, &["a.json"]);
    place.write("a.json", swin(&[("window", json!(u64::MAX))]).to_string());
    place.succeed("profile a.json");
}

/// Every architecture that can be can be measured.
#[test]
fn odd_architectures_can_be_measured() {
    let place = Place::new();
    let block = |operation: &str, kept: usize| json!({"operation": operation, "kept": (0..kept).collect::<Vec<_>>()});
    let operations = ["shortcut", "bconv1x1", "bconv3x3", "bconv5x5", "bconv7x7", "msa"];
    for (name, image, kept) in
        [("whole", [8, 12], 4), ("empty", [8, 8], 0), ("one", [4, 4], 1), ("none", [4, 4], 0)]
    {
        let kernels = &[1, 3, 5, 7][..image[1] / 4 + 1];
        let more = [
            ("image_size", json!(image)),
            ("depth", json!(operations.len())),
            // The largest that a map of one patch takes is 3, and 5 that of a small one.
            ("kernels", json!(kernels)),
        ];
        let mut odd = architecture(&more);
        let listed = |name: &&&str| {
            name.strip_prefix("bconv")
                .is_none_or(|k| kernels.iter().any(|own| k == format!("{own}x{own}")))
        };
        let blocks = operations.iter().filter(listed);
        odd["blocks"] = blocks.map(|operation| block(operation, kept)).collect();
        odd["model"]["depth"] = json!(odd["blocks"].as_array().map(Vec::len));
        place.write(&format!("{name}.json"), odd.to_string());
    }
    let mut nothing = architecture(&[("depth", json!(2))]);
    nothing["blocks"] = json!([block("shortcut", 0), block("shortcut", 0)]);
    place.write("nothing.json", nothing.to_string());
    let average = [("pool", json!("average")), ("class_token", json!(false))];
    place.write("average.json", architecture(&average).to_string());
    let map = [("pool", json!("map")), ("registers", json!(3)), ("qk_norm", json!(true))];
    place.write("map.json", architecture(&map).to_string());
    let mut windows = swin(&[("window", json!(3)), ("image_size", json!([20, 36]))]);
    windows["blocks"] = json!([block("bconv3x3", 0), block("shortcut", 1)]);
    place.write("swin.json", windows.to_string());
    let names = ["whole", "empty", "one", "none", "nothing", "average", "map", "swin"];
    for name in names {
        for device in ["flex", "ndarray"] {
            let line = format!("profile {name}.json --measure --device {device} --svg {name}.svg");
            let said = place.call(&line);
            let errors = String::from_utf8_lossy(&said.stderr);
            if errors.contains("built in") {
                continue;
            }
            assert!(said.status.success(), "{line}: {errors}");
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(text.contains("one image") && !text.contains("NaN"), "{line}: {text}");
        }
    }
}

/// A safetensors file with this header and so many bytes after it.
fn safetensors(header: &Value, bytes: usize) -> Vec<u8> {
    let header = header.to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + bytes, 0);
    file
}

#[test]
fn sizes_in_weights_are_told() {
    let place = Place::new();
    let lines = [
        "profile a.safetensors",
        "convert a.safetensors b.onnx",
        "convert a.safetensors b.json --image-size 4x4 --heads 1 --classes 2",
    ];
    let refuse = |place: &Place| {
        for line in lines {
            refused(place, &format!("{MEMORY}$SPVIT {line}"), &["a.safetensors"]);
        }
    };
    // Claims that are larger than the file, or wrap around to its size; empty tensors that claim
    // any number of rows.
    for shape in [
        json!([1u64 << 40, 4]),
        json!([1u64 << 62, 16]),
        json!([u64::MAX, u64::MAX]),
        json!([1u64 << 50, 0]),
        json!([u64::MAX, 0]),
    ] {
        let zero = shape[1] == json!(0);
        let end = if zero { 0 } else { 16 };
        let tensor = json!({"dtype": "F32", "shape": shape, "data_offsets": [0, end]});
        for name in ["blocks.0.mlp.fc1.weight", "blocks.0.attn.q.weight", "patch_embed.proj.weight"]
        {
            place.write("a.safetensors", safetensors(&json!({name: tensor}), end));
            refuse(&place);
        }
    }
    // Too little for what the file says of itself.
    let tensor = json!({"dtype": "F32", "shape": [4], "data_offsets": [0, 16]});
    for more in [("dim", json!(1 << 30)), ("depth", json!(1 << 30)), ("classes", json!(1u64 << 33))]
    {
        let own = architecture(&[more, ("heads", json!(1))]).to_string();
        let header = json!({"__metadata__": {"spvit.architecture": own}, "norm.weight": tensor});
        place.write("a.safetensors", safetensors(&header, 16));
        refuse(&place);
    }
}

/// A whole model of which an empty tensor, or what is told of it, claims more.
#[test]
fn sizes_beside_weights_are_told() {
    let place = Place::new();
    let model = checkout(MODEL);
    place.succeed(&format!("convert {model} m.safetensors --form published"));
    // Without its own architecture: as another program's.
    let whole = fs::read(place.path("m.safetensors")).unwrap();
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&whole[8..8 + length]).unwrap();
    header.as_object_mut().unwrap().remove("__metadata__");
    let with = |header: &Value| {
        let mut file = safetensors(header, 0);
        file.extend(&whole[8 + length..]);
        file
    };
    fs::create_dir(place.path("m")).unwrap();
    place.write("m/model.safetensors", with(&header));
    let config = |more: &[(&str, Value)]| {
        let mut config = json!({"model_type": "vit", "hidden_size": 64, "num_attention_heads": 4,
            "image_size": 28, "hidden_act": "gelu", "layer_norm_eps": 1e-6});
        for (key, value) in more {
            config[*key] = value.clone();
        }
        config.to_string()
    };
    place.write("m/config.json", config(&[]));
    place.succeed("convert m a.json");
    // Few images: where a map is not believed, the search is that of the real model.
    let few = "--set data.train_limit=64 --set search.start_images=16 --set search.trial_steps=1 --set \
               data.test_limit=20 --set data.validation=20 --set run.timing_seconds=0";
    let options = format!(" --set data.folder={} {few} ", checkout("data/fashion-mnist-mini"));
    for huge in HUGE {
        for (key, value) in [
            ("image_size", json!(huge)),
            ("image_size", json!([huge, huge])),
            ("image_size", json!([huge - huge % 4, 4])),
            ("num_attention_heads", json!(huge)),
            ("hidden_size", json!(huge)),
        ] {
            place.write("m/config.json", config(&[(key, value.clone())]));
            for line in [
                "profile m".to_string(),
                "convert m b.onnx".into(),
                format!("evaluate --out run{options} --set dense.weights=m/model.safetensors"),
                format!("search --out run{options} --set dense.weights=m/model.safetensors"),
            ] {
                let output = shell(&place, &format!("{MEMORY}timeout 20 $SPVIT {line}"));
                let errors = String::from_utf8_lossy(&output.stderr);
                // A map that the position embedding contradicts is not believed.
                let code = output.status.code();
                let ended = matches!(code, Some(0..=2)) && !errors.contains("internal error");
                assert!(ended, "{key} {value}: {line}: {code:?} {errors}");
            }
        }
    }
    place.write("m/config.json", config(&[]));
    for line in [
        "convert m b.onnx --image-size 4000000000x4000000000",
        "convert m b.onnx --classes 9223372036854775807",
        "profile m --classes 100000000000",
        "profile m --image-size 40000x40000",
    ] {
        refused(&place, &format!("{MEMORY}$SPVIT {line}"), &["m/model.safetensors"]);
    }
    place.fail("convert m b.onnx --image-size 0x0", USAGE);
    place.fail("convert m b.onnx --heads 7", FAILED);
}

#[test]
fn sizes_in_a_run_folder_are_told() {
    let (place, options) = crate::hostile::begun();
    place.succeed(&format!("search --out run{options}"));
    place.succeed("prune --resume run");
    let path = place.path("run/architecture.json");
    let own: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for (key, value) in [("dim", 1u64 << 40), ("depth", 1 << 30), ("hidden", u64::MAX)] {
        let mut huge = own.clone();
        huge["model"][key] = json!(value);
        fs::write(&path, huge.to_string()).unwrap();
        for line in ["evaluate --out run", "finetune --resume run", "prune --resume run"] {
            refused(&place, &format!("{MEMORY}$SPVIT {line}"), &["architecture.json"]);
        }
    }
}
