//! JSON that a person can read and edit.

use serde::Serialize;
use serde_json::{Error, Value};

/// Every element of a list as one line.
pub(crate) fn lines(values: &[impl Serialize]) -> Result<String, Error> {
    let lines: Result<Vec<String>, _> = values.iter().map(serde_json::to_string).collect();
    Ok(lines?.join(",\n    "))
}

/// A value as JSON with one line for each element of the lists that are named, given by [`lines`].
pub(crate) fn with_lines(
    value: &impl Serialize,
    lists: &[(&str, String)],
) -> Result<String, Error> {
    let mut head = serde_json::to_value(value)?;
    if let Some(map) = head.as_object_mut() {
        map.extend(lists.iter().map(|(name, _)| (name.to_string(), Value::Array(Vec::new()))));
    }
    let text = serde_json::to_string_pretty(&head)? + "\n";
    Ok(lists.iter().fold(text, |text, (name, lines)| {
        let from = format!("\"{name}\": []");
        text.replacen(&from, &format!("\"{name}\": [\n    {lines}\n  ]"), 1)
    }))
}
