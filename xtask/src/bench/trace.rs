//! Bytes that kernels read and write, from what wgpu writes down of a device.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
};

use super::count::failed;
use crate::shell::Failure;

/// What a stretch of a trace makes kernels do. A buffer that a kernel is bound to counts whole, also where it
/// takes a part of it, and once, however often it comes back to it.
#[derive(Debug, Default, PartialEq)]
pub struct Traffic {
    pub launches: usize,
    pub read: u64,
    pub written: u64,
}

/// Whether a kernel reads and whether it writes each of its buffers.
type Uses = Vec<[bool; 2]>;

/// What later lines of a trace speak of by numbers, which are given again once their owner is gone.
#[derive(Default)]
struct Known {
    modules: HashMap<u64, Uses>,
    pipelines: HashMap<u64, Uses>,
    groups: HashMap<u64, Vec<u64>>,
}

/// Length of a folder's trace, from where a later stretch of it begins.
pub fn length(folder: &Path) -> Result<u64, Failure> {
    let path = folder.join("trace.ron");
    Ok(fs::metadata(&path).map_err(|error| failed(&path, error))?.len())
}

/// What a folder's trace tells from `start` on.
pub fn traffic(folder: &Path, start: u64) -> Result<Traffic, Failure> {
    let path = folder.join("trace.ron");
    let file = File::open(&path).map_err(|error| failed(&path, error))?;
    let source = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(|error| failed(&path, error))
    };
    parse(BufReader::new(file).lines(), start, source, |error| failed(&path, error))
}

/// A line that begins in the first column names an action; those below it are its fields.
fn parse(
    lines: impl Iterator<Item = std::io::Result<String>>,
    start: u64,
    source: impl Fn(&str) -> Result<String, Failure>,
    unread: impl Fn(std::io::Error) -> Failure,
) -> Result<Traffic, Failure> {
    let (mut known, mut traffic) = (Known::default(), Traffic::default());
    let (mut action, mut own, mut of) = (String::new(), 0, 0);
    let mut place = 0;
    for line in lines {
        let line = line.map_err(&unread)?;
        let counted = place >= start;
        place += line.len() as u64 + 1;
        let field = line.trim_start();
        if field.len() == line.len() {
            action = field.split('(').next().unwrap_or_default().to_string();
            if action == "CreateBindGroup" {
                own = number(field).unwrap_or_default();
                known.groups.insert(own, Vec::new());
            }
            continue;
        }
        match action.as_str() {
            "CreateShaderModule" | "CreateComputePipeline" if field.starts_with("id: ") => {
                own = number(field).unwrap_or_default();
            }
            "CreateShaderModule" => {
                if let Some(name) = field.strip_prefix("data: File(\"") {
                    let name = name.split('"').next().unwrap_or_default();
                    known.modules.insert(own, uses(&source(name)?));
                }
            }
            "CreateComputePipeline" if field.starts_with("module: ") => {
                if let Some(uses) = number(field).and_then(|module| known.modules.get(&module)) {
                    known.pipelines.insert(own, uses.clone());
                }
            }
            "CreateBindGroup" => {
                if let Some(size) = field.strip_prefix("size: ") {
                    let size = size.strip_prefix("Some(").and_then(|size| size.split(')').next());
                    let size = size.and_then(|size| size.parse().ok()).ok_or_else(unknown)?;
                    known.groups.entry(own).or_default().push(size);
                }
            }
            "Submit" if field.starts_with("SetPipeline(") => {
                own = number(field).unwrap_or_default();
            }
            "Submit" if field.starts_with("bind_group: ") => {
                of = number(field).unwrap_or_default();
            }
            "Submit" if counted && field.starts_with("Dispatch") => {
                traffic.launches += 1;
                let kernel = known.pipelines.get(&own).zip(known.groups.get(&of));
                let Some((uses, sizes)) = kernel.filter(|(uses, sizes)| sizes.len() >= uses.len())
                else {
                    return Err(unknown());
                };
                for (&[read, written], size) in uses.iter().zip(sizes) {
                    traffic.read += size * u64::from(read);
                    traffic.written += size * u64::from(written);
                }
            }
            _ => {}
        }
    }
    Ok(traffic)
}

/// What was read is not what this reads.
fn unknown() -> Failure {
    Failure::new(
        "wgpu's trace runs a kernel whose buffers it does not describe; another version of wgpu may write it \
         otherwise than xtask/src/bench/trace.rs reads it",
    )
}

/// That of `PointerId(..)` in a field.
fn number(field: &str) -> Option<u64> {
    field.split_once("PointerId(")?.1.split(')').next()?.parse().ok()
}

/// How a kernel in WGSL uses the buffers that it declares as `buffer_0_global`, `buffer_1_global`, ...
fn uses(kernel: &str) -> Uses {
    let mut uses = Uses::new();
    for line in kernel.lines().map(str::trim).filter(|line| !line.starts_with("var<")) {
        for (at, _) in line.match_indices("buffer_") {
            let rest = &line[at + "buffer_".len()..];
            let digits = rest.split('_').next().unwrap_or_default();
            let Ok(index) = digits.parse::<usize>() else {
                continue;
            };
            if uses.len() <= index {
                uses.resize(index + 1, [false; 2]);
            }
            let assigned = at == 0 && line.contains("] = ");
            let both = line[..at].ends_with('&');
            uses[index][0] |= !assigned || both;
            uses[index][1] |= assigned || both;
        }
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "var<storage, read_write> buffer_0_global: array<f32>;
var<storage, read_write> buffer_1_global: array<f32>;
let l_1 = buffer_0_global[l_0];
buffer_1_global[l_0] = l_1;
";

    const TRACE: &str = r#"[
CreateShaderModule(
    id: PointerId(7),
    data: File("data1.wgsl"),
),
CreateComputePipeline(
    id: Some(PointerId(8)),
    desc: (
        stage: (
            module: PointerId(7),
        ),
    ),
),
CreateBindGroup(PointerId(9), (
    entries: [
        (
            binding: 0,
            resource: Buffer((
                size: Some(80),
            )),
        ),
        (
            binding: 1,
            resource: Buffer((
                size: Some(40),
            )),
        ),
        (
            binding: 2,
            resource: Buffer((
                size: Some(16),
            )),
        ),
    ],
)),
Submit(1, [
    RunComputePass(
                SetPipeline(PointerId(8)),
                SetBindGroup(
                    bind_group: Some(PointerId(9)),
                ),
                Dispatch((2, 1, 1)),
    ),
]),
Submit(2, [
                SetPipeline(PointerId(8)),
                SetBindGroup(
                    bind_group: Some(PointerId(9)),
                ),
                Dispatch((2, 1, 1)),
                Dispatch((2, 1, 1)),
]),
"#;

    #[test]
    fn a_stretch_of_a_trace_is_added_up() {
        let read = |text: &str, start| {
            let lines = text.lines().map(|line| Ok(line.to_string()));
            let unread = |error: std::io::Error| Failure::new(error.to_string());
            parse(lines, start, |_| Ok(KERNEL.to_string()), unread)
        };
        let from = |start| read(TRACE, start);
        let all = Traffic { launches: 3, read: 240, written: 120 };
        assert_eq!(from(0).ok(), Some(all));
        let second = TRACE.find("Submit(2").unwrap_or_default() as u64;
        let later = Traffic { launches: 2, read: 160, written: 80 };
        assert_eq!(from(second).ok(), Some(later));
        for gone in ["CreateComputePipeline", "Some(40)", "CreateBindGroup"] {
            assert!(read(&TRACE.replace(gone, "None"), 0).is_err(), "{gone}");
        }
    }

    #[test]
    fn kernels_read_and_write_their_buffers() {
        let kernel =
            "buffer_2_global[l_1][0] = l_3;\nlet l_4 = buffer_2_global[l_1] + buffer_0_global[0];";
        assert_eq!(uses(kernel), [[true, false], [false, false], [true, true]]);
        assert_eq!(uses("atomicAdd(&buffer_0_global[l_1], l_2);"), [[true, true]]);
    }
}
