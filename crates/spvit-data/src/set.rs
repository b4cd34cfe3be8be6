//! Images and labels in memory.

use crate::error::DataError;

/// Images of one size with one label each.
///
/// Pixels are bytes, 0 to 255, laid out `[images, channels, height, width]`. Every label is below
/// [`classes`](Self::classes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSet {
    channels: usize,
    height: usize,
    width: usize,
    classes: usize,
    pixels: Vec<u8>,
    labels: Vec<u16>,
}

impl ImageSet {
    /// Puts images and labels together.
    ///
    /// `pixels` is `[labels.len(), channels, height, width]`.
    ///
    /// # Errors
    ///
    /// [`DataError::Option`] when a dimension or `classes` is 0, `classes` exceeds 65,536, `pixels` has another
    /// length than the shape says, or a label is not below `classes`.
    pub fn new(
        [channels, height, width]: [usize; 3],
        classes: usize,
        pixels: Vec<u8>,
        labels: Vec<u16>,
    ) -> Result<Self, DataError> {
        let image = channels.checked_mul(height).and_then(|n| n.checked_mul(width)).unwrap_or(0);
        if image == 0 {
            let found = format!("{channels} x {height} x {width}");
            return Err(DataError::option(
                "image shape",
                "channels, height and width of at least 1",
                found,
            ));
        }
        if classes == 0 || classes > 1 << 16 {
            return Err(DataError::option("classes", "1 to 65536", classes));
        }
        if image.checked_mul(labels.len()) != Some(pixels.len()) {
            let expected =
                format!("{} images of {channels} x {height} x {width} bytes", labels.len());
            return Err(DataError::option("pixels", expected, format!("{} bytes", pixels.len())));
        }
        if let Some(label) = labels.iter().find(|&&label| usize::from(label) >= classes) {
            return Err(DataError::option("labels", format!("every label below {classes}"), label));
        }
        Ok(Self { channels, height, width, classes, pixels, labels })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Channels of each image: 1 for grey, 3 for red, green, blue.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Height of each image in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width of each image in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of classes, whether or not each of them occurs here.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All pixels, `[images, channels, height, width]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All labels, `[images]`.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Image `index`, `[channels, height, width]`; `None` past the end.
    pub fn image(&self, index: usize) -> Option<&[u8]> {
        let bytes = self.image_bytes();
        let start = index.checked_mul(bytes)?;
        self.pixels.get(start..start.checked_add(bytes)?)
    }

    /// The label of image `index`; `None` past the end.
    pub fn label(&self, index: usize) -> Option<u16> {
        self.labels.get(index).copied()
    }

    /// How many images each class has, `[classes]`.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &label in &self.labels {
            counts[usize::from(label)] += 1;
        }
        counts
    }

    /// The images at `indices`, in that order. An index past the end is left out.
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut pixels = Vec::new();
        let mut labels = Vec::with_capacity(indices.len());
        for &index in indices {
            if let (Some(image), Some(label)) = (self.image(index), self.label(index)) {
                pixels.extend_from_slice(image);
                labels.push(label);
            }
        }
        Self { pixels, labels, ..*self }
    }

    /// Bytes, and so values, of one image.
    pub(crate) fn image_bytes(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Cuts the set in two before image `at`, or after the last image if there are fewer.
    pub(crate) fn split_at(mut self, at: usize) -> (Self, Self) {
        let at = at.min(self.len());
        let pixels = self.pixels.split_off(at * self.image_bytes());
        let labels = self.labels.split_off(at);
        let tail = Self { pixels, labels, ..self };
        (self, tail)
    }

    /// Mean and standard deviation of each channel, of pixels scaled to 0..1.
    ///
    /// A channel of one single value gets the deviation 1, so that normalising it gives 0 and not a division by 0.
    pub(crate) fn mean_and_std(&self) -> (Vec<f32>, Vec<f32>) {
        // Counting values keeps the sums exact, whatever the number of images.
        let mut counts = vec![[0u64; 256]; self.channels];
        for (plane, pixels) in self.pixels.chunks_exact(self.height * self.width).enumerate() {
            let counts = &mut counts[plane % self.channels];
            for &pixel in pixels {
                counts[usize::from(pixel)] += 1;
            }
        }
        counts.iter().map(channel_mean_and_std).unzip()
    }
}

/// Mean and standard deviation of pixels scaled to 0..1, of which this many have each value.
pub(crate) fn channel_mean_and_std(counts: &[u64; 256]) -> (f32, f32) {
    let total = counts.iter().sum::<u64>() as f64;
    let average = |value: &dyn Fn(f64) -> f64| {
        let weighted = counts
            .iter()
            .enumerate()
            .map(|(pixel, &count)| value(pixel as f64 / 255.0) * count as f64);
        weighted.sum::<f64>() / total.max(1.0)
    };
    let mean = average(&|pixel| pixel);
    let std = average(&|pixel| (pixel - mean).powi(2)).sqrt();
    // Rounding leaves about 1e-17 where all pixels are equal; a real deviation is at least of order 1e-3 / sqrt(total).
    (mean as f32, if std > 1e-9 { std as f32 } else { 1.0 })
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
