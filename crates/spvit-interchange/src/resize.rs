//! Position embeddings for another resolution.

/// A map of positions resampled as timm's `resample_abs_pos_embed` does it: bicubic with
/// antialiasing, each axis on its own.
///
/// `values` holds `[height, width, dim]` in rows, `from` and `to` are heights and widths.
pub(super) fn resample(values: &[f32], from: [usize; 2], to: [usize; 2], dim: usize) -> Vec<f32> {
    let columns = kernel(from[1], to[1]);
    let rows = kernel(from[0], to[0]);
    let wide = (0..from[0]).flat_map(|y| {
        let row = &values[y * from[1] * dim..][..from[1] * dim];
        columns.iter().flat_map(move |taps| weighted(row, taps, dim))
    });
    let wide: Vec<f32> = wide.collect();
    rows.iter().flat_map(|taps| weighted(&wide, taps, to[1] * dim)).collect()
}

/// Where a sample's support begins, and the weights from there on; their sum is 1.
struct Taps {
    start: usize,
    weights: Vec<f64>,
}

/// The sum of rows of `width` values by their weights.
fn weighted(rows: &[f32], taps: &Taps, width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for (row, weight) in rows[taps.start * width..].chunks(width).zip(&taps.weights) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += weight * f64::from(*value);
        }
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// The taps of every sample of an axis that goes from `from` to `to` samples.
fn kernel(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    // Downwards the cubic is stretched over all that a sample covers: that is the antialiasing.
    let stretch = scale.max(1.0);
    let taps = |sample: usize| {
        let centre = scale * (sample as f64 + 0.5);
        let start = (centre - 2.0 * stretch + 0.5).max(0.0) as usize;
        let end = ((centre + 2.0 * stretch + 0.5) as usize).min(from);
        let at = |i: usize| cubic((i as f64 - centre + 0.5) / stretch);
        let weights: Vec<f64> = (start..end).map(at).collect();
        let sum: f64 = weights.iter().sum();
        Taps { start, weights: weights.into_iter().map(|weight| weight / sum).collect() }
    };
    (0..to).map(taps).collect()
}

/// The cubic convolution kernel with a = -1/2, which PyTorch takes where it antialiases.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match x {
        ..1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        ..2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}
