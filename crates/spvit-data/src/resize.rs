//! Bilinear resizing in float32, for loaders that do nothing to bytes: the others resize as `augment::resample` does.

/// Resizes planes from one size to another, bilinearly.
///
/// Pixels are squares whose centres lie at half-integers (PyTorch's `align_corners=False`), and the edge is repeated
/// outwards. Where the target is smaller the filter widens by the ratio, so that no pixel is skipped, as Pillow does
/// and torchvision with `antialias=True`. Unlike Pillow, results are not rounded to bytes.
pub(crate) struct Resizer {
    rows: Vec<Taps>,
    columns: Vec<Taps>,
    source_width: usize,
}

/// The neighbouring inputs that make up one output, from `first` on, with weights that sum to 1.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Resizer {
    /// From `source` to `target`, both `[height, width]` and at least 1.
    pub(crate) fn new(source: [usize; 2], target: [usize; 2]) -> Self {
        Self {
            rows: taps(source[0], target[0]),
            columns: taps(source[1], target[1]),
            source_width: source[1],
        }
    }

    /// Resizes one plane. `scratch` is overwritten, and kept by the caller only to be used again.
    pub(crate) fn plane(&self, source: &[f32], target: &mut [f32], scratch: &mut Vec<f32>) {
        let width = self.columns.len();
        scratch.clear();
        for row in source.chunks_exact(self.source_width) {
            scratch.extend(self.columns.iter().map(|taps| {
                let inputs = &row[taps.first..taps.first + taps.weights.len()];
                inputs.iter().zip(&taps.weights).map(|(input, weight)| input * weight).sum::<f32>()
            }));
        }
        for (taps, target) in self.rows.iter().zip(target.chunks_exact_mut(width)) {
            target.fill(0.0);
            let rows = scratch[taps.first * width..].chunks_exact(width);
            for (weight, row) in taps.weights.iter().zip(rows) {
                target.iter_mut().zip(row).for_each(|(target, input)| *target += weight * input);
            }
        }
    }
}

fn taps(source: usize, target: usize) -> Vec<Taps> {
    let ratio = source as f64 / target as f64;
    let support = ratio.max(1.0);
    let taps = |index: usize| {
        let centre = (index as f64 + 0.5) * ratio;
        let first = ((centre - support + 0.5).floor().max(0.0) as usize).min(source - 1);
        let last = ((centre + support + 0.5).floor() as usize).clamp(first + 1, source);
        let weight = |input: usize| (1.0 - (input as f64 + 0.5 - centre).abs() / support).max(0.0);
        let total: f64 = (first..last).map(weight).sum();
        // Weights beyond the edge are left out and the rest scaled up, which for enlarging repeats the edge.
        Taps { first, weights: (first..last).map(|input| (weight(input) / total) as f32).collect() }
    };
    (0..target).map(taps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resize(source: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
        let mut target = vec![f32::NAN; to[0] * to[1]];
        Resizer::new(from, to).plane(source, &mut target, &mut Vec::new());
        target
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        let close =
            found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5);
        assert!(close, "expected {expected:?}, found {found:?}");
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let source: Vec<f32> = (0..12).map(|value| value as f32).collect();
        assert_eq!(resize(&source, [3, 4], [3, 4]), source);
    }

    #[test]
    fn enlarging_agrees_with_pytorch() {
        // By the formula of torch.nn.functional.interpolate with mode="bilinear", align_corners=False.
        assert_close(&resize(&[0.0, 4.0], [1, 2], [1, 4]), &[0.0, 1.0, 3.0, 4.0]);
        let expected = [0.0, 1.0, 3.0, 4.0, 8.0, 9.0, 11.0, 12.0];
        assert_close(&resize(&[0.0, 4.0, 8.0, 12.0], [2, 2], [2, 4]), &expected);
    }

    #[test]
    fn shrinking_uses_every_pixel() {
        // Pillow's triangle over twice the width: (1, 3, 3, 1) / 8, without what lies beyond the edge.
        let found = resize(&[7.0, 0.0, 0.0, 14.0], [1, 4], [1, 2]);
        assert_close(&found, &[3.0, 6.0]);
        assert_close(&resize(&[0.5; 35], [5, 7], [2, 3]), &[0.5; 6]);
    }
}
