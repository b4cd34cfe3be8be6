//! What a shared machine, a file system and odd arguments do to the program.
#![cfg(unix)]

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    process::{Command, Stdio},
};

use crate::{
    Place, checkout,
    hostile::{begun, leftovers, same, shell, within_reach},
    small,
};

const USAGE: i32 = 2;
const FAILED: i32 = 1;

#[test]
fn links_devices_and_modes_stay_as_they_are() {
    let place = Place::new();
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    place.succeed(&format!("convert {model} /dev/null --form onnx"));
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    place.write("elsewhere/a.json", "before");
    symlink("elsewhere/a.json", place.path("link.json")).unwrap();
    place.succeed(&format!("convert {model} link.json"));
    assert!(place.path("link.json").symlink_metadata().unwrap().is_symlink());
    assert!(fs::read_to_string(place.path("elsewhere/a.json")).unwrap().contains("blocks"));
    let output = shell(
        &place,
        &format!("$SPVIT convert {model} /dev/stdout --form architecture | head -c 1"),
    );
    assert_eq!(output.stdout, b"{");

    shell(
        &place,
        &format!(
            "umask 027; $SPVIT convert {model} own.json; $SPVIT profile {model} --svg own.svg"
        ),
    );
    for name in ["own.json", "own.svg"] {
        let mode = fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o640, "{name}");
    }
}

#[test]
fn what_does_not_apply_is_told() {
    let place = Place::new();
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    for heads in ["--heads 0", "--classes 0", "--image-size 0"] {
        place.fail(&format!("profile {model} {heads}"), USAGE);
    }
    let error = place.fail(&format!("profile {} --heads 3", checkout("configs/demo.toml")), USAGE);
    assert!(error.contains("--heads"), "{error}");
    let error = place.fail("run --seed 9223372036854775808", USAGE);
    assert!(error.contains("--seed") && !error.contains("--set"), "{error}");
    let error = place.fail("run --set search.budget=1e300", USAGE);
    assert!(error.contains("1e300") && error.len() < 200, "{error}");
    place.fail("evaluate --out WRONG", USAGE);
    assert!(!place.path("WRONG").exists(), "nothing is created");

    assert!(Command::new("mkfifo").arg(place.path("pipe.pth")).status().unwrap().success());
    let error = place.fail("convert pipe.pth a.onnx", FAILED);
    assert!(error.contains("pipe"), "{error}");

    let line = format!("pretrain --out run{} --set data.validation=0", small());
    let output = place.call(&line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("validation"), "{said}");
}

#[test]
fn limits_of_the_system_are_told() {
    let place = Place::new();
    let line = format!("ulimit -f 1; $SPVIT pretrain --out run{}", small());
    let output = shell(&place, &line);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(FAILED), "{error}");
    assert!(error.contains("File too large"), "{error}");
    place.succeed(&format!("pretrain --out run{}", small()));
}

#[test]
fn leftovers_of_killed_programs_go() {
    let (place, options) = begun();
    place.succeed(&format!("run --out run{options}"));
    for name in [
        ".tmpAbC123",
        "checkpoints/.spvit-xyz.part",
        "checkpoints/search-step0000000003.safetensors",
    ] {
        place.write(&format!("run/{name}"), "half");
    }
    place.write("run/notes.txt", "a person's own");
    place.write("run/.tmp-of-somebody-else", "a person's own");
    place.succeed("run --resume run");
    assert_eq!(leftovers(&place, "run"), [""; 0]);
    assert!(!place.path("run/.tmpAbC123").exists());
    assert!(
        place.path("run/notes.txt").exists() && place.path("run/.tmp-of-somebody-else").exists()
    );
}

/// No home, no temporary folder, a current folder that cannot be written.
#[test]
fn a_bare_container_runs() {
    let place = Place::new();
    let mut command = place.command(&format!("pretrain --out run{}", small()));
    command.env_clear().stdout(Stdio::null()).stderr(Stdio::null());
    command.env("TMPDIR", "/nonexistent");
    assert!(command.status().unwrap().success());
}

/// One line of error and an exit code of 1 or 2.
#[track_caller]
pub fn refused(place: &Place, line: &str, words: &[&str]) {
    let output = shell(place, line);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code();
    assert!(matches!(code, Some(1 | 2)), "{line}: {code:?}: {errors}");
    assert_eq!(errors.lines().filter(|l| l.starts_with("error: ")).count(), 1, "{line}: {errors}");
    assert!(!errors.contains("internal error"), "{line}: {errors}");
    assert!(words.iter().all(|word| errors.contains(word)), "{line}: {errors}");
}

pub fn traced(calls: &str, action: &str, line: &str) -> String {
    format!("strace -f -qq -o /dev/null -e trace={calls} -e inject={calls}:{action} $SPVIT {line}")
}

/// Somebody moves the folder away, or removes it, while the program works in it.
#[test]
fn a_folder_that_goes_is_not_begun_again() {
    let (place, options) = begun();
    // Long enough to be met in the middle of its search.
    let options = format!("{options} --set search.epochs=40");
    place.succeed(&format!("run --out whole{options}"));
    for (how, gone) in [("mv run moved", "moved"), ("until rm -rf run; do :; done", "")] {
        let line = format!(
            "rm -f said; $SPVIT run --out run{options} 2>said & while ! grep -q 'epoch 1/40 done' said; \
             do sleep 0.01; done; {how}; wait $!; code=$?; cat said >&2; exit $code"
        );
        refused(&place, &line, &["run"]);
        assert!(!place.path("run").exists(), "{how}");
        if !gone.is_empty() {
            place.succeed(&format!("run --resume {gone}"));
            same(&place, "whole", gone);
        }
    }
}

#[test]
fn a_current_folder_that_is_gone_is_told() {
    let place = Place::new();
    refused(&place, "mkdir gone; cd gone; rmdir ../gone; $SPVIT pretrain", &[]);
}

/// A network file system without locks, one that cannot sync folders, a stale handle.
#[test]
fn network_file_systems_are_borne() {
    let place = Place::new();
    let small = small();
    if !shell(&place, "strace -qq -o /dev/null true").status.success() {
        println!("skipped: no strace");
        return;
    }
    let output =
        shell(&place, &traced("flock", "error=ENOLCK", &format!("pretrain --out a{small}")));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("cannot be locked"), "{said}");
    let line = format!("pretrain --out b{small}");
    refused(&place, &traced("renameat,renameat2", "error=ESTALE:when=2", &line), &["b/"]);
    refused(&place, &traced("fsync", "error=EIO:when=3", &line), &["b/"]);
    place.succeed(&line);
    let [a, b] = ["a", "b"].map(|run| fs::read(place.path(run).join("dense.safetensors")).unwrap());
    assert!(a == b);
}

/// Another user may read a run, but not write into it.
#[test]
fn a_folder_of_somebody_else_is_told() {
    let place = Place::new();
    place.succeed(&format!("pretrain --out run{}", small()));
    let to = place.path("");
    let open = format!("chmod -R a+rX,go-w {}", to.display());
    assert!(shell(&place, &open).status.success());
    let nobody = "setpriv --reuid=65534 --clear-groups";
    if within_reach(&place, nobody).is_none() {
        return;
    }
    let spvit = format!("{nobody} ./spvit");
    refused(&place, &format!("{spvit} evaluate --out run"), &["Permission denied"]);
    refused(&place, &format!("{spvit} pretrain --out run2{}", small()), &["Permission denied"]);
    let model = "run/dense.safetensors";
    refused(&place, &format!("{spvit} convert {model} a.onnx"), &["Permission denied"]);
    assert!(shell(&place, &format!("{spvit} profile {model}")).status.success());
    refused(&place, &format!("chmod 600 {model}; {spvit} profile {model}"), &["Permission denied"]);
}

#[test]
fn things_in_the_way_are_told() {
    let (place, options) = begun();
    place.succeed(&format!("search --out run{options}"));
    for name in ["pruned.safetensors", "compact.safetensors", "architecture.json", "summary.json"] {
        shell(&place, &format!("cp -r run blocked; rm -rf blocked/{name}; mkdir blocked/{name}"));
        refused(&place, "$SPVIT run --resume blocked", &["blocked/"]);
        shell(&place, "rm -r blocked");
    }
    fs::remove_dir_all(place.path("run/checkpoints")).unwrap();
    place.succeed("run --resume run");
    let long = "x".repeat(300);
    refused(&place, &format!("$SPVIT pretrain --out {long}{options}"), &["too long"]);
}

#[test]
fn folders_with_odd_names_are_folders() {
    let place = Place::new();
    for name in ["'a b'", "'ü/ß'", "$'tab\\tline\\nend'", "./-dash", "$'\\xff'"] {
        let line =
            format!("$SPVIT pretrain --out {name}{} && $SPVIT evaluate --out {name}", small());
        let output = shell(&place, &line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}");
    }
}

/// Two programs begin a run in one folder at the same moment: one does it, the other is told.
#[test]
fn two_at_once_do_not_meet() {
    let place = Place::new();
    let line = format!("$SPVIT pretrain --out run{}", small());
    let both = format!("({line}; echo $? > one) & ({line}; echo $? > two); wait");
    shell(&place, &both);
    let mut codes =
        ["one", "two"].map(|name| fs::read_to_string(place.path(name)).unwrap().trim().to_string());
    codes.sort();
    assert_eq!(codes, ["0", "2"]);
    assert_eq!(leftovers(&place, "run"), [""; 0]);
}

/// Memory that a container or `ulimit -v` does not give.
#[test]
fn memory_that_is_not_there_is_told() {
    let place = Place::new();
    let line = "ulimit -v 1000000; $SPVIT run --set model.dim=4096 --set model.hidden=16384";
    refused(&place, line, &["GB", "weights fit", "model.dim"]);
    // The weights fit, but not what a batch takes.
    let line = "ulimit -v 1500000; $SPVIT pretrain --out run --set model.dim=512 --set \
                model.image_size=[224,224] --set pretrain.batch_size=2000 --set data.folder=";
    refused(&place, &format!("{line}{}", checkout("data/fashion-mnist-mini")), &["memory", "MB"]);
}
