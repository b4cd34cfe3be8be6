//! Sizes that cannot be, told before memory is asked for.

use spvit_layers::{Family, ModelConfig};

/// Most trained values of a model: a hundred times those of ViT-Huge.
const PARAMETERS: u128 = 60_000_000_000;

/// Most patches of an image, and most values: attention over more is out of reach.
const PATCHES: u128 = 1_000_000;
const VALUES: u128 = 1 << 32;

/// Parameters of the dense model of a shape, roughly, without overflow.
pub fn parameters(shape: &ModelConfig) -> u128 {
    let wide = |value: usize| value as u128;
    let block = |dim: u128, hidden: u128| {
        dim.saturating_mul(dim.saturating_mul(4).saturating_add(hidden.saturating_mul(2)))
            .saturating_add(hidden)
    };
    let (dim, patch) = (wide(shape.embed_dim()), wide(shape.patch_size()));
    let pixels = wide(shape.channels()).saturating_mul(patch.saturating_mul(patch));
    let (blocks, positions, features) = match &shape.family {
        Family::Vit(vit) => {
            let [rows, columns] = vit.image_size.map(|side| wide(side / vit.patch_size.max(1)));
            let blocks = block(dim, wide(vit.hidden)).saturating_mul(wide(vit.depth));
            (blocks, rows.saturating_mul(columns), dim)
        }
        Family::Swin(swin) => {
            let (mut blocks, mut width) = (0u128, dim);
            for (stage, &depth) in swin.depths.iter().enumerate() {
                if stage > 0 {
                    // A merging of 8·D².
                    let merging = width.saturating_mul(width).saturating_mul(8);
                    blocks = blocks.saturating_add(merging);
                    width = width.saturating_mul(2);
                }
                let hidden = (width as f64 * swin.mlp_ratio) as u128;
                let stage = block(width, hidden).saturating_mul(wide(depth));
                blocks = blocks.saturating_add(stage);
            }
            (blocks, 0, width)
        }
    };
    let ends = pixels.saturating_add(positions).saturating_mul(dim);
    let head = wide(shape.classes()).saturating_mul(features);
    blocks.saturating_add(ends).saturating_add(head)
}

/// Whether a model of this shape can be on this machine.
///
/// # Errors
/// A sentence that says what it would take and what there is.
pub fn check(shape: &ModelConfig) -> Result<(), String> {
    let count = parameters(shape);
    let gigabytes = |bytes: u128| bytes as f64 / 1e9;
    if count > PARAMETERS {
        return Err(format!(
            "[model] has some {count:.1e} parameters, more than the {PARAMETERS:.0e} that spvit \
             takes; make model.dim or the depth smaller",
            count = count as f64,
            PARAMETERS = PARAMETERS as f64,
        ));
    }
    let wide = |value: usize| value as u128;
    let [height, width] = shape.image_size().map(wide);
    let patch = wide(shape.patch_size().max(1));
    let (patches, pixels) =
        ((height / patch).saturating_mul(width / patch), height.saturating_mul(width));
    let values = pixels.saturating_mul(wide(shape.channels()));
    if patches > PATCHES || values > VALUES {
        return Err(format!(
            "model.image_size gives {patches} patches and {values} values an image; at most {PATCHES} \
             and {VALUES} are taken"
        ));
    }
    let largest = shape.space.kernels.iter().max().copied().unwrap_or(1);
    let sides = shape.image_size().map(|side| side / shape.patch_size().max(1));
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
             model.dim or the depth smaller",
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
        serde_json::from_value::<ModelConfig>(file.get_mut("model")?.take()).ok()
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
    use spvit_layers::VitConfig;

    use super::*;

    #[test]
    fn shapes_that_cannot_be_are_told_from_those_that_can() {
        for (name, expected) in [
            ("deit_tiny", 5.7e6),
            ("deit_base", 86.6e6),
            ("vit_micro", 0.3e6),
            ("swin_tiny", 28.3e6),
        ] {
            let shape = ModelConfig::preset(name).unwrap();
            assert_eq!(check(&shape), Ok(()), "{name}");
            let count = parameters(&shape) as f64;
            assert!((count / expected - 1.0).abs() < 0.1, "{name}: {count}");
        }
        let tiny = VitConfig::deit([224, 16, 3, 1000, 192, 12, 3]);
        for shape in [
            VitConfig { dim: 1_000_000, heads: 1, ..tiny.clone() },
            VitConfig { dim: usize::MAX, heads: 1, hidden: usize::MAX, ..tiny.clone() },
            VitConfig { depth: usize::MAX, ..tiny.clone() },
            VitConfig { classes: usize::MAX, ..tiny.clone() },
            VitConfig { channels: usize::MAX, ..tiny.clone() },
            VitConfig { image_size: [1 << 40; 2], ..tiny.clone() },
            VitConfig { image_size: [usize::MAX; 2], patch_size: 1, ..tiny.clone() },
        ] {
            assert!(check(&shape.clone().into()).is_err(), "{shape:?}");
        }
        let mut wide = ModelConfig::from(tiny);
        wide.space.kernels = vec![1, 1_000_001];
        assert!(check(&wide).is_err());
    }
}
