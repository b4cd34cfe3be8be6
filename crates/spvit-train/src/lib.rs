//! SPViT's training loops, run folders and reports.
//!
//! [`Run`] takes a [`RunConfig`] and a [`RunFolder`] through pretraining, search, pruning,
//! fine-tuning and evaluation, tells an [`Observer`] what happens, and can be stopped and resumed
//! at any step with the same result. On a CPU backend one seed gives one result.

mod average;
mod changes;
mod checkpoint;
mod checks;
mod classify;
pub mod config;
mod cut;
mod devices;
mod epochs;
mod error;
pub mod evaluate;
mod events;
mod examine;
mod folder;
mod front;
mod gate_metrics;
pub mod judge;
pub mod latency;
mod loss;
mod metrics;
mod micro_batch;
mod mirror;
mod objectives;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
pub mod optim;
mod origin;
mod phase;
mod phases;
mod pieces;
mod pipeline;
mod processes;
pub mod random;
mod rehearse;
mod report;
mod results;
mod schedule;
mod search;
mod start;
pub mod step;
mod teacher;
mod trials;

pub use changes::check_changes;
pub use checkpoint::Position;
pub use config::{Given, Resolved, RunConfig, toml_string};
pub use cut::Cut;
pub use devices::Devices;
pub use epochs::Outcome;
pub use error::TrainError;
pub use evaluate::LATENCY_BATCH;
pub use events::{EpochReport, Event, Observer, Progress, Silent};
pub use examine::{Difference, Evaluation, ModelByClass, Software};
pub use folder::{Lock, Part, RunFolder, write_atomically, write_config, write_config_from};
pub use gate_metrics::{BlockGateReport, FfnGates, GateReport, QUANTILES};
pub use micro_batch::MicroBatch;
pub use objectives::{Classification, SearchObjective, Searched, Uniforms};
pub use origin::Origin;
pub use phase::Phase;
pub use pipeline::Run;
pub use processes::{Messages, Processes};
pub use rehearse::{PhasePlan, Plan};
pub use report::{ModelFigures, Summary};
pub use schedule::Schedule;
pub use teacher::{Normalisation, Teacher, TeacherNetwork};

/// The README's example, so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
