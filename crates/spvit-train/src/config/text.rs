//! Configurations as TOML and as settings.

use std::{collections::BTreeMap, path::Path};

use super::RunConfig;
use crate::TrainError;

impl RunConfig {
    /// Reads a configuration file and applies `key=value` settings over it.
    ///
    /// # Errors
    /// [`TrainError::Config`] naming the file or setting.
    pub fn read(path: &Path, settings: &[String]) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(|error| TrainError::io(path, error))?;
        Self::parse(&text, &path.display().to_string(), settings)
    }

    /// A configuration from TOML text; `source` names it in errors.
    ///
    /// # Errors
    /// [`TrainError::Config`] naming the source or setting.
    pub fn parse(text: &str, source: &str, settings: &[String]) -> Result<Self, TrainError> {
        let failed = |problem: String| TrainError::Config { source_name: source.into(), problem };
        let config: Self = toml::from_str(text).map_err(|error| failed(one_line(&error, text)))?;
        config.validate().map_err(failed)?;
        let config = config.with(settings)?;
        let source_name = "--set".to_string();
        config.validate().map_err(|problem| TrainError::Config { source_name, problem })?;
        Ok(config)
    }

    /// This configuration with `key=value` settings, unchecked.
    fn with(self, settings: &[String]) -> Result<Self, TrainError> {
        if settings.is_empty() {
            return Ok(self);
        }
        // With every value in the table, a setting can be anywhere in it.
        let mut table = to_table(&self)?;
        for setting in settings {
            apply(&mut table, "--set", setting)?;
        }
        let failed = |problem| TrainError::Config { source_name: "--set".into(), problem };
        table.try_into().map_err(|error: toml::de::Error| failed(one_line(&error, "")))
    }

    /// The configuration as TOML with every value.
    ///
    /// # Errors
    /// [`TrainError::Config`] if a value has no TOML form.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|error| TrainError::Config {
            source_name: "configuration".into(),
            problem: error.to_string(),
        })
    }

    /// The same with a remark after every value that has a source other than the built-in default.
    ///
    /// # Errors
    /// [`TrainError::Config`] if a value has no TOML form.
    pub fn to_toml_with(&self, sources: &BTreeMap<String, String>) -> Result<String, TrainError> {
        let mut section = String::new();
        let line = |line: &str| {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = format!("{name}.");
            }
            let key = line.split_once(" = ").map(|(key, _)| format!("{section}{key}"));
            match key.and_then(|key| sources.get(&key)) {
                // A line break in a path would end the remark.
                Some(source) => format!("{line} # {}\n", source.replace(['\n', '\r'], " ")),
                None => format!("{line}\n"),
            }
        };
        let plain = self.to_toml()?;
        let remarked: String = plain.lines().map(line).collect();
        // A value over several lines, such as a path with a line break, takes no remark.
        let same = toml::from_str::<Self>(&remarked).is_ok_and(|read| read == *self);
        Ok(if same { remarked } else { plain })
    }
}

fn to_table(config: &RunConfig) -> Result<toml::Table, TrainError> {
    toml::Table::try_from(config).map_err(|error| TrainError::Config {
        source_name: "configuration".into(),
        problem: error.to_string(),
    })
}

/// The built-in values.
pub(super) fn defaults() -> Result<toml::Table, TrainError> {
    to_table(&RunConfig::default())
}

/// A file's own values, which are checked for themselves, so that an error has its line.
pub(super) fn read_table(path: &Path) -> Result<toml::Table, TrainError> {
    let text = std::fs::read_to_string(path).map_err(|error| TrainError::io(path, error))?;
    let failed = |error: toml::de::Error| TrainError::Config {
        source_name: path.display().to_string(),
        problem: one_line(&error, &text),
    };
    let table: toml::Table = toml::from_str(&text).map_err(failed)?;
    if table.get("model").is_none_or(|model| model.get("dim").is_some()) {
        toml::from_str::<RunConfig>(&text).map_err(failed)?;
    }
    Ok(table)
}

/// Lays a table's values over another's.
pub(super) fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Whether a table has a model's shape of its own.
pub(super) fn has_shape(table: &toml::Table) -> bool {
    let model = table.get("model").and_then(toml::Value::as_table);
    model.is_some_and(|model| ["dim", "preset"].iter().any(|key| model.contains_key(*key)))
}

/// The built-in values with others over them, without the built-in model where these have a `shape`
/// of their own.
pub(super) fn over_defaults(
    own: toml::Table,
    shape: bool,
    source: &str,
) -> Result<RunConfig, TrainError> {
    let mut table = defaults()?;
    if shape {
        table.remove("model");
    }
    merge(&mut table, own);
    parse_table(table, source)
}

/// A checked configuration; `source` names it in errors.
pub(super) fn parse_table(table: toml::Table, source: &str) -> Result<RunConfig, TrainError> {
    let failed = |problem: String| TrainError::Config { source_name: source.into(), problem };
    let config: RunConfig =
        table.try_into().map_err(|error: toml::de::Error| failed(one_line(&error, "")))?;
    config.validate().map_err(failed)?;
    Ok(config)
}

/// An error's message without line breaks, after the number of the line it points at.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    // The text is empty for settings: their errors name the key.
    let message = match text.is_empty() {
        true => error.to_string(),
        false => error.message().to_string(),
    };
    let mut message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    for (rust, words) in
        [("usize", "a whole number"), ("u64", "a whole number"), ("f64", "a number")]
    {
        message = message.replace(&format!("expected {rust}"), &format!("expected {words}"));
    }
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) if !text.is_empty() => {
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        _ => message,
    }
}

/// Applies `a.b=value`, where the value is TOML or, failing that, a string; gives the key. `name` is
/// what errors call the setting.
pub(super) fn apply(
    table: &mut toml::Table,
    name: &str,
    setting: &str,
) -> Result<String, TrainError> {
    let failed =
        |problem: String| TrainError::Config { source_name: format!("{name} {setting}"), problem };
    let Some((path, text)) = setting.split_once('=') else {
        return Err(failed("expected key=value, such as search.budget=0.5".into()));
    };
    let value = match format!("value = {text}").parse::<toml::Table>() {
        Ok(mut parsed) => parsed.remove("value"),
        Err(_) => None,
    };
    let value = value.unwrap_or_else(|| toml::Value::String(text.trim().to_string()));
    // What earlier versions called it.
    let path = match path.trim() {
        "run.shards" => "run.micro_batches",
        path => path,
    };
    insert(table, path, value).map_err(|error| match error {
        TrainError::Config { problem, .. } => failed(problem),
        error => error,
    })?;
    Ok(path.split('.').map(str::trim).collect::<Vec<_>>().join("."))
}

/// Puts a value at a dotted key.
pub(super) fn insert(
    table: &mut toml::Table,
    path: &str,
    value: toml::Value,
) -> Result<(), TrainError> {
    let failed = |problem: String| TrainError::Config { source_name: path.into(), problem };
    let mut keys: Vec<&str> = path.split('.').map(str::trim).collect();
    let last = keys.pop().filter(|key| !key.is_empty());
    let Some(last) = last else { return Err(failed("the key is empty".into())) };
    let mut inner = table;
    for key in keys {
        let entry = inner.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let Some(next) = entry.as_table_mut() else {
            return Err(failed(format!("'{key}' is a value, not a section")));
        };
        inner = next;
    }
    inner.insert(last.to_string(), value);
    Ok(())
}

/// A text as TOML has it.
pub fn toml_string(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}
