//! Runs on the bundled images, as those of `cargo xtask search` are.

use std::path::{Path, PathBuf};

use burn::backend::Autodiff;
use spvit_core::FusedOps;
use spvit_train::{Observer, Run, RunConfig, RunFolder, Silent, Summary, TrainError, write_config};

/// The checkout's root.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A configuration of the checkout with settings over it, its paths made absolute.
pub fn config(name: &str, settings: &[&str]) -> RunConfig {
    let path = checkout().join("configs").join(name);
    let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
    let mut config = RunConfig::read(&path, &settings).unwrap();
    config.data.folder = checkout().join(&config.data.folder);
    config.dense.weights = checkout().join(&config.dense.weights);
    config.run.timing_seconds = 0.0;
    config
}

/// Runs, or goes on with, the run in a folder.
#[allow(clippy::result_large_err)]
pub fn run<B: FusedOps>(
    config: &RunConfig,
    root: &Path,
    observer: &mut dyn Observer,
) -> Result<Option<Summary>, TrainError> {
    let folder = match root.join("config.toml").exists() {
        true => RunFolder::open(root)?,
        false => {
            let folder = RunFolder::create(root)?;
            write_config(&folder, config)?;
            folder
        }
    };
    let device = ("test", B::Device::default());
    Run::<Autodiff<B>>::new(config.clone(), folder, device, observer)?.run()
}

/// Two epochs of five steps in each phase, on few images, as published.
pub fn short(more: &[&str]) -> RunConfig {
    let mut settings = vec![
        "data.train_limit=80",
        "data.test_limit=100",
        "data.validation=50",
        "search.batch_size=16",
        "finetune.batch_size=16",
        "search.epochs=2",
        "search.start=constant",
        "search.projected=false",
        "search.heads=false",
        "finetune.init=searched",
        "finetune.refit=0",
        "finetune.epochs=2",
        "search.threshold_learning_rate=0.05",
        "search.drop_path=0.1",
    ];
    settings.extend(more);
    config("demo.toml", &settings)
}

/// One epoch in each phase, following this teacher.
pub fn following(teacher: &Path, more: &[&str]) -> RunConfig {
    let mut config = short(more);
    (config.search.epochs, config.finetune.epochs) = (1, 1);
    config.finetune.teacher = teacher.to_path_buf();
    config
}

pub fn finish<B: FusedOps>(config: &RunConfig, root: &Path) -> Summary {
    run::<B>(config, root, &mut Silent).unwrap().unwrap()
}
