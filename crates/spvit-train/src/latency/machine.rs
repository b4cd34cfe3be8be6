//! What a machine is called.

use std::{env, fs};

use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// The processor's name, and behind it those of NVIDIA's GPUs where `device` is one and Linux's driver
/// tells.
pub fn machine(device: &str) -> String {
    let processor = processor();
    match device {
        "cuda" | "wgpu" | "vulkan" => {
            let gpus = gpus();
            if gpus.is_empty() { processor } else { format!("{}, {processor}", gpus.join(", ")) }
        }
        _ => processor,
    }
}

fn processor() -> String {
    let wanted = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(wanted);
    let brand = system.cpus().first().map(|cpu| cpu.brand().trim().to_string());
    brand.filter(|name| !name.is_empty()).unwrap_or_else(|| env::consts::ARCH.into())
}

fn gpus() -> Vec<String> {
    let folders = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let name = |folder: fs::DirEntry| {
        let text = fs::read_to_string(folder.path().join("information")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
        Some(line.trim().to_string())
    };
    folders.filter_map(name).collect()
}

/// Today in UTC, as year-month-day.
pub fn today() -> String {
    time::OffsetDateTime::now_utc().date().to_string()
}

/// Threads of the processor that compute.
pub fn threads() -> usize {
    rayon::current_num_threads()
}
