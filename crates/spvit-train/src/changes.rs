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
            let (old, new) = (old.to_string(), new.to_string());
            return Err(TrainError::Fixed { key, old, new, reason });
        }
    }
    Ok(())
}

/// What in the folder depends on a key, and how to begin anew.
fn fixed_by(folder: &RunFolder, key: &str) -> Option<String> {
    let any_in_progress = || Phase::ALL.into_iter().any(|phase| folder.in_progress(phase));
    let section = key.split_once('.').map_or("", |(section, _)| section);
    let (fixed, remedy) = match key {
        "data.threads" | "data.test_limit" | "run.checkpoint_seconds" => return None,
        "finetune.init" => {
            (folder.pruned().exists(), "remove pruned.safetensors to prune anew".to_string())
        }
        // A searched model can be pruned to more than one budget.
        "search.budget" if folder.searched().exists() => {
            let remedy = "remove architecture.json to derive another";
            (folder.architecture().exists(), remedy.to_string())
        }
        "dense.weights" => (folder.begun(Phase::Search), "start a new run".to_string()),
        "run.evaluation_batch" => (any_in_progress(), "finish the phase first".to_string()),
        _ => match Phase::ALL.into_iter().find(|phase| phase.name() == section) {
            Some(Phase::Finetune) => {
                let remedy =
                    "remove compact.safetensors and checkpoints/finetune-* to fine-tune anew";
                (folder.begun(Phase::Finetune), remedy.to_string())
            }
            Some(phase) => (folder.begun(phase), "start a new run".to_string()),
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

/// Every value by its dotted key.
fn values(config: &RunConfig) -> Result<Vec<(String, Value)>, TrainError> {
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
        assert!(error.contains("architecture.json") && error.contains("0.6"), "{error}");
    }
}
