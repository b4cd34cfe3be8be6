//! SPViT's training loops, run folders and reports.
//!
//! [`Run`] takes a [`RunConfig`] and a [`RunFolder`] through pretraining, search, pruning,
//! fine-tuning and evaluation, tells an [`Observer`] what happens, and can be stopped and resumed
//! at any step with the same result. On a CPU backend one seed gives one result.

mod changes;
mod classify;
pub mod config;
mod error;
pub mod evaluate;
mod events;
mod folder;
pub mod optim;
mod pipeline;
pub mod random;
mod report;
mod schedule;
mod search;
mod shards;
mod stage;

pub use changes::check_changes;
pub use config::RunConfig;
pub use error::TrainError;
pub use events::{EpochReport, Event, Observer, Progress, Silent};
pub use folder::{Position, RunFolder, write_atomically, write_config};
pub use pipeline::{LATENCY_BATCH, Run};
pub use report::{ModelFigures, Summary};
pub use schedule::Schedule;
pub use stage::Outcome;
