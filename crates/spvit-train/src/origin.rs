//! What a result or a checkpoint was computed with, to be held against what a resumed run has now.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    Phase, RunConfig, RunFolder, TrainError,
    changes::{fixed_by, shown, values},
};

/// Configuration, images and device of a computation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The values of the configuration that it depends on, by dotted key, as TOML.
    pub settings: BTreeMap<String, String>,
    /// SHA-256 over training and validation images.
    pub data: String,
    /// The device's name.
    pub device: String,
    /// Of the weights that it began with: SHA-256 of the dense model's file, or the checksum of the
    /// pruned model.
    pub from: Option<String>,
}

/// Values that change no weight, and paths: what lies there is compared instead.
const FREE: [&str; 6] = [
    "data.folder",
    "data.threads",
    "data.test_limit",
    "dense.weights",
    "run.checkpoint_seconds",
    "run.evaluation_batch",
];

impl Origin {
    /// Of a phase.
    ///
    /// # Errors
    /// [`TrainError::Config`] if a value has no TOML form.
    pub fn new(
        config: &RunConfig,
        phase: Phase,
        (data, device): (&str, &str),
    ) -> Result<Self, TrainError> {
        let others = Phase::ALL.map(Phase::name);
        let matters = |key: &str| {
            let section = key.split_once('.').map_or("", |(section, _)| section);
            !FREE.contains(&key) && (section == phase.name() || !others.contains(&section))
        };
        let values = values(config)?.into_iter().filter(|(key, _)| matters(key));
        Ok(Self {
            settings: values.map(|(key, value)| (key, shown(&value))).collect(),
            data: data.to_string(),
            device: device.to_string(),
            from: None,
        })
    }

    /// The same, of a computation that began with weights of this checksum.
    pub fn beginning_with(self, from: Option<String>) -> Self {
        Self { from, ..self }
    }

    /// Whether what `path` holds may be used by a run that has `now`; `going_on` if its computation
    /// goes on. Values that either does not know are not compared. Gives a remark, if there is one.
    ///
    /// # Errors
    /// [`TrainError::Fixed`] or [`TrainError::Mixed`], which say what to do.
    pub(crate) fn check(
        &self,
        now: &Self,
        (folder, phase): (&RunFolder, Phase),
        path: &Path,
        going_on: bool,
    ) -> Result<Option<String>, TrainError> {
        for (key, old) in &self.settings {
            // What the search's result is pruned to may differ from what it was searched for.
            if key == "search.budget" && !going_on {
                continue;
            }
            let Some(new) = now.settings.get(key).filter(|new| *new != old) else { continue };
            if let Some(reason) = fixed_by(folder, key) {
                let (key, old, new) = (key.clone(), old.clone(), new.clone());
                return Err(TrainError::Fixed { key, old, new, reason });
            }
        }
        let mixed = |problem: String| Err(TrainError::Mixed { path: path.to_path_buf(), problem });
        if self.data != now.data {
            return mixed(format!(
                "it was computed with other training images than data.folder holds now; put those \
                 back, or do the phase anew with --redo {phase}"
            ));
        }
        if let (Some(old), Some(new)) = (&self.from, &now.from)
            && old != new
        {
            let place = match phase {
                Phase::Finetune => "pruned.safetensors",
                Phase::Pretrain | Phase::Search => "the dense model's file",
            };
            return mixed(format!(
                "it began with other weights than {place} holds now; put those back, or do the phase \
                 anew with --redo {phase}"
            ));
        }
        match (self.device == now.device, going_on) {
            (true, _) => Ok(None),
            (false, true) => mixed(format!(
                "it was begun on {old}; go on with --device {old}, or do the phase anew with --redo \
                 {phase}",
                old = self.device
            )),
            (false, false) => Ok(Some(format!("it was computed on {}", self.device))),
        }
    }
}
