//! Sizes that cannot be, told before memory is asked for.

use spvit_layers::VitConfig;

/// Most trained values of a model: a hundred times those of ViT-Huge.
const PARAMETERS: u128 = 60_000_000_000;

/// Most patches of an image, and most values: attention over more is out of reach.
const PATCHES: u128 = 1_000_000;
const VALUES: u128 = 1 << 32;

/// Parameters of the dense model of a shape, roughly, without overflow.
pub fn parameters(shape: &VitConfig) -> u128 {
    let wide = |value: usize| value as u128;
    let (dim, hidden) = (wide(shape.dim), wide(shape.hidden));
    let patch = wide(shape.channels)
        .saturating_mul(wide(shape.patch_size).saturating_mul(wide(shape.patch_size)));
    let map = wide(shape.image_size[0] / shape.patch_size.max(1))
        .saturating_mul(wide(shape.image_size[1] / shape.patch_size.max(1)));
    let block = dim
        .saturating_mul(dim.saturating_mul(4).saturating_add(hidden.saturating_mul(2)))
        .saturating_add(hidden);
    let ends = patch.saturating_add(map).saturating_add(wide(shape.classes)).saturating_mul(dim);
    block.saturating_mul(wide(shape.depth)).saturating_add(ends)
}

/// Whether a model of this shape can be on this machine.
///
/// # Errors
/// A sentence that says what it would take and what there is.
pub fn check(shape: &VitConfig) -> Result<(), String> {
    let count = parameters(shape);
    let gigabytes = |bytes: u128| bytes as f64 / 1e9;
    if count > PARAMETERS {
        return Err(format!(
            "[model] has some {count:.1e} parameters, more than the {PARAMETERS:.0e} that spvit \
             takes; make model.dim, model.hidden or model.depth smaller",
            count = count as f64,
            PARAMETERS = PARAMETERS as f64,
        ));
    }
    let wide = |value: usize| value as u128;
    let [height, width] = shape.image_size.map(wide);
    let patch = wide(shape.patch_size.max(1));
    let (patches, pixels) =
        ((height / patch).saturating_mul(width / patch), height.saturating_mul(width));
    let values = pixels.saturating_mul(wide(shape.channels));
    if patches > PATCHES || values > VALUES {
        return Err(format!(
            "model.image_size gives {patches} patches and {values} values an image; at most {PATCHES} \
             and {VALUES} are taken"
        ));
    }
    let largest = shape.kernels.iter().max().copied().unwrap_or(1);
    let sides = shape.image_size.map(|side| side / shape.patch_size.max(1));
    if largest > 2 * sides[0].max(sides[1]) + 1 {
        return Err(format!(
            "model.kernels has {largest}, larger than twice the map of {} x {} patches",
            sides[0], sides[1]
        ));
    }
    // The weights alone, as floats.
    let bytes = 4 * count;
    match memory() {
        Some(free) if bytes > u128::from(free) => Err(format!(
            "[model] takes {:.1} GB for its weights alone, and {:.1} GB of memory are free; make \
             model.dim, model.hidden or model.depth smaller",
            gigabytes(bytes),
            gigabytes(u128::from(free))
        )),
        _ => Ok(()),
    }
}

/// [`check`] of the model in an architecture file, if it has one that can be read.
///
/// # Errors
/// As [`check`].
pub fn check_file(path: &std::path::Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let model = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|mut file| {
        serde_json::from_value::<VitConfig>(file.get_mut("model")?.take()).ok()
    });
    model.map_or(Ok(()), |shape| check(&shape))
}

/// Free memory in bytes, within the container's and the process's limits, where Linux says it.
fn memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let info = read("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024);
    let number = |path: &str| read(path).and_then(|text| text.trim().parse::<u64>().ok());
    let most = number("/sys/fs/cgroup/memory.max");
    let used = number("/sys/fs/cgroup/memory.current").unwrap_or(0);
    // `ulimit -v`, in bytes, or `unlimited`.
    let limits = read("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"));
    let own = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let container = most.map(|most| most.saturating_sub(used));
    Some([container, own].into_iter().flatten().fold(free, u64::min))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_cannot_be_are_told_from_those_that_can() {
        for name in ["deit_tiny", "deit_base", "vit_micro"] {
            let shape = VitConfig::preset(name).unwrap();
            assert_eq!(check(&shape), Ok(()), "{name}");
            if name == "deit_base" {
                let count = parameters(&shape) as f64;
                assert!((count / 86.6e6 - 1.0).abs() < 0.01, "{count}");
            }
        }
        let tiny = VitConfig::preset("deit_tiny").unwrap();
        for shape in [
            VitConfig { dim: 1_000_000, heads: 1, ..tiny.clone() },
            VitConfig { dim: usize::MAX, heads: 1, hidden: usize::MAX, ..tiny.clone() },
            VitConfig { depth: usize::MAX, ..tiny.clone() },
            VitConfig { classes: usize::MAX, ..tiny.clone() },
            VitConfig { channels: usize::MAX, ..tiny.clone() },
            VitConfig { image_size: [1 << 40; 2], ..tiny.clone() },
            VitConfig { image_size: [usize::MAX; 2], patch_size: 1, ..tiny.clone() },
            VitConfig { kernels: vec![1, 1_000_001], ..tiny },
        ] {
            assert!(check(&shape).is_err(), "{shape:?}");
        }
    }
}
