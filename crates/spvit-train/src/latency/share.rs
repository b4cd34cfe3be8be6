//! What a model takes of the dense one's time.

use spvit_core::FusedOps;
use spvit_layers::BlockConfig;
use spvit_search::{LatencyTable, Timing};

use super::{Effort, Runtime, in_turn, machine, shares};
use crate::TrainError;

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
    /// table was measured: what they take of the dense model's time, with which they are timed in turn,
    /// times what that took then. `None` where `progress` says no.
    ///
    /// # Errors
    /// [`TrainError::Config`] if the table is of another machine, device, runtime or number of threads.
    pub fn measure<B: FusedOps>(
        &self,
        models: &[Vec<BlockConfig>],
        effort: Effort,
        device: &B::Device,
        progress: impl FnMut(usize, usize) -> bool,
    ) -> Result<Option<Vec<Timing>>, TrainError> {
        let runtime = self.check()?;
        let (config, batch) = (&self.table.model, self.table.batch);
        let dense = config.dense_blocks();
        let all = [&dense].into_iter().chain(models);
        let loaded: Result<Vec<_>, TrainError> =
            all.map(|blocks| runtime.load::<B>(config, blocks, batch, device)).collect();
        let mut loaded = loaded?;
        let times = in_turn(loaded.len(), effort, |model| loaded[model](), progress)?;
        let scaled = |times: Vec<Vec<f64>>| {
            let own = |model: usize| {
                let shares = shares(&times, model).into_iter();
                Timing::of(&shares.map(|share| share * self.table.dense.median).collect::<Vec<_>>())
            };
            (1..times.len()).map(own).collect()
        };
        Ok(times.map(scaled))
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
