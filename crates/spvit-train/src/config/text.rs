//! Configurations as TOML and as settings.

use std::path::Path;

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
        let failed = |problem| TrainError::Config { source_name: "--set".into(), problem };
        // With every value in the table, a setting can be anywhere in it.
        let table = toml::Table::try_from(self).map_err(|error| failed(error.to_string()));
        let mut table = table?;
        for setting in settings {
            apply(&mut table, setting)?;
        }
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

/// Applies `a.b=value`, where the value is TOML or, failing that, a string.
fn apply(table: &mut toml::Table, setting: &str) -> Result<(), TrainError> {
    let failed =
        |problem: String| TrainError::Config { source_name: format!("--set {setting}"), problem };
    let Some((path, text)) = setting.split_once('=') else {
        return Err(failed("expected key=value, such as search.budget=0.5".into()));
    };
    let value = match format!("value = {text}").parse::<toml::Table>() {
        Ok(mut parsed) => parsed.remove("value"),
        Err(_) => None,
    };
    let value = value.unwrap_or_else(|| toml::Value::String(text.trim().to_string()));
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
    // What earlier versions called it.
    let last = if path.trim() == "run.shards" { "micro_batches" } else { last };
    // An integer is taken where a number with a fraction is expected.
    inner.insert(last.to_string(), value);
    Ok(())
}
