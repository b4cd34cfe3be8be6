//! Kernels that a step launches, from CubeCL's log of them, and what they read and write, where wgpu tells it.

use std::{collections::BTreeMap, fs, path::Path, thread::sleep, time::Duration};

use super::{
    STEPS, Worker,
    trace::{self, Traffic},
    worker,
};
use crate::shell::{Failure, release};

/// Backends of CubeCL, whose log it is.
pub const BACKENDS: [&str; 3] = ["cuda", "vulkan", "wgpu"];

/// Steps before the one that is counted: the first compile kernels and try several of them.
const BEFORE: usize = 3;

pub fn failed(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// Prints launches and reserved memory of every step of a shape; on wgpu, the bytes read and written, too.
pub fn print(backend: &str, shape: &str, batch: &str) -> Result<(), Failure> {
    println!("\n{backend}, {shape}, batch {batch}: a step after {BEFORE} others");
    println!(
        "{:16} {:>9} {:>10} {:>12} {:>13}   most of them",
        "step", "launches", "read MiB", "written MiB", "reserved MiB"
    );
    let mut counts = BTreeMap::new();
    for step in STEPS {
        let counted = count(backend, shape, batch, step)?;
        let mib = |bytes: Option<u64>| match bytes {
            Some(bytes) => format!("{:.1}", bytes as f64 / f64::from(1 << 20)),
            None => "–".into(),
        };
        let traffic = counted.traffic.as_ref();
        println!(
            "{step:16} {:>9} {:>10} {:>12} {:>13.0}   {}",
            counted.launches,
            mib(traffic.map(|traffic| traffic.read)),
            mib(traffic.map(|traffic| traffic.written)),
            counted.reserved,
            counted.most
        );
        let bytes = traffic.map(|traffic| (traffic.read + traffic.written) as f64);
        counts.insert(step, (counted.launches as f64, bytes));
    }
    if let (Some(search), Some(dense)) = (counts.get("search"), counts.get("dense")) {
        let bytes = search.1.zip(dense.1);
        let bytes = bytes.map(|(search, dense)| format!(", bytes {:.3}", search / dense));
        let launches = search.0 / dense.0;
        println!("search / dense: launches {launches:.3}{}", bytes.unwrap_or_default());
    }
    Ok(())
}

struct Counted {
    launches: usize,
    traffic: Option<Traffic>,
    reserved: f64,
    most: String,
}

fn count(backend: &str, shape: &str, batch: &str, step: &str) -> Result<Counted, Failure> {
    let folder = release().join("count");
    fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    let folder = folder.canonicalize().map_err(|error| failed(&folder, error))?;
    let log = folder.join("kernels.log");
    if log.exists() {
        fs::remove_file(&log).map_err(|error| failed(&log, error))?;
    }
    // CubeCL reads it from the folder that a program runs in.
    let settings = folder.join("cubecl.toml");
    let text = format!(
        "[profiling]\nlogger = {{ level = \"minimal\", file = {:?} }}\n[autotune]\nlevel = \"minimal\"\n",
        log.display().to_string()
    );
    fs::write(&settings, text).map_err(|error| failed(&settings, error))?;
    let mut command = worker(backend)?;
    command.args(["--shape", shape, "--batch", batch]);
    let traced = folder.join("trace");
    if traced.exists() {
        fs::remove_dir_all(&traced).map_err(|error| failed(&traced, error))?;
    }
    let traces = backend.starts_with("wgpu");
    if traces {
        fs::create_dir(&traced).map_err(|error| failed(&traced, error))?;
        command.arg("--trace").arg(&traced);
    }
    let mut worker = Worker::start(backend, command.current_dir(&folder))?;
    for _ in 0..BEFORE {
        worker.ask(step)?;
    }
    let before = executed(&log)?.len();
    let start = traces.then(|| trace::length(&traced)).transpose()?;
    worker.ask(step)?;
    let names = executed(&log)?.split_off(before);
    let traffic = start.map(|start| trace::traffic(&traced, start)).transpose()?;
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for name in &names {
        *by_name.entry(name).or_default() += 1;
    }
    let mut by_name: Vec<_> = by_name.into_iter().collect();
    by_name.sort_by_key(|&(name, times)| (std::cmp::Reverse(times), name));
    let most = by_name.iter().take(5).map(|(name, times)| format!("{times} {name}"));
    Ok(Counted {
        // The log also has those with nothing to do, which no device sees.
        launches: traffic.as_ref().map_or(names.len(), |traffic| traffic.launches),
        traffic,
        reserved: worker.ask("memory")?,
        most: most.collect::<Vec<_>>().join(", "),
    })
}

/// Names of the kernels in a log, once it has stopped growing: a thread of its own writes it.
fn executed(log: &Path) -> Result<Vec<String>, Failure> {
    let mut length = None;
    loop {
        let now = fs::metadata(log).map_err(|error| failed(log, error))?.len();
        if length.replace(now) == Some(now) {
            break;
        }
        sleep(Duration::from_millis(500));
    }
    Ok(names(&fs::read_to_string(log).map_err(|error| failed(log, error))?))
}

/// Names of kernels without what is in their brackets, which are types.
fn names(log: &str) -> Vec<String> {
    let names = log.lines().filter_map(|line| line.split_once("Executing "));
    names.map(|(_, name)| name.split(['<', ' ']).next().unwrap_or(name).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_named_without_their_types() {
        let log = "Executing ElemwiseFuse | WgpuRuntime\nsomething else\nExecuting reduce<f32>\n";
        assert_eq!(names(log), ["ElemwiseFuse", "reduce"]);
    }
}
