//! Whole runs on the bundled images.

mod accumulating;
mod averaging;
mod bundled;
mod fronts;
#[cfg(feature = "wgpu")]
mod gpu;
mod holding;
mod precise;
mod processes;
mod resuming;
#[cfg(feature = "devices")]
mod sharing;
mod starting;
mod steps;
mod teachers;

use std::path::{Path, PathBuf};

use burn::backend::Autodiff;
use spvit_core::FusedOps;
use spvit_train::{
    Event, Observer, Run, RunConfig, RunFolder, Silent, Summary, TrainError, write_config,
};

/// The checkout's root.
fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A configuration of the checkout with settings over it, its paths made absolute.
fn config(name: &str, settings: &[&str]) -> RunConfig {
    let path = checkout().join("configs").join(name);
    let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
    let mut config = RunConfig::read(&path, &settings).unwrap();
    config.data.folder = checkout().join(&config.data.folder);
    config.dense.weights = checkout().join(&config.dense.weights);
    config
}

/// Runs, or goes on with, the run in a folder.
#[allow(clippy::result_large_err)]
fn run<B: FusedOps>(
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

/// Stops after some steps, and keeps the messages.
#[derive(Default)]
struct Stopper {
    after: usize,
    steps: usize,
    messages: Vec<String>,
}

impl Observer for Stopper {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Progress(_) => self.steps += 1,
            Event::Message(text) => self.messages.push(text.to_string()),
            Event::Epoch(_) | Event::Measuring { .. } | Event::Timing { .. } => {}
        }
    }

    fn stop_requested(&self) -> bool {
        self.steps >= self.after
    }
}

/// The losses of a run's epochs.
fn losses(root: &Path) -> Vec<f64> {
    let lines = std::fs::read_to_string(root.join("metrics.jsonl")).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| line["loss"].as_f64().unwrap()).collect()
}

/// A finished run's models and metrics, without what names the folder.
fn results(root: &Path) -> Vec<(String, Vec<u8>)> {
    let models = ["architecture.json", "searched.safetensors", "compact.safetensors"];
    let names = models.into_iter().chain(["metrics.jsonl", "gates.jsonl"]);
    names.map(|name| (name.to_string(), std::fs::read(root.join(name)).unwrap())).collect()
}

fn finish<B: FusedOps>(config: &RunConfig, root: &Path) -> Summary {
    run::<B>(config, root, &mut Silent).unwrap().unwrap()
}
