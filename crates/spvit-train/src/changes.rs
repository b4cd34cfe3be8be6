//! Which values of a run's configuration may still change.

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
    let [old, new] = [before, after].map(values);
    for ((key, old), (_, new)) in old?.into_iter().zip(new?) {
        if old != new
            && let Some(reason) = fixed_by(folder, &key)
        {
            let [old, new] = [old, new].map(|value| shown(&value));
            return Err(TrainError::Fixed { key, old, new, reason });
        }
    }
    Ok(())
}

/// What in the folder depends on a key, and how to begin anew.
pub(crate) fn fixed_by(folder: &RunFolder, key: &str) -> Option<String> {
    let any_in_progress = || Phase::ALL.into_iter().any(|phase| folder.in_progress(phase));
    let section = key.split_once('.').map_or("", |(section, _)| section);
    let (fixed, remedy) = match key {
        // The images themselves are compared.
        "data.folder" | "data.threads" | "data.test_limit" | "run.checkpoint_seconds" => {
            return None;
        }
        "finetune.init" => (folder.pruned().exists(), "--redo prune prunes anew".to_string()),
        // A searched model can be pruned to more than one budget.
        "search.budget" if folder.searched().exists() => {
            (folder.architecture().exists(), "--redo prune derives another".to_string())
        }
        "dense.weights" => (folder.begun(Phase::Search), again(Phase::Search)),
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
        Phase::Pretrain => ", and all that was computed from its result,",
        Phase::Search => ", pruning and fine-tuning",
        Phase::Finetune => "",
    };
    format!("--redo {phase} does the {phase}{later} anew")
}

/// A value as TOML, a large number with its exponent.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Float(value) if value.abs() >= 1e16 => format!("{value:e}"),
        value => value.to_string(),
    }
}

/// Every value by its dotted key.
pub(crate) fn values(config: &RunConfig) -> Result<Vec<(String, Value)>, TrainError> {
    let table = Value::try_from(config).map_err(|error| TrainError::Config {
        source_name: "configuration".into(),
        problem: error.to_string(),
    })?;
    let mut values = Vec::new();
    flatten("", table, &mut values);
    Ok(values)
}

fn flatten(prefix: &str, value: Value, values: &mut Vec<(String, Value)>) {
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

        std::fs::write(folder.architecture(), "").unwrap();
        let error = check(&folder, "search.budget=0.5").unwrap_err();
        assert!(error.contains("--redo prune") && error.contains("0.6"), "{error}");
    }
}
