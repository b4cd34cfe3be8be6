//! Runs that are killed, damaged, edited or mixed up.
#![cfg(unix)]

use std::{
    fs,
    process::{Command, Output},
};

use crate::{Place, checkout, small};

const USAGE: i32 = 2;
const FAILED: i32 = 1;

/// A place with a dense model and options of a run from it that checkpoints after every step.
pub fn begun() -> (Place, String) {
    let place = Place::new();
    place.succeed(&format!("pretrain --out dense{}", small()));
    let options = small()
        + " --set dense.weights=dense/dense.safetensors --set run.checkpoint_seconds=0 --set \
           search.epochs=2";
    (place, options)
}

/// Puts the program and images into the place, for another user, who need not see the checkout; the setting
/// that names the images. None where `own` makes nobody another user.
pub fn within_reach(place: &Place, own: &str) -> Option<&'static str> {
    let images = checkout("data/fashion-mnist-mini");
    let copy = format!("cp $SPVIT spvit && cp -r {images} images && chmod -R a+rX spvit images");
    if shell(place, &format!("{copy} && {own} ./spvit --version")).status.success() {
        return Some(" --set data.folder=images");
    }
    println!("skipped: this user cannot become another, or has no setpriv");
    None
}

/// Runs a line of shell in which `$SPVIT` is the program.
pub fn shell(place: &Place, line: &str) -> Output {
    let mut command = Command::new("bash");
    command.current_dir(place.path("")).env("SPVIT", env!("CARGO_BIN_EXE_spvit"));
    // Cargo's paths of libraries cost calls and files that a person's program does not need.
    command
        .env_remove("RUST_BACKTRACE")
        .env_remove("LD_LIBRARY_PATH")
        .args(["-c", line])
        .output()
        .unwrap()
}

/// Calls that give a new file its name, and that make best weights a result.
const NEW: &str = "renameat,renameat2";
const PROMOTION: &str = "rename";

/// Ends a run with a kill before the n-th of some calls: whether it was met. `None` where there is no strace
/// to do it.
pub fn killed(place: &Place, line: &str, calls: &str, rename: usize) -> Option<bool> {
    let line = format!(
        "strace -f -qq -o /dev/null -e trace={calls} -e inject={calls}:signal=KILL:when={rename} \
         $SPVIT {line}"
    );
    let output = shell(place, &line);
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("strace") {
        println!("skipped: {errors}");
        return None;
    }
    Some(!output.status.success())
}

pub fn same(place: &Place, one: &str, other: &str) {
    for name in
        ["architecture.json", "searched.safetensors", "compact.safetensors", "metrics.jsonl"]
    {
        let [a, b] = [one, other].map(|run| fs::read(place.path(run).join(name)).unwrap());
        assert!(a == b, "{name} differs");
    }
}

pub fn leftovers(place: &Place, run: &str) -> Vec<String> {
    let folders = [place.path(run), place.path(run).join("checkpoints")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.contains("-step") || name.contains("-best") || name.ends_with(".part"))
        .collect()
}

#[test]
fn runs_killed_before_any_rename_end_as_if_nothing_had_happened() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    // Configuration, steps, best, architecture, pruned and both promotions: each kind is met.
    let new = (1..).step_by(4).map(|number| (NEW, number));
    for (calls, rename) in [(PROMOTION, 1), (PROMOTION, 2)].into_iter().chain(new) {
        let run = format!("killed-{calls}-{rename}");
        let line = format!("run --out {run}{options}");
        match killed(&place, &line, calls, rename) {
            Some(true) => {}
            Some(false) => break,
            None => return,
        }
        let again = match place.path(&run).join("config.toml").exists() {
            true => format!("run --resume {run}"),
            false => line,
        };
        place.succeed(&again);
        same(&place, "whole", &run);
        assert_eq!(leftovers(&place, &run), [""; 0], "rename {rename}");
    }
}

#[test]
fn an_architecture_lost_by_an_earlier_version_is_written_anew() {
    let (place, options) = begun();
    place.succeed(&format!("run --out run{options}"));
    let json = place.path("run/architecture.json");
    let before = fs::read(&json).unwrap();
    fs::remove_file(&json).unwrap();
    place.succeed("run --resume run");
    assert!(fs::read(&json).unwrap() == before);
}

#[test]
fn nobody_reading_standard_error_ends_nothing() {
    let (place, options) = begun();
    for (run, end) in
        [("closed", "2>&-"), ("full", "2>/dev/full"), ("gone", "2>&1 >/dev/null | true")]
    {
        let line = format!("set -o pipefail; $SPVIT run --out {run}{options} {end}");
        let output = shell(&place, &line);
        assert!(output.status.success(), "{end}: {}", output.status);
        assert!(place.path(run).join("summary.json").exists());
    }
    same(&place, "closed", "gone");
}

#[test]
fn results_and_best_weights_that_are_damaged_are_told() {
    let (place, options) = begun();
    place.succeed(&format!("search --out run{options}"));
    let path = place.path("run/searched.safetensors");
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let at = damaged.len() - 40;
    damaged[at] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let error = place.fail("run --resume run", FAILED);
    assert!(error.contains("searched.safetensors") && error.contains("--redo search"), "{error}");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = place.fail("run --resume run", FAILED);
    assert!(error.contains("searched.safetensors") && error.contains("--redo search"), "{error}");
    place.succeed("run --resume run --redo search");

    // Killed between the search's last checkpoint and its promotion: best is all there is.
    let line = format!("search --out other{options}");
    let Some(true) = killed(&place, &line, PROMOTION, 1) else { return };
    let best = place.path("other/checkpoints/search-best.safetensors");
    let whole = fs::read(&best).unwrap();
    for damage in ["flipped", "cut", "gone"] {
        match damage {
            "flipped" => {
                let mut content = whole.clone();
                let at = content.len() - 40;
                content[at] ^= 1;
                fs::write(&best, content).unwrap();
            }
            "cut" => fs::write(&best, &whole[..whole.len() - 100]).unwrap(),
            _ => fs::remove_file(&best).unwrap(),
        }
        let error = place.fail("search --resume other", FAILED);
        assert!(error.contains("search-best") && error.contains("--redo search"), "{error}");
    }
    fs::write(&best, whole).unwrap();
    place.succeed("run --resume other");
    same(&place, "other", "run");
}

#[test]
fn a_run_is_not_mixed_with_another() {
    let (place, options) = begun();
    place.succeed(&format!("search --out run{options}"));
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();

    // Edited by hand: the seed of the results was another.
    fs::write(place.path("run/config.toml"), config.replace("seed = 0", "seed = 9")).unwrap();
    let error = place.fail("run --resume run", USAGE);
    assert!(error.contains("seed = 9") && error.contains("begun with 0"), "{error}");

    // Gone: what is there is not gone on from with other values.
    fs::remove_file(place.path("run/config.toml")).unwrap();
    let error = place.fail(&format!("run --out run{options} --seed 5"), USAGE);
    assert!(error.contains("already holds a run"), "{error}");
    let error = place.fail("run --resume run", USAGE);
    assert!(
        error.contains("config.toml") && error.contains("put its configuration back"),
        "{error}"
    );
    fs::write(place.path("run/config.toml"), &config).unwrap();

    // Other training images under the same path.
    for entry in fs::read_dir(checkout("data/fashion-mnist-mini")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "SHA256SUMS" {
            place.write(&format!("images/{name}"), fs::read(entry.path()).unwrap());
        }
    }
    let set = " --set data.folder=images";
    place.succeed(&format!("prune --resume run{set}"));
    fs::copy(
        place.path("images/t10k-images-idx3-ubyte.gz"),
        place.path("images/train-images-idx3-ubyte.gz"),
    )
    .unwrap();
    fs::copy(
        place.path("images/t10k-labels-idx1-ubyte.gz"),
        place.path("images/train-labels-idx1-ubyte.gz"),
    )
    .unwrap();
    let error = place.fail("run --resume run", USAGE);
    assert!(error.contains("other training images"), "{error}");
    let set = format!(" --set data.folder={}", checkout("data/fashion-mnist-mini"));
    place.succeed(&format!("finetune --resume run{set}"));

    // Edited after pruning.
    let json = place.path("run/architecture.json");
    let text = fs::read_to_string(&json).unwrap();
    let other = text.replacen("\"operation\":\"msa\"", "\"operation\":\"shortcut\"", 1);
    let other = match other == text {
        true => text.replacen("\"operation\":\"bconv1x1\"", "\"operation\":\"shortcut\"", 1),
        false => other,
    };
    if other != text {
        fs::write(&json, other).unwrap();
        let error = place.fail("evaluate --out run", USAGE);
        assert!(error.contains("architecture.json") && error.contains("spvit prune"), "{error}");
        place.succeed("prune --out run");
        assert!(!place.path("run/compact.safetensors").exists(), "it was cut from other weights");
    }
}

#[cfg(feature = "ndarray")]
#[test]
fn a_phase_goes_on_on_the_device_it_was_begun_on() {
    let (place, options) = begun();
    let Some(true) = killed(&place, &format!("search --out run --device ndarray{options}"), NEW, 6)
    else {
        return;
    };
    let error = place.fail("search --resume run", USAGE);
    assert!(error.contains("--device ndarray") && error.contains("--redo search"), "{error}");
    place.succeed("search --resume run --device ndarray");
}

#[test]
fn a_phase_can_be_done_anew_by_other_values() {
    let (place, options) = begun();
    place.succeed(&format!("run --out run{options}"));
    let error = place.fail("run --resume run --set finetune.learning_rate=0.0001", USAGE);
    assert!(error.contains("--redo finetune does the finetune anew"), "{error}");
    let searched = fs::read(place.path("run/searched.safetensors")).unwrap();
    let compact = fs::read(place.path("run/compact.safetensors")).unwrap();
    place.succeed("run --resume run --redo finetune --set finetune.learning_rate=0.0001");
    assert!(fs::read(place.path("run/searched.safetensors")).unwrap() == searched);
    assert!(fs::read(place.path("run/compact.safetensors")).unwrap() != compact);
    let metrics = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("finetune").count(), 1, "{metrics}");

    let diverging = format!("search --out wild{options} --set search.learning_rate=1e30");
    let error = place.fail(&diverging, FAILED);
    assert!(error.contains("--redo search"), "{error}");
    place.succeed("search --resume wild --redo search --set search.learning_rate=0.0005");
    let error = place.fail(&format!("run --out new --redo search{options}"), USAGE);
    assert!(error.contains("--resume"), "{error}");
}

#[test]
fn metrics_name_every_epoch_once() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    place.succeed(&format!("search --out run{options}"));
    // Killed between the line and the first checkpoint, which was then cut off by a full disk.
    let metrics = place.path("run/metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, text + "{\"stage\":\"finetune\",\"epoch\":0,\"epochs\":1,\"loss\":1.0,\"train_accuracy\":0.1,\"validation_accuracy\":0.1,\"learning_rate\":0.1,\"best\":true}\n{\"phase\":\"fine").unwrap();
    place.succeed("run --resume run");
    same(&place, "whole", "run");
}

#[test]
fn a_plan_that_cannot_be_carried_out_is_told_before_the_first_step() {
    let (place, options) = begun();
    let begin = |more: &str| format!("run --out run{options} {more}");
    let error = place.fail(&begin("--set finetune.batch_size=5000"), USAGE);
    assert!(error.contains("finetune.batch_size = 5000") && error.contains("160"), "{error}");
    place.succeed(&format!(
        "convert {} three.safetensors --classes 3",
        checkout("models/vit_micro-fashion-mnist.safetensors")
    ));
    place.succeed("convert dense/dense.safetensors three.safetensors --classes 3");
    let more = "--set dense.weights=three.safetensors --set finetune.distillation=0.5";
    let error = place.fail(&begin(more), USAGE);
    assert!(error.contains("teacher") && error.contains("head"), "{error}");
    assert!(!place.path("run/searched.safetensors").exists());
    let line = format!("search --out run{options}");
    place.succeed(&line);

    // What was done to the weights is said once.
    let line = format!("search --out noted{options} --set dense.weights=three.safetensors");
    let said = String::from_utf8(place.call(&line).stderr).unwrap();
    assert_eq!(said.lines().filter(|line| line.contains(" head")).count(), 1, "{said}");

    // Another dense model under the same name.
    let dense = place.path("dense/dense.safetensors");
    let own = fs::read(&dense).unwrap();
    fs::copy(place.path("three.safetensors"), &dense).unwrap();
    let error = place.fail("run --resume run", USAGE);
    assert!(error.contains("other weights") && error.contains("--redo search"), "{error}");
    fs::write(&dense, own).unwrap();

    fs::rename(place.path("dense"), place.path("moved")).unwrap();
    let error = place.fail("run --resume run", FAILED);
    assert!(error.contains("dense.safetensors"), "{error}");
}

#[test]
fn weights_of_another_model_are_told() {
    let (place, options) = begun();
    place.succeed(&format!("run --out run{options}"));
    for (name, more) in [("size", "model.image_size=[32,32]"), ("dim", "model.dim=32")] {
        let small = small();
        let dense = format!("dense-{name}");
        place.succeed(&format!("pretrain --out {dense}{small} --set {more}"));
        let weights = format!("dense.weights={dense}/dense.safetensors");
        place.succeed(&format!("run --out {name}{small} --set {more} --set {weights}"));
        for file in ["compact", "pruned"] {
            let path = place.path(&format!("run/{file}.safetensors"));
            let own = fs::read(&path).unwrap();
            fs::copy(place.path(&format!("{name}/{file}.safetensors")), &path).unwrap();
            let output = place.call("evaluate --out run");
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && !error.contains("internal error"), "{error}");
            fs::write(&path, own).unwrap();
        }
    }
    place.succeed("evaluate --out run");
}
