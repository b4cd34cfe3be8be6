//! Pillow's Gaussian blur: three box blurs each way.

use crate::pixels::Pixels;

const PASSES: usize = 3;

/// Blurs by a standard deviation of `sigma` pixels.
pub(super) fn gaussian(image: &mut Pixels, sigma: f64) {
    let ([height, width], channels) = (image.size(), image.channels());
    let Some(kernel) = Kernel::new(sigma as f32) else {
        return;
    };
    let mut line = Vec::new();
    for row in image.bytes_mut().chunks_exact_mut(width * channels) {
        for channel in 0..channels {
            kernel.blur(row, (channel, channels), &mut line);
        }
    }
    for column in 0..width * channels {
        let step = width * channels;
        debug_assert_eq!(image.bytes().len(), height * step);
        kernel.blur(image.bytes_mut(), (column, step), &mut line);
    }
}

/// A box whose outermost two values count less than the inner ones.
struct Kernel {
    radius: usize,
    /// Weights in 1 / 2^24.
    inner: u32,
    outer: u32,
}

impl Kernel {
    /// `None` where nothing is blurred.
    fn new(sigma: f32) -> Option<Self> {
        if sigma <= 0.0 || !sigma.is_finite() {
            return None;
        }
        // Gwosdek et al., Theoretical foundations of Gaussian convolution by extended box filtering, 2011.
        let variance = sigma * sigma / PASSES as f32;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
        let fraction = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
            / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
        let radius = whole + fraction;
        let inner = ((1u32 << 24) as f32 / (radius * 2.0 + 1.0)) as u32;
        let outer = ((1 << 24) - (radius as u32 * 2 + 1) * inner) / 2;
        Some(Self { radius: radius as usize, inner, outer })
    }

    /// Blurs every `step`-th value from `first` on. `line` is overwritten.
    fn blur(&self, values: &mut [u8], (first, step): (usize, usize), line: &mut Vec<u8>) {
        for _ in 0..PASSES {
            line.clear();
            line.extend(values.iter().skip(first).step_by(step));
            let last = line.len() as isize - 1;
            // Beyond its ends a line goes on as it ends.
            let at = |place: isize| u32::from(line[place.clamp(0, last) as usize]);
            let radius = self.radius as isize;
            let mut sum: u32 = (-radius - 1..radius).map(at).sum();
            for (place, value) in values.iter_mut().skip(first).step_by(step).enumerate() {
                let place = place as isize;
                sum = sum + at(place + radius) - at(place - radius - 1);
                let ends = at(place - radius - 1) + at(place + radius + 1);
                let total = sum * self.inner + ends * self.outer;
                *value = ((total + (1 << 23)) >> 24) as u8;
            }
        }
    }
}
