//! A run whose budget is one of time.

use std::sync::Arc;

use spvit_core::TrainBackend;
use spvit_layers::BlockConfig;
use spvit_search::{
    Architecture, BlockProbabilities, DeriveError, LatencyTable, Limits, Unit, derive_within,
};

use super::{
    Effort, Request, Runtime, Scale,
    aim::{Aim, Next},
    check_shape, measure, parse_table,
};
use crate::{Event, Phase, Run, TrainError, write_atomically};

impl<B: TrainBackend> Run<'_, B> {
    /// Finds the run's latency table, if a budget is one of time: that of the run folder, or else that
    /// which the configuration names, or else a new one. It is kept in the run folder.
    pub(crate) fn settle_latency(&mut self) -> Result<(), TrainError> {
        if !self.config.has_time_budget() {
            return Ok(());
        }
        let named = self.config.search.latency_table.clone();
        let own = self.folder.latency();
        let searched = |folder: &crate::RunFolder| folder.begun(Phase::Search);
        let begun = searched(&self.folder) || self.folder.parts().iter().any(searched);
        let path = match named.as_os_str().is_empty() || (begun && own.exists()) {
            true => own.clone(),
            false => named,
        };
        let table = match path.exists() || path != own {
            true => {
                let text =
                    std::fs::read_to_string(&path).map_err(|error| TrainError::io(&path, error))?;
                let table = parse_table(&path, &text)?;
                check_shape(&path, &table, &self.config.model)?;
                if path != own {
                    write_atomically(&own, text.as_bytes())?;
                }
                table
            }
            false => self.measure_parts()?,
        };
        self.config.latency = Some(Arc::new(table));
        Ok(())
    }

    /// Measures what the model's parts take, on the run's device, one image at a time.
    fn measure_parts(&mut self) -> Result<LatencyTable, TrainError> {
        let path = self.folder.latency();
        self.say("measuring how long the model's parts take");
        let request = Request {
            config: &self.config.model,
            batch: 1,
            runtime: Runtime::Burn,
            device: &self.backend,
            effort: Effort::TABLE,
        };
        let observer = &mut *self.observer;
        let told = |done, of| {
            observer.event(Event::Timing { done, of });
            !observer.stop_requested()
        };
        let table = measure::<B::InnerBackend>(&request, &self.device, told)?;
        let table =
            table.ok_or(TrainError::Stopped("measuring how long the model's parts take"))?;
        let text = table.to_json().map_err(|error| TrainError::Config {
            source_name: path.display().to_string(),
            problem: error.to_string(),
        })?;
        write_atomically(&path, text.as_bytes())?;
        let share = |share: f64| 100.0 * share;
        self.say(&format!(
            "{table}: the dense model takes {:.4} ms; a sum of parts is off by {:.1} % (median) and at \
             most by {:.1} % on models that nothing was fitted on",
            table.dense.median,
            share(table.error.median),
            share(table.error.largest)
        ));
        Ok(table)
    }

    /// Where this machine is that of the run's table, its scale; otherwise says why not.
    fn scale(&mut self, table: &LatencyTable) -> bool {
        let scale = Scale { table, device: &self.backend };
        match scale.check() {
            Ok(_) => true,
            Err(problem) => {
                self.say_once(&format!("times are those of the table, not measured: {problem}"));
                false
            }
        }
    }

    /// Milliseconds of models in the scale of the run's table; none without one, and where it is that of
    /// another machine.
    pub(crate) fn times_of(&mut self, models: &[Vec<BlockConfig>]) -> Result<Vec<f64>, TrainError> {
        let Some(table) = self.config.latency.clone() else { return Ok(Vec::new()) };
        if !self.scale(&table) {
            return Ok(Vec::new());
        }
        let scale = Scale { table: &table, device: &self.backend };
        let observer = &mut *self.observer;
        let told = |done, of| {
            observer.event(Event::Timing { done, of });
            !observer.stop_requested()
        };
        let times = scale.measure::<B::InnerBackend>(models, Effort::SHARE, &self.device, told)?;
        let times = times.ok_or(TrainError::Stopped("timing models"))?;
        Ok(times.into_iter().map(|time| time.median).collect())
    }

    /// The architecture of these gates, whose measured time is within a budget of time: the table's target
    /// is corrected until it is. Without such a budget, and on another machine than the table's, what the
    /// tables give.
    pub(crate) fn derive_in_time(
        &mut self,
        limits: &Limits,
        probabilities: &[BlockProbabilities],
    ) -> Result<Architecture, TrainError> {
        let config = self.config.clone();
        let derive = |limits: &Limits| {
            derive_within(&config.model, config.search.cost_model, limits, probabilities)
        };
        let time = limits.iter().find(|limit| limit.table.unit == Unit::Milliseconds);
        let budget = time.map(|limit| limit.target);
        let (Some(budget), Some(table)) = (budget, &config.latency) else {
            return Ok(derive(limits)?);
        };
        if !self.scale(table) {
            return Ok(derive(limits)?);
        }
        let mut aim = Aim::new(budget, table.cost_table().dense());
        let mut found: Vec<(Architecture, f64)> = Vec::new();
        let mut smallest: Option<DeriveError> = None;
        let taken = loop {
            match aim.next() {
                Next::Target(target) => match derive(&limits.clone().in_time(target)) {
                    Ok(architecture) => {
                        let reached = self.time_of(&architecture, &found)?;
                        aim.reached(target, reached);
                        found.push((architecture, reached));
                    }
                    Err(error) => {
                        aim.too_small(target);
                        smallest = Some(error);
                    }
                },
                Next::Take(index) => break index,
                Next::Fail => return Err(self.unmet(budget, &found, smallest)),
            }
        };
        let (mut architecture, reached) = found.swap_remove(taken);
        architecture.target_milliseconds = Some(budget);
        let mut line = format!(
            "{reached:.4} ms measured, {:.1} % of the budget of {budget:.4} ms ({} models measured)",
            100.0 * reached / budget,
            found.len() + 1
        );
        if reached < 0.95 * budget {
            line += match architecture.block_configs() == config.model.dense_blocks() {
                true => "; it is the dense model, which takes no more",
                false => {
                    "; no larger model that the gates and budgets give was found within the budget"
                }
            };
        }
        self.say(&line);
        Ok(architecture)
    }

    /// Milliseconds of an architecture, which may have been measured before.
    fn time_of(
        &mut self,
        architecture: &Architecture,
        known: &[(Architecture, f64)],
    ) -> Result<f64, TrainError> {
        let blocks = architecture.block_configs();
        match known.iter().find(|(own, _)| own.block_configs() == blocks) {
            Some((_, time)) => Ok(*time),
            None => Ok(self.times_of(&[blocks])?.first().copied().unwrap_or(f64::NAN)),
        }
    }

    /// The error of a budget that no model meets.
    fn unmet(
        &self,
        budget: f64,
        found: &[(Architecture, f64)],
        smallest: Option<DeriveError>,
    ) -> TrainError {
        let fastest = found.iter().map(|(_, time)| *time).fold(f64::INFINITY, f64::min);
        match smallest {
            Some(error) if found.is_empty() => error.into(),
            _ => TrainError::Config {
                source_name: format!("the budget of {budget:.4} ms"),
                problem: format!(
                    "the fastest model that the gates give takes {fastest:.4} ms as measured; raise the \
                     budget or choose a smaller dense model"
                ),
            },
        }
    }
}
