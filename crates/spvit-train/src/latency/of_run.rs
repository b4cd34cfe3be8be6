//! A run whose budget is one of time.

use std::sync::Arc;

use spvit_core::TrainBackend;
use spvit_layers::BlockConfig;
use spvit_search::LatencyTable;

use super::{Effort, Request, Runtime, Scale, check_shape, measure, medians, parse_table};
use crate::{Event, LATENCY_BATCH, Phase, Run, TrainError, write_atomically};

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
        let table = measure::<B::InnerBackend>(&request, self.devices.first(), told)?;
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
    pub(super) fn scale(&mut self, table: &LatencyTable) -> bool {
        let scale = Scale { table, device: &self.backend };
        match scale.check() {
            Ok(_) => true,
            Err(problem) => {
                self.say_once(&format!("times are those of the table, not measured: {problem}"));
                false
            }
        }
    }

    /// Median seconds of models in onnxruntime, of one image and of a batch; none where its library is not
    /// named, and, which is said, where it cannot be used.
    pub(crate) fn in_onnxruntime(&mut self, models: &[Vec<BlockConfig>]) -> Vec<[f64; 2]> {
        if !cfg!(feature = "onnxruntime") || std::env::var_os("ORT_DYLIB_PATH").is_none() {
            return Vec::new();
        }
        let times = [1, LATENCY_BATCH].map(|batch| self.in_onnxruntime_of(batch, models));
        match times {
            [Ok(one), Ok(batch)] => one.into_iter().zip(batch).map(<[f64; 2]>::from).collect(),
            [Err(problem), _] | [_, Err(problem)] => {
                self.say_once(&problem.to_string());
                Vec::new()
            }
        }
    }

    fn in_onnxruntime_of(
        &self,
        batch: usize,
        models: &[Vec<BlockConfig>],
    ) -> Result<Vec<f64>, TrainError> {
        let (config, device) = (&self.config.model, self.devices.first());
        let load =
            |blocks| Runtime::OnnxRuntime.load::<B::InnerBackend>(config, blocks, batch, device);
        let mut loaded = models.iter().map(|own| load(own)).collect::<Result<Vec<_>, _>>()?;
        let effort = Effort { least: 3, most: 50, seconds: 5.0 };
        medians(loaded.len(), effort, |model| loaded[model]())
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
        let times = match observer.time_models(scale, models) {
            Some(times) => times?,
            None => {
                let told = |done, of| {
                    observer.event(Event::Timing { done, of });
                    !observer.stop_requested()
                };
                let times = scale.measure::<B::InnerBackend>(models, self.devices.first(), told)?;
                times.ok_or(TrainError::Stopped("timing models"))?
            }
        };
        Ok(times.into_iter().map(|time| time.median).collect())
    }
}
