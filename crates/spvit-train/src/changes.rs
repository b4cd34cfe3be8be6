//! Which values of a run's configuration may still change.

use std::collections::BTreeMap;

use toml::Value;

use crate::{Phase, RunConfig, RunFolder, TrainError};

/// Checks that a run may go on with a changed configuration: a value is fixed as soon as something
/// in the folder was computed with it.
///
/// # Errors
/// [`TrainError::Fixed`] naming the first such value.
pub fn check_changes(
    folder: &RunFolder,
    before: &RunConfig,
    after: &RunConfig,
) -> Result<(), TrainError> {
    let (old, new) = (before.values()?, after.values()?);
    match differing(&old, &new).find_map(|key| Some((key, fixed_by(folder, key)?))) {
        None => Ok(()),
        Some((key, reason)) => {
            let [old, new] = [&old, &new].map(|values| values.get(key).cloned());
            Err(fixed(key, old, new, reason))
        }
    }
}

/// The keys whose values differ, or which only one has.
pub(crate) fn differing<'a>(
    old: &'a BTreeMap<String, String>,
    new: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = &'a String> {
    let gone = old.iter().filter(|(key, value)| new.get(*key) != Some(value));
    let added = new.iter().filter(|(key, _)| !old.contains_key(*key));
    gone.chain(added).map(|(key, _)| key)
}

/// The error of a value that may not change; one that is absent has no value.
pub(crate) fn fixed(
    key: &str,
    old: Option<String>,
    new: Option<String>,
    reason: String,
) -> TrainError {
    let [old, new] = [old, new].map(|value| value.unwrap_or_else(|| "none".into()));
    TrainError::Fixed { key: key.into(), old, new, reason }
}

/// Values that change no weight, and a path: the images that lie there are compared instead.
pub(crate) const CHANGE_NOTHING: [&str; 6] = [
    "data.folder",
    "data.threads",
    "data.test_limit",
    "data.images.broken_limit",
    "run.checkpoint_seconds",
    "run.timing_seconds",
];

/// Keys, and sections, that a configuration may leave out, which means something: what was computed
/// before there was such a key was computed without.
const OPTIONAL: [&str; 6] = [
    "augment.random_resized_crop",
    "data.images.classes",
    "data.images.mean",
    "data.images.std",
    "data.images.validation_share",
    "data.transform",
];

/// Whether a configuration without this key means another thing than one with it.
pub(crate) fn is_optional(key: &str) -> bool {
    OPTIONAL.iter().any(|own| {
        key.strip_prefix(own).is_some_and(|rest| matches!(rest.bytes().next(), None | Some(b'.')))
    })
}

/// What in the folder depends on a key, and how to begin anew.
pub(crate) fn fixed_by(folder: &RunFolder, key: &str) -> Option<String> {
    let any_in_progress = || Phase::ALL.into_iter().any(|phase| folder.in_progress(phase));
    let section = key.split_once('.').map_or("", |(section, _)| section);
    let (fixed, remedy) = match key {
        key if CHANGE_NOTHING.contains(&key) => return None,
        "finetune.init" | "finetune.refit" => {
            (folder.pruned().exists(), "--redo prune prunes anew".to_string())
        }
        // A searched model can be pruned to more than one budget.
        "search.budget" | "search.budget_unit" | "search.further_budgets" | "search.round"
            if folder.searched().exists() =>
        {
            (folder.architecture().exists(), "--redo prune derives another".to_string())
        }
        "dense.weights" | "dense.transfer" if folder.begun(Phase::Transfer) => {
            (true, again(Phase::Transfer))
        }
        "dense.weights" | "dense.transfer" => (folder.begun(Phase::Search), again(Phase::Search)),
        "run.evaluation_batch" => (any_in_progress(), "finish the phase first".to_string()),
        _ => match Phase::ALL.into_iter().find(|phase| phase.name() == section) {
            Some(phase) => (folder.begun(phase), again(phase)),
            None if section == "augment" => {
                (any_in_progress(), "finish the phase first, or start a new run".to_string())
            }
            None => {
                let begun = Phase::ALL.into_iter().any(|phase| folder.begun(phase));
                (begun, "start a new run".to_string())
            }
        },
    };
    fixed.then_some(remedy)
}

/// How to change a value of a phase after all.
fn again(phase: Phase) -> String {
    let later = match phase {
        Phase::Pretrain | Phase::Transfer => ", and all that was computed from its result,",
        Phase::Search => ", pruning and fine-tuning",
        Phase::Finetune => "",
    };
    format!("--redo {phase} does the {phase}{later} anew")
}

/// A value as TOML, a large number with its exponent.
fn shown(value: &Value) -> String {
    match value {
        Value::Float(value) if value.abs() >= 1e16 => format!("{value:e}"),
        value => value.to_string(),
    }
}

impl RunConfig {
    /// Every value by its dotted key, as TOML.
    ///
    /// # Errors
    /// [`TrainError::Config`] if a value has no TOML form.
    pub fn values(&self) -> Result<BTreeMap<String, String>, TrainError> {
        let table = Value::try_from(self).map_err(|error| TrainError::Config {
            source_name: "configuration".into(),
            problem: error.to_string(),
        })?;
        let mut values = Vec::new();
        flatten("", table, &mut values);
        Ok(values.into_iter().map(|(key, value)| (key, shown(&value))).collect())
    }
}

/// The values of nested tables, by dotted key.
pub(crate) fn flatten(prefix: &str, value: Value, values: &mut Vec<(String, Value)>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(&key, value, values);
            }
        }
        value => values.push((prefix.to_string(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_config;

    fn check(folder: &RunFolder, setting: &str) -> Result<(), String> {
        let before = RunConfig::default();
        let after = RunConfig::parse("", "test", &[setting.to_string()]).unwrap();
        check_changes(folder, &before, &after).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_fixed_by_what_depends_on_them() {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(place.path()).unwrap();
        write_config(&folder, &RunConfig::default()).unwrap();
        for setting in ["model.depth=2", "search.budget=0.5", "finetune.epochs=9", "seed=4"] {
            check(&folder, setting).unwrap();
        }

        std::fs::write(folder.searched(), "").unwrap();
        check(&folder, "search.budget=0.5").unwrap();
        check(&folder, "finetune.epochs=9").unwrap();
        check(&folder, "data.threads=0").unwrap();
        for setting in ["model.depth=2", "search.lambda=3.0", "seed=4", "dense.weights=a"] {
            let error = check(&folder, setting).unwrap_err();
            assert!(error.contains(setting.split('=').next().unwrap()), "{error}");
        }

        // What only one of them has is no shift of all that follows.
        for (setting, key) in [
            ("data.images.mean=[0.5]", "data.images.mean = "),
            ("data.transform.crop_pct=0.9", "data.transform."),
        ] {
            let error = check(&folder, setting).unwrap_err();
            assert!(error.starts_with(key) && error.contains("begun with none"), "{error}");
        }
        check(&folder, "data.images.broken_limit=0.5").unwrap();

        std::fs::write(folder.architecture(), "").unwrap();
        let error = check(&folder, "search.budget=0.5").unwrap_err();
        assert!(error.contains("--redo prune") && error.contains("0.6"), "{error}");
    }
}
