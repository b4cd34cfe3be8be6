//! In what the configurations of runs differ.

use std::collections::BTreeMap;

use crate::{
    Record,
    numbers::shortened,
    page::{Section, Table},
};

/// The values in which the configurations differ.
pub(crate) fn settings(runs: &[&Record], names: &[String]) -> Option<Section> {
    // A configuration that cannot be read is among its run's problems.
    let values = |run: &&Record| run.config.as_ref().and_then(|own| own.values().ok());
    let tables: Vec<BTreeMap<String, String>> =
        runs.iter().map(|run| values(run).unwrap_or_default()).collect();
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
