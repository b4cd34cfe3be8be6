//! Whether a model fits into the machine's memory, told before it is asked for.

use std::{fs, path::Path};

use spvit_layers::{BlockConfig, ModelConfig};
use spvit_search::{Architecture, CostTable};

/// How a version of Linux's control groups names things: where they are, a group's limit, what is
/// used of it, its statistics, and their line on files that are only kept in memory.
struct Groups {
    root: &'static str,
    /// What stands before a process's own group in `/proc/self/cgroup`, after the number.
    controller: &'static str,
    most: &'static str,
    used: &'static str,
    cache: &'static str,
}

const GROUPS: [Groups; 2] = [
    Groups {
        root: "/sys/fs/cgroup",
        controller: "::",
        most: "memory.max",
        used: "memory.current",
        cache: "inactive_file ",
    },
    Groups {
        root: "/sys/fs/cgroup/memory",
        controller: ":memory:",
        most: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        cache: "total_inactive_file ",
    },
];

/// Bytes of a weight.
const FLOAT: f64 = 4.0;

/// Whether the weights of a dense model of this shape fit.
///
/// # Errors
/// A sentence that says what they take and what there is.
pub fn check(shape: &ModelConfig) -> Result<(), String> {
    weights(CostTable::parameters(shape).dense())
}

/// Whether the weights of a compact model fit.
///
/// # Errors
/// As [`check`].
pub fn check_architecture(architecture: &Architecture) -> Result<(), String> {
    let table = CostTable::parameters(&architecture.model);
    // Blocks that the table does not know do not fit the model, which building it says.
    weights(architecture.cost(&table).unwrap_or(0.0))
}

/// Whether the weights of several compact models of one shape fit at once.
///
/// # Errors
/// As [`check`].
pub fn check_together(shape: &ModelConfig, models: &[&Vec<BlockConfig>]) -> Result<(), String> {
    let table = CostTable::parameters(shape);
    weights(models.iter().filter_map(|blocks| table.total(blocks)).sum())
}

fn weights(count: f64) -> Result<(), String> {
    let bytes = count * FLOAT;
    match free() {
        Some(free) if bytes > free as f64 => Err(format!(
            "the model takes {:.1} GB for its {count:.1e} weights alone, and {:.1} GB of memory are \
             free: at most {:.1e} weights fit; take a smaller model (model.dim, model.hidden, the \
             depth) or another machine, or raise the limit (ulimit -v, the container's)",
            bytes / 1e9,
            free as f64 / 1e9,
            free as f64 / FLOAT,
        )),
        _ => Ok(()),
    }
}

/// The first number of the line that begins so.
fn number(path: impl AsRef<Path>, start: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(start))?;
    rest.split_whitespace().next()?.parse().ok()
}

impl Groups {
    /// What the process's group and those around it leave.
    fn free(&self) -> Option<u64> {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = text.lines().find_map(|line| {
            let line = line.trim_start_matches(|c: char| c.is_ascii_digit());
            line.strip_prefix(self.controller)
        });
        // A container may show its own group as the root, under which this path is not.
        let path = Path::new(self.root).join(own.unwrap_or("").trim_start_matches('/'));
        let groups = path.ancestors().take_while(|group| group.starts_with(self.root));
        let free = |group: &Path| {
            let most = number(group.join(self.most), "")?;
            let used = number(group.join(self.used), "").unwrap_or(0);
            // What is only kept of files gives way.
            let cache = number(group.join("memory.stat"), self.cache).unwrap_or(0);
            Some(most.saturating_sub(used.saturating_sub(cache)))
        };
        groups.filter_map(free).min()
    }
}

/// Free memory in bytes, within the container's and the process's limits, where Linux says it.
fn free() -> Option<u64> {
    let kilobytes = |path: &str, start: &str| number(path, start).map(|kb| kb.saturating_mul(1024));
    let free = kilobytes("/proc/meminfo", "MemAvailable:")?;
    // `ulimit -v`, in bytes, or `unlimited`.
    let own = number("/proc/self/limits", "Max address space")
        .map(|most| most.saturating_sub(kilobytes("/proc/self/status", "VmSize:").unwrap_or(0)));
    let groups = GROUPS.iter().filter_map(Groups::free);
    Some(groups.chain(own).fold(free, u64::min))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        assert_eq!(weights(0.0), Ok(()));
        if free().is_some() {
            let error = weights(1e18).unwrap_err();
            assert!(error.contains("GB") && error.contains("weights fit"), "{error}");
        }
    }
}
