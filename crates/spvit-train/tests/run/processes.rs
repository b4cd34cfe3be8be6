//! Several processes that share every batch: threads here, which send each other messages.
#![allow(clippy::result_large_err)]

#[path = "../../../spvit-data/tests/common/peers.rs"]
mod peers;

use std::{path::Path, sync::Arc};

use burn::backend::{Autodiff, Flex, NdArray};
use peers::Peer;
use spvit_core::FusedOps;
use spvit_data::Peers;
use spvit_train::{
    Devices, Messages, Outcome, Processes, Run, RunConfig, RunFolder, Summary, TrainError,
    write_config,
};

use crate::{
    Stopper, config, losses,
    steps::{of_dense, of_search, options},
};

type B = Autodiff<Flex>;

impl Messages for Peer {
    fn first(&self, own: Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(self.gather(&own)?.swap_remove(0))
    }

    /// From the last to the first, which no two values mind.
    fn sum(&self, values: &mut [f32]) -> Result<(), String> {
        let own: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all = self.gather(&own)?;
        for (place, value) in values.iter_mut().enumerate() {
            let of = |bytes: &Vec<u8>| {
                f32::from_le_bytes(bytes[4 * place..4 * place + 4].try_into().unwrap())
            };
            *value = all.iter().rev().map(of).sum();
        }
        Ok(())
    }
}

/// Does the same as every one of so many processes; results in order.
fn in_each<R: Send>(count: usize, work: impl Fn(Processes) -> R + Sync) -> Vec<R> {
    peers::in_each(count, |peer| work(Processes::new(Arc::new(peer))))
}

/// As many micro-batches in one process see the same images, and are summed in the same order.
fn like_one_process<B: FusedOps>() {
    let one = Devices::<Autodiff<B>>::one(&B::Device::default());
    for count in [2, 3] {
        let dense = of_dense::<B>(&one, options(count));
        for found in in_each(count, |all| of_dense::<B>(&one.clone().among(all), options(1))) {
            assert!(dense == found, "{count} processes: losses {:?}, {:?}", dense.0, found.0);
        }
        let search = of_search::<B>(&one, options(count));
        for found in in_each(count, |all| of_search::<B>(&one.clone().among(all), options(1))) {
            assert!(search == found, "search in {count}: {:?}, {:?}", search.0, found.0);
        }
    }
    // Micro-batches of each process, and more processes than images.
    let expected = of_dense::<B>(&one, options(6));
    for (count, each) in [(2, 3), (16, 1)] {
        for found in in_each(count, |all| of_dense::<B>(&one.clone().among(all), options(each))) {
            let apart: f64 = expected.0.iter().zip(&found.0).map(|(a, b)| (a - b).abs()).sum();
            assert!(apart < 1e-6, "{count} processes with {each} parts each: {apart}");
        }
    }
}

#[test]
fn processes_give_what_micro_batches_give_on_flex() {
    like_one_process::<Flex>();
}

#[test]
fn processes_give_what_micro_batches_give_on_ndarray() {
    like_one_process::<NdArray>();
}

/// A part of a run in so many processes, the last of which asks to stop after some steps; what each of them
/// gives.
fn go<R: Send>(
    config: &RunConfig,
    root: &Path,
    (count, after): (usize, usize),
    part: impl Fn(&mut Run<'_, B>) -> Result<R, TrainError> + Sync,
) -> Vec<Result<R, TrainError>> {
    let one = |processes: Processes| {
        let scratch = tempfile::tempdir().unwrap();
        let own = if processes.is_first() { root } else { scratch.path() };
        if processes.is_first() && !own.join("config.toml").exists() {
            write_config(&RunFolder::create(own)?, config)?;
        }
        processes.mirror(own)?;
        let last = processes.rank() + 1 == processes.count();
        let mut stopper =
            Stopper { after: if last { after } else { usize::MAX }, ..Stopper::default() };
        let device = ("test", Default::default());
        let run = Run::<B>::new(config.clone(), RunFolder::open(own)?, device, &mut stopper)?;
        part(&mut run.among(processes)?)
    };
    in_each(count, |processes| {
        let rank = processes.rank();
        one(processes).inspect_err(|error| eprintln!("process {rank}: {error}"))
    })
}

const SMALL: [&str; 6] = [
    "data.train_limit=192",
    "data.test_limit=100",
    "data.validation=100",
    "search.start=constant",
    "search.epochs=2",
    "finetune.epochs=1",
];

/// A run in two processes of which the second is asked to stop goes on in one, and then in three, to the
/// end of a run in one but for rounding. Without convolutions no batch norm sees a process's part.
#[test]
fn a_run_goes_on_in_another_number_of_processes() {
    let config =
        config("demo.toml", &[&SMALL[..], &["search.operations=[\"shortcut|msa\"]"]].concat());
    let root = tempfile::tempdir().unwrap();
    let [one, several] = ["one", "several"].map(|name| root.path().join(name));
    let summary = go(&config, &one, (1, usize::MAX), |run| run.run()).remove(0).unwrap().unwrap();
    for (count, after, finished) in [(2, 2, false), (1, 2, false), (3, usize::MAX, true)] {
        for found in go(&config, &several, (count, after), |run| run.run()) {
            let found = found.unwrap();
            assert_eq!(found.is_some(), finished);
            let counts = |summary: &Summary| -> Vec<_> {
                summary.models.iter().map(|model| (model.name.clone(), model.flops)).collect()
            };
            found.iter().for_each(|found| assert_eq!(counts(found), counts(&summary)));
        }
    }
    let [one, several] = [losses(&one), losses(&several)];
    assert_eq!((one.len(), several.len()), (3, 3));
    for (one, several) in one.iter().zip(&several) {
        assert!((one - several).abs() < 1e-4, "losses {one} and {several}");
    }
}

/// Two budgets from importance in two processes: the files that only the first one writes, and what
/// micro-batches in one process give.
#[test]
fn two_budgets_in_two_processes() {
    let more = [
        "search.start=importance",
        "search.epochs=0",
        "search.start_images=64",
        "search.trial_steps=0",
        "search.budgets=[\"70%\",\"50%\"]",
    ];
    let apart = config("demo.toml", &[&SMALL[..], &more].concat());
    let mut parts = apart.clone();
    parts.run.micro_batches = 2;
    let root = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| root.path().join(name));
    let trained = |run: &mut Run<'_, B>| {
        run.search()?;
        run.prune()?;
        run.finetune()
    };
    for (config, root, count) in [(&parts, &one, 1), (&apart, &two, 2)] {
        for found in go(config, root, (count, usize::MAX), trained) {
            assert_eq!(found.unwrap(), Outcome::Finished);
        }
    }
    for budget in ["70", "50"] {
        let of = |run: &Path| losses(&run.join("budgets").join(budget));
        assert_eq!(of(&one), of(&two));
    }
}

#[test]
fn processes_with_other_images_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let found = in_each(2, |processes| {
        let own = root.path().join(processes.rank().to_string());
        let limit = 100 + processes.rank();
        let config = config("demo.toml", &[&format!("data.train_limit={limit}")]);
        let folder = RunFolder::create(&own)?;
        let mut observer = Stopper { after: usize::MAX, ..Stopper::default() };
        let run = Run::<B>::new(config, folder, ("test", Default::default()), &mut observer)?;
        run.among(processes).map(|_| ())
    });
    for error in found {
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("the images of process 1 differ from those of process 0"),
            "{error}"
        );
    }
}
