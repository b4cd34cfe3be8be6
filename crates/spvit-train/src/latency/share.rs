//! What a model takes of the dense one's time.

use std::time::Instant;

use spvit_core::FusedOps;
use spvit_layers::BlockConfig;
use spvit_search::{LatencyTable, Timing};

use super::{Effort, Runtime, fastest, in_turn, machine};
use crate::TrainError;

/// Times that models are loaded to be timed.
const LOADS: usize = 9;
/// Seconds after which they are not loaded anew.
const SECONDS: f64 = 60.0;

/// Where a table was measured, to time other models there.
#[derive(Debug, Clone, Copy)]
pub struct Scale<'a> {
    /// The table.
    pub table: &'a LatencyTable,
    /// The device, as the program names it.
    pub device: &'a str,
}

impl Scale<'_> {
    /// What models of the table's shape take, in milliseconds at the speed that the machine had when the
    /// table was measured. `None` where `progress` says no.
    ///
    /// # Errors
    /// [`TrainError::Config`] if the table is of another machine, device, runtime or number of threads.
    pub fn measure<B: FusedOps>(
        &self,
        models: &[Vec<BlockConfig>],
        device: &B::Device,
        progress: impl FnMut(usize, usize) -> bool,
    ) -> Result<Option<Vec<Timing>>, TrainError> {
        let samples = self.samples::<B>(models, LOADS, device, progress)?;
        Ok(samples.map(|samples| samples.iter().map(|own| Timing::of(own)).collect()))
    }

    /// The samples of [`Scale::measure`], `[model][load]`: what a model takes of the dense one's time, with
    /// which it is timed in turn, times what that took when the table was measured. All of them are loaded
    /// anew up to `loads` times, as where a model's memory happens to lie may change its time by a
    /// twentieth.
    ///
    /// # Errors
    /// As [`Scale::measure`].
    pub fn samples<B: FusedOps>(
        &self,
        models: &[Vec<BlockConfig>],
        loads: usize,
        device: &B::Device,
        mut progress: impl FnMut(usize, usize) -> bool,
    ) -> Result<Option<Vec<Vec<f64>>>, TrainError> {
        let runtime = self.check()?;
        let (config, batch) = (&self.table.model, self.table.batch);
        let dense = config.dense_blocks();
        let mut milliseconds: Vec<Vec<f64>> = vec![Vec::new(); models.len()];
        let began = Instant::now();
        for load in 0..loads {
            if load > 0 && began.elapsed().as_secs_f64() > SECONDS {
                break;
            }
            let all = [&dense].into_iter().chain(models);
            let loaded: Result<Vec<_>, TrainError> =
                all.map(|blocks| runtime.load::<B>(config, blocks, batch, device)).collect();
            let mut loaded = loaded?;
            let told = |done, of| progress(load * of + done, loads * of);
            let times = in_turn(loaded.len(), Effort::SHARE, |model| loaded[model](), told)?;
            let Some(times) = times else { return Ok(None) };
            // What else the machine does only adds to the other samples, and adds most to a model that
            // needs several threads at once.
            let fastest = fastest(&times);
            for (milliseconds, own) in milliseconds.iter_mut().zip(&fastest[1..]) {
                milliseconds.push(own / fastest[0] * self.table.dense.median);
            }
        }
        Ok(Some(milliseconds))
    }

    /// What computed the table's times, if it is what would compute now.
    ///
    /// # Errors
    /// [`TrainError::Config`] saying what differs.
    pub fn check(&self) -> Result<Runtime, TrainError> {
        let place = &self.table.place;
        let runtime = Runtime::of(place);
        let now = [
            ("machine", machine::machine(self.device), &place.machine),
            ("device", runtime.device(self.device).to_string(), &place.device),
            ("runtime", runtime.version()?, &place.runtime),
        ];
        let differing = now.into_iter().find(|(_, own, then)| own != *then);
        let threads = machine::threads();
        let differing =
            differing.map(|(what, own, then)| (what, own, then.clone())).or_else(|| {
                (threads != place.threads)
                    .then(|| ("number of threads", threads.to_string(), place.threads.to_string()))
            });
        match differing {
            None => Ok(runtime),
            Some((what, own, then)) => Err(TrainError::Config {
                source_name: "the latency table".into(),
                problem: format!(
                    "its {what} is {then}, and the one here {own}; measure anew with `spvit measure`"
                ),
            }),
        }
    }
}
