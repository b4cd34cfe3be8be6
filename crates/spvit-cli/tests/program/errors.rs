//! Each kind of bad input: one line that says what to do, and an exit code.

use std::fs;

use crate::{Place, checkout, small};

/// Wrong arguments and configurations.
const USAGE: i32 = 2;
/// Everything else.
const FAILED: i32 = 1;

#[track_caller]
fn says(error: &str, expected: &[&str]) {
    for part in expected {
        assert!(error.contains(part), "'{part}' is not in: {error}");
    }
}

#[test]
fn arguments_that_cannot_be_read() {
    let place = Place::new();
    says(&place.fail("serch", USAGE), &["serch", "search"]);
    says(&place.fail("run --seed many", USAGE), &["many", "--seed"]);
    says(&place.fail("run --sed 3", USAGE), &["--sed"]);
    says(&place.fail("run --resume a --out b", USAGE), &["--resume", "--out"]);
    says(&place.fail("run --device tpu", USAGE), &["tpu", "flex", "cuda"]);
    says(&place.fail("prune", USAGE), &["--out"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_built_in_names_its_feature() {
    says(&Place::new().fail("run --device cuda", USAGE), &["--features cuda"]);
}

#[cfg(not(feature = "mpi"))]
#[test]
fn processes_that_are_not_built_in_name_their_feature() {
    let place = Place::new();
    let mut command = place.command("run --out run");
    let output = command.env("OMPI_COMM_WORLD_SIZE", "2").output().unwrap();
    assert_eq!(output.status.code(), Some(USAGE));
    says(&String::from_utf8_lossy(&output.stderr), &["error: 2 processes", "--features mpi"]);
    assert!(!place.path("run").exists());
}

#[test]
fn settings_that_are_wrong() {
    let place = Place::new();
    says(&place.fail("run --set epochs", USAGE), &["epochs", "key=value"]);
    says(&place.fail("run --set search.lamda=3", USAGE), &["lamda", "lambda"]);
    says(&place.fail("run --set search.lambda=many", USAGE), &["many", "search.lambda"]);
    says(&place.fail("run --set search.budget=0", USAGE), &["search.budget = 0"]);
    says(&place.fail("run --set model.heads=5", USAGE), &["model.dim", "model.heads"]);
    assert!(!place.path("runs").exists(), "a wrong configuration leaves nothing behind");
}

#[test]
fn configurations_that_are_wrong() {
    let place = Place::new();
    says(&place.fail("run --config none.toml", USAGE), &["none.toml"]);
    place.write("a.toml", "[search]\nepochs = \"three\"\n");
    says(&place.fail("run --config a.toml", USAGE), &["a.toml", "line 2", "three"]);
    place.write("a.toml", "[serch]\nepochs = 3\n");
    says(&place.fail("run --config a.toml", USAGE), &["a.toml", "serch"]);
    place.write("a.toml", [0xff, 0xfe, 0x00]);
    says(&place.fail("run --config a.toml", USAGE), &["a.toml"]);
}

#[test]
fn folders_that_hold_no_run_or_one_already() {
    let place = Place::new();
    says(&place.fail("finetune --out none", USAGE), &["none", "no run"]);
    says(&place.fail("run --resume none", USAGE), &["none", "no run"]);
    place.succeed(&format!("pretrain --out run{}", small()));
    let error = place.fail(&format!("pretrain --out run{}", small()), USAGE);
    says(&error, &["run already holds a run", "--resume", "--out"]);
    let error = place.fail("pretrain --resume run --set pretrain.epochs=7", USAGE);
    says(&error, &["pretrain.epochs = 7", "1"]);
    says(&place.fail("evaluate --resume run --seed 5", USAGE), &["seed = 5"]);
    says(&place.fail("prune --out run", FAILED), &["searched.safetensors", "spvit search"]);
    says(&place.fail("finetune --out run", FAILED), &["pruned.safetensors", "spvit prune"]);

    let lock = fs::File::create(place.path("run/.lock")).unwrap();
    lock.lock().unwrap();
    says(&place.fail("evaluate --out run", USAGE), &["in use"]);
    drop(lock);

    place.write("run/config.toml", "seed = ");
    says(&place.fail("evaluate --out run", USAGE), &["config.toml", "line 1"]);
}

#[test]
fn images_that_cannot_be_used() {
    let place = Place::new();
    let small = small();
    let on = |more: &str| format!("run --out run{small} --set {more}");
    says(&place.fail(&on("data.folder=none"), FAILED), &["none", "expected a folder"]);
    fs::create_dir(place.path("empty")).unwrap();
    says(&place.fail(&on("data.folder=empty"), FAILED), &["empty", "expected"]);
    says(&place.fail(&on("model.channels=3"), USAGE), &["model.channels = 3", "have 1"]);
    says(&place.fail(&on("model.classes=9"), USAGE), &["model.classes = 9", "have 10"]);
    says(&place.fail(&on("data.validation=60000"), FAILED), &["validation"]);
    let error =
        place.fail(&format!("pretrain --out run{small} --set pretrain.batch_size=5000"), USAGE);
    says(&error, &["batch_size", "5000"]);

    for entry in fs::read_dir(checkout("data/fashion-mnist-mini")).unwrap() {
        let entry = entry.unwrap();
        let mut content = fs::read(entry.path()).unwrap();
        if entry.file_name() == "train-images-idx3-ubyte.gz" {
            content.truncate(content.len() / 2);
        }
        place.write(&format!("cut/{}", entry.file_name().display()), content);
    }
    let error = place.fail(&on("data.folder=cut"), FAILED);
    says(&error, &["train-images-idx3-ubyte.gz", "damaged"]);
}

#[test]
fn weights_that_cannot_be_used() {
    let place = Place::new();
    let small = small();
    let on = |weights: &str| format!("run --out run{small} --set dense.weights={weights}");
    says(&place.fail(&on("none.safetensors"), FAILED), &["none.safetensors"]);
    place.write("noise.safetensors", [7u8; 4000]);
    says(&place.fail(&on("noise.safetensors"), FAILED), &["noise.safetensors"]);
    let other = checkout("models/vit_micro-fashion-mnist.safetensors");
    says(&place.fail(&on(&other), FAILED), &["vit_micro-fashion-mnist.safetensors"]);
    let mut bundled = fs::read(&other).unwrap();
    bundled.truncate(bundled.len() - 100);
    place.write("cut.safetensors", bundled);
    says(&place.fail(&on("cut.safetensors"), FAILED), &["cut.safetensors"]);
}

#[test]
fn budgets_that_cannot_be_met() {
    let place = Place::new();
    let error = place.fail(&format!("run --out run{} --set search.budget=1000", small()), USAGE);
    says(&error, &["1000 FLOPs cannot be met", "needs"]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let place = Place::new();
    place.write("file", "in the way");
    says(&place.fail(&format!("pretrain --out file/run{}", small()), FAILED), &["file/run"]);
}
