//! Prefixes that wrappers of a model put before every name.

use std::collections::BTreeMap;

use crate::checkpoint::Checkpoint;
use crate::error::Fault;

const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// Removes the wrappers' prefixes from all names, and notes which there were.
pub(crate) fn strip_prefixes(checkpoint: &mut Checkpoint) -> Result<(), Fault> {
    let seen = &mut checkpoint.origin.stripped_prefixes;
    strip(&mut checkpoint.tensors, seen)?;
    strip(&mut checkpoint.origin.skipped, seen)
}

fn strip<V>(map: &mut BTreeMap<String, V>, seen: &mut Vec<String>) -> Result<(), Fault> {
    if !map.keys().any(|name| WRAPPERS.iter().any(|w| name.starts_with(w))) {
        return Ok(());
    }
    for (name, value) in std::mem::take(map) {
        let mut short = name.as_str();
        while let Some((wrapper, rest)) =
            WRAPPERS.iter().find_map(|&w| short.strip_prefix(w).map(|rest| (w, rest)))
        {
            if !seen.iter().any(|s| s == wrapper) {
                seen.push(wrapper.to_owned());
            }
            short = rest;
        }
        if map.insert(short.to_owned(), value).is_some() {
            return Err(Fault::malformed(
                format!("one tensor {short}"),
                format!("two, with and without the prefix {}", seen.join("")),
                "Remove one of them and save the checkpoint again.",
            ));
        }
    }
    Ok(())
}
