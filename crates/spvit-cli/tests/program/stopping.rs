//! Interrupts, and what a run needs to go on.
#![cfg(unix)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{Place, small};

/// Five epochs of five steps in both phases and a checkpoint after every step.
fn longer() -> String {
    small()
        + " --set search.epochs=5 --set finetune.epochs=5 --set run.checkpoint_seconds=0 --set \
           dense.weights=dense/dense.safetensors"
}

/// Runs until a line that begins so shows, then interrupts; all that it said.
fn interrupt(place: &Place, line: &str, after: &str) -> String {
    let mut child = place.command(line).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.starts_with(after)) {
        said.push(lines.next().unwrap_or_else(|| panic!("no '{after}' in {said:?}")));
    }
    let pid = child.id().to_string();
    // What started the tests may have SIGINT ignored, which the program then keeps to.
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    said.extend(lines);
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said:?}");
    said.join("\n")
}

fn checkpoints(place: &Place, run: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path(run).join("checkpoints")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().contains("-step"));
    paths.sort();
    paths
}

fn damage(path: &PathBuf) {
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(path, content).unwrap();
}

fn compare(place: &Place) {
    for name in ["architecture.json", "compact.safetensors", "metrics.jsonl"] {
        let [a, b] = ["whole", "parts"].map(|run| fs::read(place.path(run).join(name)).unwrap());
        assert!(a == b, "{name} differs");
    }
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bits() {
    let place = Place::new();
    place.succeed(&format!("pretrain --out dense{}", small()));
    let longer = longer();
    place.succeed(&format!("run --out whole{longer}"));

    let said = interrupt(&place, &format!("run --out parts{longer}"), "search epoch 2/5 done");
    assert!(said.contains("spvit run --resume parts"), "{said}");
    let kept = checkpoints(&place, "parts");
    assert_eq!(kept.len(), 2, "the last two checkpoints: {kept:?}");

    // A last checkpoint that the disk has spoiled: the one before it is used.
    damage(&kept[1]);
    let said = interrupt(&place, "run --resume parts", "finetune epoch 1/5 done");
    let broken = format!("{} is broken", kept[1].file_name().unwrap().display());
    assert!(said.contains(&broken) && said.contains("stopping after a checkpoint"), "{said}");

    let output = place.call("run --resume parts");
    assert!(output.status.success());
    compare(&place);
}

#[test]
fn two_broken_checkpoints_end_the_run() {
    let place = Place::new();
    place.succeed(&format!("pretrain --out dense{}", small()));
    let longer = longer();
    interrupt(&place, &format!("run --out parts{longer}"), "search epoch 1/5 done");
    for path in checkpoints(&place, "parts") {
        damage(&path);
    }
    let error = place.fail("run --resume parts", 1);
    assert!(error.contains("no readable checkpoint") && error.contains("checksum"), "{error}");
}
