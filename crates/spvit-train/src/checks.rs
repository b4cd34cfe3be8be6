//! What a run checks before its first step.

use burn::tensor::backend::Backend;
use spvit_core::{Precision, TrainBackend};
use spvit_interchange::weights::read_architecture;
use spvit_search::{Architecture, Budget};

use crate::{
    Phase, Run, TrainError,
    config::{InitialWeights, TrainingConfig},
    folder::{Part, write_atomically},
    results,
};

impl<B: TrainBackend> Run<'_, B> {
    /// Holds the results in the folder against what the run has now.
    pub(crate) fn check_results(&mut self) -> Result<(), TrainError> {
        let mut unknown = Vec::new();
        for phase in Phase::ALL {
            let path = self.folder.result(phase);
            if !path.exists() {
                continue;
            }
            let begun_with = match phase {
                Phase::Finetune => results::about(&self.folder.pruned()).checksum,
                Phase::Search => results::file_digest(&self.search_begins_with()),
                Phase::Transfer => results::file_digest(&self.config.dense.weights),
                Phase::Pretrain => None,
            };
            let now = self.origin(phase)?.beginning_with(begun_with);
            match results::about(&path).origin {
                Some(before) => {
                    if let Some(remark) = before.check(&now, (&self.folder, phase), &path, false)? {
                        self.say(&format!("{}: {remark}", path.display()));
                    }
                }
                None => unknown.push(path.display().to_string()),
            }
        }
        if !unknown.is_empty() {
            self.say(&format!(
                "{}: written by an earlier version; configuration, images and device cannot be checked",
                unknown.join(", ")
            ));
        }
        Ok(())
    }

    /// Whether `architecture.json` is what the pruned model was cut to; one that is gone is written
    /// anew.
    pub(crate) fn check_architecture(&mut self) -> Result<(), TrainError> {
        let (pruned, json) = (self.folder.pruned(), self.folder.architecture());
        let Some(text) = results::about(&pruned).architecture else { return Ok(()) };
        let own = Architecture::from_json(&text)
            .map_err(|error| TrainError::Architecture { path: pruned.clone(), error })?;
        let (other, budgets) = (own.budgets(), self.config.budgets());
        if !other.is_empty() && other != budgets {
            let shown = |all: &[Budget]| {
                let all = all.iter().map(Budget::to_string);
                all.collect::<Vec<_>>().join(" and ")
            };
            return Err(TrainError::Mixed {
                path: pruned,
                problem: format!(
                    "it was cut to {}, and the budget is {} now; --redo prune cuts it anew",
                    shown(&other),
                    shown(&budgets)
                ),
            });
        }
        if !json.exists() {
            self.say(&format!("{} was gone; it is that of {}", json.display(), pruned.display()));
            return write_atomically(&json, text.as_bytes());
        }
        match read_architecture(&json)? == own {
            true => Ok(()),
            false => Err(TrainError::Mixed {
                path: json,
                problem: format!(
                    "it is not what {} was cut to; `spvit prune --out {}` cuts to it, --redo prune \
                     derives it anew",
                    pruned.display(),
                    self.folder.root().display()
                ),
            }),
        }
    }

    /// Whether what is left of a run can be done, as far as can be known before its first step.
    pub(crate) fn check_plan(&mut self) -> Result<(), TrainError> {
        let weights = self.config.dense.weights.clone();
        let transfers = self.config.dense.transfer && !self.folder.transferred().exists();
        let needed = transfers || !self.config.dense.transfer;
        if needed && !weights.as_os_str().is_empty() && !weights.exists() {
            let hint = "put dense.weights back, which the run still needs".to_string();
            return Err(TrainError::Missing { path: weights, hint });
        }
        let folder = self.folder.clone();
        if !folder.searched().exists() && !folder.pruned().exists() {
            self.check_batch(Phase::Search, &self.config.search.training())?;
        }
        if folder.compact().exists() {
            return Ok(());
        }
        self.check_batch(Phase::Finetune, &self.config.finetune.training())?;
        if folder.pruned().exists() && !folder.architecture().exists() {
            self.settle_budget()?;
        }
        let prunes = !folder.pruned().exists();
        let needs_dense = prunes && self.config.finetune.init == InitialWeights::Dense;
        let named = !self.config.finetune.teacher.as_os_str().is_empty();
        if named {
            self.teacher()?;
        }
        if transfers {
            self.check_batch(Phase::Transfer, &self.config.transfer.clone())?;
            // Its head will be of these classes.
            return Ok(());
        }
        if needs_dense && !self.dense_path().exists() {
            let hint = "finetune.init = \"dense\" needs the dense model's weights".to_string();
            return Err(TrainError::Missing { path: self.dense_path(), hint });
        }
        match named {
            true => Ok(()),
            false => self.teacher().map(drop),
        }
    }

    /// A person removes `architecture.json` to prune to another budget; a crash of an earlier version
    /// could lose it, too.
    fn settle_budget(&mut self) -> Result<(), TrainError> {
        let text = results::about(&self.folder.pruned()).architecture.unwrap_or_default();
        let budgets = Architecture::from_json(&text).ok().map(|own| own.budgets());
        match budgets == Some(self.config.budgets()) {
            true => self.check_architecture(),
            false => self.folder.begin_anew(Part::Prune),
        }
    }

    /// Whether the device has the products that `run.precision` asks for.
    fn check_precision(&self) -> Result<(), TrainError> {
        let precision = self.config.run.precision;
        let known =
            B::EMULATED || B::InnerBackend::supports_dtype(self.device(), precision.dtype());
        match precision == Precision::F32 || known {
            true => Ok(()),
            false => Err(TrainError::Config {
                source_name: format!("run.precision = {:?}", precision.name()),
                problem: format!(
                    "{} has no such numbers on this machine; use f32, or bf16 or f16 in its place",
                    self.backend
                ),
            }),
        }
    }

    /// Whether there are images for a batch.
    pub(crate) fn check_batch(
        &self,
        phase: Phase,
        training: &TrainingConfig,
    ) -> Result<(), TrainError> {
        self.check_precision()?;
        self.check_pieces(phase, training)?;
        let images = self.data.train.len();
        match training.batch_size <= images {
            true => Ok(()),
            false => Err(TrainError::Config {
                source_name: format!("{phase}.batch_size = {}", training.batch_size),
                problem: format!("there are {images} training images"),
            }),
        }
    }
}
