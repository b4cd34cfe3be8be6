//! Operations that give each byte of a channel a new value of its own, whatever stands beside it.

use super::luma;

/// A new value for each byte, for each channel.
pub(super) type Tables = Vec<[u8; 256]>;

fn table(value: impl Fn(usize) -> u8) -> [u8; 256] {
    std::array::from_fn(value)
}

/// Replaces every byte of pixels of as many channels as there are tables, or by the one table there is.
pub(super) fn replace(bytes: &mut [u8], tables: &[[u8; 256]]) {
    match tables {
        [one] => bytes.iter_mut().for_each(|byte| *byte = one[usize::from(*byte)]),
        [red, green, blue] => {
            for pixel in bytes.as_chunks_mut::<3>().0 {
                *pixel = [
                    red[usize::from(pixel[0])],
                    green[usize::from(pixel[1])],
                    blue[usize::from(pixel[2])],
                ];
            }
        }
        tables => {
            for pixel in bytes.chunks_exact_mut(tables.len().max(1)) {
                for (byte, table) in pixel.iter_mut().zip(tables) {
                    *byte = table[usize::from(*byte)];
                }
            }
        }
    }
}

/// How often each byte occurs in each channel.
fn histograms(bytes: &[u8], channels: usize) -> Vec<[usize; 256]> {
    let mut counts = vec![[0; 256]; channels];
    for pixel in bytes.chunks_exact(channels) {
        for (&byte, counts) in pixel.iter().zip(&mut counts) {
            counts[usize::from(byte)] += 1;
        }
    }
    counts
}

/// Stretches each channel to 0..255.
pub(super) fn auto_contrast(bytes: &[u8], channels: usize) -> Tables {
    let stretched = |counts: [usize; 256]| {
        let low = counts.iter().position(|&count| count > 0).unwrap_or(0);
        let high = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        if high <= low {
            return table(|byte| byte as u8);
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        // A cast from float cuts towards zero and keeps to 0..255.
        table(|byte| (byte as f64 * scale + offset) as u8)
    };
    histograms(bytes, channels).into_iter().map(stretched).collect()
}

/// Makes each channel's values as frequent as each other, as far as that goes.
pub(super) fn equalize(bytes: &[u8], channels: usize) -> Tables {
    let flattened = |counts: [usize; 256]| {
        let last = counts.iter().rfind(|&&count| count > 0).copied().unwrap_or(0);
        let step = (counts.iter().sum::<usize>() - last) / 255;
        if step == 0 {
            return table(|byte| byte as u8);
        }
        let mut below = step / 2;
        std::array::from_fn(|byte| {
            let value = (below / step).min(255) as u8;
            below += counts[byte];
            value
        })
    };
    histograms(bytes, channels).into_iter().map(flattened).collect()
}

pub(super) fn invert() -> [u8; 256] {
    table(|byte| 255 - byte as u8)
}

/// Keeps the `bits` highest bits; with 0 all is black.
pub(super) fn posterize(bits: u32) -> [u8; 256] {
    let mask = 255u32.unbounded_shl(8 - bits.min(8)) as u8;
    table(|byte| byte as u8 & mask)
}

/// Inverts what is not below `threshold`.
pub(super) fn solarize(threshold: usize) -> [u8; 256] {
    table(|byte| if byte < threshold { byte as u8 } else { 255 - byte as u8 })
}

/// Adds to what is below 128.
pub(super) fn solarize_add(amount: usize) -> [u8; 256] {
    table(|byte| if byte < 128 { (byte + amount).min(255) as u8 } else { byte as u8 })
}

/// Multiplies by `factor`.
pub(super) fn brightness(factor: f32) -> [u8; 256] {
    table(|byte| super::blend(0, byte as u8, factor))
}

/// Moves values away from the mean grey of the whole image, or towards it for a factor below 1.
pub(super) fn contrast(bytes: &[u8], channels: usize, factor: f32) -> [u8; 256] {
    let (sum, count) = if channels == 3 {
        let sum = bytes.as_chunks::<3>().0.iter().map(|&pixel| u64::from(luma(pixel))).sum::<u64>();
        (sum, bytes.len() / 3)
    } else {
        (bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>(), bytes.len())
    };
    let mean = (sum as f64 / count.max(1) as f64 + 0.5) as u8;
    table(|byte| super::blend(mean, byte as u8, factor))
}
