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
mod support;
mod teachers;

use std::path::Path;

use spvit_train::{Event, Observer};

use support::{checkout, config, finish, run};

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
