//! What a result or a checkpoint was computed with, to be held against what a resumed run has now.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    Phase, RunConfig, RunFolder, TrainError,
    changes::{CHANGE_NOTHING, differing, fixed, fixed_by, is_optional},
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
    /// SHA-256 of the file of the model that is followed, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
}

/// What a searched model is pruned to.
const BUDGETS: [&str; 4] =
    ["search.budget", "search.budget_unit", "search.further_budgets", "search.round"];

/// Whether a value changes no weight of a phase.
fn free(key: &str) -> bool {
    // What lies at a path is compared instead.
    CHANGE_NOTHING.contains(&key)
        || [
            "dense.weights",
            "finetune.teacher",
            "run.evaluation_batch",
            "search.budgets",
            "search.from",
            "search.latency_table",
        ]
        .contains(&key)
}

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
            !free(key) && (section == phase.name() || !others.contains(&section))
        };
        let values = config.values()?.into_iter().filter(|(key, _)| matters(key));
        Ok(Self {
            settings: values.collect(),
            data: data.to_string(),
            device: device.to_string(),
            from: None,
            teacher: None,
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
        for key in differing(&self.settings, &now.settings) {
            let [old, new] = [self, now].map(|own| own.settings.get(key).cloned());
            // What the search's result is pruned to may differ from what it was searched for.
            let later = BUDGETS.contains(&key.as_str()) && !going_on;
            let known = (old.is_some() && new.is_some()) || is_optional(key);
            if let Some(reason) = fixed_by(folder, key).filter(|_| known && !later) {
                return Err(fixed(key, old, new, reason));
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
                Phase::Pretrain | Phase::Transfer | Phase::Search => "the dense model's file",
            };
            return mixed(format!(
                "it began with other weights than {place} holds now; put those back, or do the phase \
                 anew with --redo {phase}"
            ));
        }
        if let (Some(old), Some(new)) = (&self.teacher, &now.teacher)
            && old != new
        {
            return mixed(format!(
                "it followed another teacher than the run has now (finetune.teacher, or the dense \
                 model): put that back, or do the phase anew with --redo {phase}"
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What was computed before there were certain keys goes on with their defaults.
    #[test]
    fn origins_of_earlier_versions_are_taken() {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(place.path()).unwrap();
        let config = RunConfig::default();
        let now = Origin::new(&config, Phase::Finetune, ("images", "device")).unwrap();
        let now = Origin { teacher: Some("digest".into()), ..now };
        let mut json = serde_json::to_value(&now).unwrap();
        json.as_object_mut().unwrap().remove("teacher");
        let settings = json["settings"].as_object_mut().unwrap();
        for key in ["accumulate", "ema_decay", "teacher_mean", "teacher_std"] {
            assert!(settings.remove(&format!("finetune.{key}")).is_some(), "{key}");
        }
        let before: Origin = serde_json::from_value(json).unwrap();
        let check = |before: &Origin, now: &Origin| {
            before.check(now, (&folder, Phase::Finetune), place.path(), true)
        };
        assert!(check(&before, &now).unwrap().is_none());
        let other = Origin { teacher: Some("another".into()), ..now.clone() };
        let error = check(&now, &other).unwrap_err().to_string();
        assert!(error.contains("another teacher") && error.contains("--redo finetune"), "{error}");
    }
}
