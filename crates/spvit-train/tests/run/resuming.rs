//! Runs that are stopped and go on.

use std::{fs, path::Path};

use burn::backend::{Flex, NdArray};
use spvit_core::FusedOps;
use spvit_train::{Observer, RunConfig, Silent};

use crate::{Stopper, finish, results, run, support::short};

/// Goes on with a run, stopping after every few steps, until it is done.
fn in_pieces<B: FusedOps>(config: &RunConfig, root: &Path, steps: usize) -> usize {
    for piece in 1.. {
        let mut observer = Stopper { after: steps, ..Stopper::default() };
        if run::<B>(config, root, &mut observer).unwrap().is_some() {
            return piece;
        }
        assert!(observer.stop_requested(), "a run that was not asked to stop must finish");
    }
    unreachable!("the loop ends with the run")
}

/// A run with these settings over [`short`]'s, whole and in pieces.
pub fn same_bits<B: FusedOps>(settings: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let config = short(settings);
    finish::<B>(&config, &whole);
    // Three steps divide neither an epoch nor a phase.
    let pieces = in_pieces::<B>(&config, &parts, 3);
    assert!(pieces >= 5, "only {pieces} pieces");
    for ((name, a), (_, b)) in results(&whole).into_iter().zip(results(&parts)) {
        assert!(a == b, "{name} of the run in pieces differs");
    }
}

#[test]
fn a_resumed_run_has_the_same_bits_on_flex() {
    same_bits::<Flex>(&[]);
}

#[test]
fn a_resumed_run_has_the_same_bits_on_ndarray() {
    same_bits::<NdArray>(&[]);
}

#[test]
fn results_depend_on_the_seed_but_not_on_loader_threads() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, settings: &[&str]| {
        let root = folder.path().join(name);
        finish::<Flex>(&short(settings), &root);
        results(&root)
    };
    let one = run("one", &[]);
    assert!(one == run("none", &["data.threads=0"]), "no loader thread");
    assert!(one == run("three", &["data.threads=3"]), "three loader threads");
    assert!(one != run("seed", &["seed=1"]), "another seed");
}

#[test]
fn a_broken_checkpoint_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let config = short(&[]);
    finish::<Flex>(&config, &whole);

    let mut observer = Stopper { after: 7, ..Stopper::default() };
    assert!(run::<Flex>(&config, &broken, &mut observer).unwrap().is_none());
    let mut checkpoints: Vec<_> = fs::read_dir(broken.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("step"))
        .collect();
    checkpoints.sort();
    assert_eq!(checkpoints.len(), 2, "the last two are kept: {checkpoints:?}");
    let last = &checkpoints[1];
    let mut bytes = fs::read(last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(last, bytes).unwrap();

    let mut observer = Stopper { after: usize::MAX, ..Stopper::default() };
    run::<Flex>(&config, &broken, &mut observer).unwrap().unwrap();
    let note = observer.messages.iter().find(|message| message.contains("is broken"));
    assert!(note.is_some_and(|note| note.contains("checksum")), "{:?}", observer.messages);
    assert!(results(&whole) == results(&broken), "the run must end as if nothing had happened");
}

#[test]
fn a_run_without_a_readable_checkpoint_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = short(&[]);
    let mut observer = Stopper { after: 2, ..Stopper::default() };
    assert!(run::<Flex>(&config, folder.path(), &mut observer).unwrap().is_none());
    for entry in fs::read_dir(folder.path().join("checkpoints")).unwrap() {
        fs::write(entry.unwrap().path(), b"cut off").unwrap();
    }
    let error = run::<Flex>(&config, folder.path(), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("no readable checkpoint"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}
