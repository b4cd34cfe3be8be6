//! In what the configurations of runs differ.

use std::collections::BTreeMap;

use crate::{
    Record,
    numbers::shortened,
    page::{Section, Table},
};

/// The values in which the configurations differ.
pub(crate) fn settings(runs: &[&Record], names: &[String]) -> Option<Section> {
    let tables: Vec<BTreeMap<String, String>> =
        runs.iter().map(|run| values(run.config_text.as_deref().unwrap_or_default())).collect();
    let mut keys: Vec<&String> = tables.iter().flat_map(BTreeMap::keys).collect();
    keys.sort();
    keys.dedup();
    let differs = |key: &&&String| tables.iter().any(|own| own.get(**key) != tables[0].get(**key));
    let rows: Vec<Vec<String>> = keys
        .iter()
        .filter(differs)
        .map(|key| {
            let value = |own: &BTreeMap<String, String>| {
                own.get(*key).map_or_else(|| "–".into(), |value| shortened(value, 120))
            };
            std::iter::once((*key).clone()).chain(tables.iter().map(value)).collect()
        })
        .collect();
    if rows.is_empty() {
        return None;
    }
    let numbered = names.iter().enumerate().map(|(i, name)| format!("{}. {name}", i + 1));
    Some(Section {
        id: "settings",
        title: "What was set otherwise".into(),
        tables: vec![Table {
            head: std::iter::once("value".to_string()).chain(numbered).collect(),
            rows,
            ..Table::default()
        }],
        ..Section::default()
    })
}

/// Every value of a configuration by its dotted key.
fn values(text: &str) -> BTreeMap<String, String> {
    fn flatten(prefix: &str, value: toml::Value, values: &mut BTreeMap<String, String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                    flatten(&key, value, values);
                }
            }
            value => {
                values.insert(prefix.to_string(), value.to_string());
            }
        }
    }
    let mut values = BTreeMap::new();
    // What cannot be read is among the run's problems.
    if let Ok(table) = text.parse::<toml::Table>() {
        flatten("", toml::Value::Table(table), &mut values);
    }
    values
}
