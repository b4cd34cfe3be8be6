//! A table of what the parts of a model take.

use spvit_core::FusedOps;
use spvit_interchange::memory;
use spvit_layers::ModelConfig;
use spvit_search::{LatencyTable, Place, probes};

use super::{Effort, Runtime, Stopwatch, in_turn, machine, models::whole_models};
use crate::TrainError;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Shape of the dense model.
    pub config: &'a ModelConfig,
    /// Images of a pass.
    pub batch: usize,
    /// What computes.
    pub runtime: Runtime,
    /// The device, as the program names it.
    pub device: &'a str,
    /// How long.
    pub effort: Effort,
}

/// Times every choice of a model's blocks, and whole models to hold their sum against; `None` where
/// `progress`, which is told how much is done and how much there may be, says no.
///
/// # Errors
/// [`TrainError`] if the models do not fit into memory, onnxruntime fails, or the machine is too busy to
/// tell times apart.
pub fn measure<B: FusedOps>(
    request: &Request<'_>,
    device: &B::Device,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Option<LatencyTable>, TrainError> {
    let Request { config, batch, runtime, effort, .. } = *request;
    let whole = whole_models(config);
    let probes = probes(config);
    let all: Vec<_> = probes.iter().map(|probe| &probe.blocks).chain(&whole).collect();
    memory::check_together(config, &all).map_err(|problem| config_error("measuring", problem))?;
    let version = runtime.version()?;
    let count = all.len();
    let mut models: Vec<Stopwatch> = Vec::with_capacity(count);
    for (number, blocks) in all.iter().enumerate() {
        // Every model is made, passes once, and then in every round.
        if !progress(number, count * (effort.most + 2)) {
            return Ok(None);
        }
        models.push(runtime.load::<B>(config, blocks, batch, device)?);
    }
    let told = |done, of| progress(count + done, count + of);
    let Some(times) = in_turn(count, effort, |model| models[model](), told)? else {
        return Ok(None);
    };
    let milliseconds: Vec<Vec<f64>> =
        times.into_iter().map(|own| own.into_iter().map(|time| 1e3 * time).collect()).collect();
    let place = Place {
        date: machine::today(),
        machine: machine::machine(request.device),
        device: runtime.device(request.device).into(),
        runtime: version,
        threads: machine::threads(),
    };
    let table = LatencyTable::of_times(config, (place, batch), &whole, &milliseconds);
    table.map(Some).map_err(|error| config_error("measuring", error.to_string()))
}

fn config_error(source_name: &str, problem: String) -> TrainError {
    TrainError::Config { source_name: source_name.into(), problem }
}
