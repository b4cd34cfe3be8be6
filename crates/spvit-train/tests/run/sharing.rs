//! Several devices that share every batch.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::backend::{Autodiff, Flex, NdArray};
use spvit_core::FusedOps;
use spvit_train::{Devices, Run, RunFolder, write_config};

use crate::{
    Stopper, config, losses,
    steps::{of_dense, of_search, options},
};

/// The devices of a backend work together once in a process, and tests may share one.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn devices<B: FusedOps>(count: usize) -> Devices<Autodiff<B>> {
    Devices::new(B::Device::default(), vec![B::Device::default(); count - 1]).unwrap()
}

/// As many micro-batches on one device see the same images, and are summed in the same order: of two
/// and of three devices, whose thirteen images are no multiple.
fn like_one_device<B: FusedOps>() {
    let _alone = alone();
    let one = Devices::one(&B::Device::default());
    for count in [2, 3] {
        let several = devices::<B>(count);
        let (expected, found) =
            (of_dense::<B>(&one, options(count)), of_dense::<B>(&several, options(1)));
        assert!(expected == found, "{count} devices: losses {:?}, {:?}", expected.0, found.0);
        let (expected, found) =
            (of_search::<B>(&one, options(count)), of_search::<B>(&several, options(1)));
        assert!(expected == found, "search on {count}: {:?}, {:?}", expected.0, found.0);
    }
    // Micro-batches of each device, and more devices than images.
    let expected = of_dense::<B>(&one, options(6));
    let two = devices::<B>(2);
    let found = of_dense::<B>(&two, options(3));
    let apart: f64 = expected.0.iter().zip(&found.0).map(|(a, b)| (a - b).abs()).sum();
    assert!(apart < 1e-6, "two devices with three parts each: {apart}");
    drop(two);
    let many = of_dense::<B>(&devices::<B>(16), options(1));
    let apart: f64 = many.0.iter().zip(&expected.0).map(|(a, b)| (a - b).abs()).sum();
    assert!(apart < 1e-6, "sixteen devices: {apart}");
}

#[test]
fn devices_give_what_micro_batches_give_on_flex() {
    like_one_device::<Flex>();
}

#[test]
fn devices_give_what_micro_batches_give_on_ndarray() {
    like_one_device::<NdArray>();
}

#[test]
fn devices_work_together_once_at_a_time() {
    let _alone = alone();
    let two = devices::<Flex>(2);
    let device = Default::default();
    let error = Devices::<Autodiff<Flex>>::new(device, vec![device]).err().unwrap().to_string();
    assert!(error.contains("in use together"), "{error}");
    drop(two);
    assert_eq!(devices::<Flex>(2).count(), 2);
}

/// A run on two devices that is stopped in its search and goes on with one, and then with three, is one
/// on a single device but for rounding. Without convolutions no batch norm sees a device's part.
#[test]
fn a_run_goes_on_with_another_number_of_devices() {
    type B = Autodiff<Flex>;
    let _alone = alone();
    let config = config(
        "demo.toml",
        &[
            "data.train_limit=192",
            "data.test_limit=100",
            "data.validation=100",
            "search.operations=[\"shortcut|msa\"]",
            "search.start=constant",
            "search.epochs=2",
            "finetune.epochs=1",
        ],
    );
    let root = tempfile::tempdir().unwrap();
    let go = |name: &str, others: usize, after: usize| {
        let path = root.path().join(name);
        let folder = match path.join("config.toml").exists() {
            true => RunFolder::open(&path).unwrap(),
            false => RunFolder::create(&path).unwrap(),
        };
        write_config(&folder, &config).unwrap();
        let mut stopper = Stopper { after, ..Stopper::default() };
        let device = ("test", Default::default());
        let run = Run::<B>::new(config.clone(), folder, device, &mut stopper).unwrap();
        run.across(vec![Default::default(); others]).unwrap().run().unwrap().is_some()
    };
    assert!(go("one", 0, usize::MAX));
    for (others, after, finished) in [(1, 2, false), (0, 2, false), (2, usize::MAX, true)] {
        assert_eq!(go("several", others, after), finished);
    }
    let [one, several] = ["one", "several"].map(|name| root.path().join(name));
    let architecture =
        |run: &std::path::Path| std::fs::read_to_string(run.join("architecture.json")).unwrap();
    assert_eq!(architecture(&one), architecture(&several));
    let [one, several] = [losses(&one), losses(&several)];
    assert_eq!((one.len(), several.len()), (3, 3));
    for (one, several) in one.iter().zip(&several) {
        assert!((one - several).abs() < 1e-4, "losses {one} and {several}");
    }
}
