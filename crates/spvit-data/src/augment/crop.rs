//! Which part of an image is shown: at random for training, the middle for evaluation.

use serde::{Deserialize, Serialize};

use crate::augment::image::Rectangle;
use crate::augment::resample::{Interpolation, Resampler};
use crate::error::DataError;
use crate::pixels::Pixels;
use crate::rng::Stream;

/// A random part of the image, resized to the model's size (Szegedy et al., Going deeper with convolutions, 2014).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Least and largest share of the area.
    pub scale: [f64; 2],
    /// Least and largest width of the part for a height of 1, drawn evenly in its logarithm.
    pub ratio: [f64; 2],
    /// How the part is resized. RandAugment moves images by the same one.
    pub interpolation: Interpolation,
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        Self {
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            interpolation: Interpolation::Bicubic,
        }
    }
}

impl RandomResizedCrop {
    pub(crate) fn validate(&self) -> Result<(), DataError> {
        let [least, largest] = self.scale;
        if !(0.0 < least && least <= largest && largest <= 1.0) {
            let expected = "two ascending shares of the area, above 0 and up to 1";
            let found = format!("{:?}", self.scale);
            return Err(DataError::option("random_resized_crop.scale", expected, found));
        }
        let [least, largest] = self.ratio;
        if !(0.01 <= least && least <= largest && largest <= 100.0) {
            let expected = "two ascending ratios of width to height, 0.01 to 100";
            let found = format!("{:?}", self.ratio);
            return Err(DataError::option("random_resized_crop.ratio", expected, found));
        }
        Ok(())
    }

    /// A part of an image of `[height, width]`: up to ten attempts at one that fits, and the middle after them.
    pub(crate) fn draw(&self, [height, width]: [usize; 2], stream: &mut Stream) -> Rectangle {
        for _ in 0..10 {
            let (scale, ratio) = (stream.unit(), stream.unit());
            if let Some([rows, columns]) = self.part([height, width], [scale, ratio]) {
                let top = stream.below(height - rows + 1);
                let left = stream.below(width - columns + 1);
                return Rectangle { top, bottom: top + rows, left, right: left + columns };
            }
        }
        self.middle([height, width])
    }

    /// Rows and columns, if they fit, for a scale and a ratio so far (0 to 1) between least and largest.
    fn part(&self, [height, width]: [usize; 2], draw: [f64; 2]) -> Option<[usize; 2]> {
        let between = |[low, high]: [f64; 2], share: f64| low + (high - low) * share;
        let area = between(self.scale, draw[0]) * (height * width) as f64;
        let ratio = between(self.ratio.map(f64::ln), draw[1]).exp();
        // An image of one pixel's height has parts of at least that.
        let side = |length: f64| (length.sqrt().round_ties_even() as usize).max(1);
        let (rows, columns) = (side(area / ratio), side(area * ratio));
        (rows <= height && columns <= width).then_some([rows, columns])
    }

    /// As much of the middle as the ratio allows.
    fn middle(&self, [height, width]: [usize; 2]) -> Rectangle {
        let found = width as f64 / height as f64;
        let [low, high] = self.ratio;
        let round = |length: f64, most: usize| (length.round_ties_even() as usize).clamp(1, most);
        let (rows, columns) = if found < low {
            (round(width as f64 / low, height), width)
        } else if found > high {
            (height, round(height as f64 * high, width))
        } else {
            (height, width)
        };
        let (top, left) = ((height - rows) / 2, (width - columns) / 2);
        Rectangle { top, bottom: top + rows, left, right: left + columns }
    }
}

/// How an image of any size comes to the model's size for evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CropMode {
    /// The shorter side is resized, and the middle cut out.
    #[default]
    Center,
    /// Both sides are resized, whatever becomes of the aspect, and the middle is cut out.
    Squash,
    /// The longer side is resized, and what the shorter one lacks is filled with the mean colour.
    Border,
}

/// timm's transform for evaluation: resized to the model's size divided by `crop_pct`, and the middle cut out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalTransform {
    /// Side of the part that is cut out, as a share of what the image is resized to.
    pub crop_pct: f64,
    /// How it is resized; a checkpoint has its own.
    pub interpolation: Interpolation,
    /// What is done about another aspect than the model's.
    pub crop_mode: CropMode,
}

impl Default for EvalTransform {
    fn default() -> Self {
        Self { crop_pct: 0.875, interpolation: Interpolation::Bicubic, crop_mode: CropMode::Center }
    }
}

impl EvalTransform {
    /// Whether the values are in their ranges.
    ///
    /// # Errors
    ///
    /// [`DataError::Option`] naming the first that is not.
    pub fn validate(&self) -> Result<(), DataError> {
        if !(0.1..=1.0).contains(&self.crop_pct) {
            return Err(DataError::option("crop_pct", "0.1 to 1", self.crop_pct));
        }
        if self.interpolation == Interpolation::Random {
            let expected = "bilinear, bicubic or lanczos for evaluation";
            return Err(DataError::option("interpolation", expected, "random"));
        }
        Ok(())
    }

    /// `image` at `size`, `[height, width]`. `fill` is the mean colour, of the image's channels.
    pub(crate) fn apply(
        &self,
        image: &Pixels,
        size: [usize; 2],
        fill: &[u8],
        resampler: &mut Resampler,
    ) -> Result<Pixels, DataError> {
        let scaled = self.scaled_size(image.size(), size);
        let resized = resampler.resize_whole(image, scaled, self.interpolation)?;
        if scaled == size { Ok(resized) } else { middle(&resized, size, fill) }
    }

    /// What an image of `from` is resized to before the middle of `size` is cut out.
    fn scaled_size(&self, from: [usize; 2], size: [usize; 2]) -> [usize; 2] {
        let target = size.map(|side| (side as f64 / self.crop_pct).floor());
        let ratios = [from[0] as f64 / target[0], from[1] as f64 / target[1]];
        let by =
            |ratio: f64| from.map(|side| ((side as f64 / ratio).round_ties_even() as usize).max(1));
        match self.crop_mode {
            CropMode::Squash => target.map(|side| side as usize),
            CropMode::Border => by(ratios[0].max(ratios[1])),
            // The longer side is cut down to whole pixels for square targets and rounded for others, as in timm.
            CropMode::Center if target[0] == target[1] => {
                let (short, side) = (from[0].min(from[1]), target[0] as usize);
                from.map(|length| side * length / short)
            }
            CropMode::Center => by(ratios[0].min(ratios[1])),
        }
    }
}

/// The middle of an image, with `fill` around it where it is smaller than `size`.
fn middle(image: &Pixels, size: [usize; 2], fill: &[u8]) -> Result<Pixels, DataError> {
    let (from, channels) = (image.size(), image.channels());
    // Where the difference is odd, what is cut off is rounded to even, and padding has the larger part at the end.
    let offset = |axis: usize| {
        let more = from[axis] as f64 - size[axis] as f64;
        if more >= 0.0 { (more / 2.0).round_ties_even() } else { (more / 2.0).ceil() }
    };
    let (top, left) = (offset(0) as isize, offset(1) as isize);
    let mut bytes: Vec<u8> =
        fill.iter().copied().cycle().take(size[0] * size[1] * channels).collect();
    let columns = size[1].min(from[1]) * channels;
    let (to_left, from_left) = ((-left).max(0) as usize, left.max(0) as usize);
    let rows = bytes.chunks_exact_mut(size[1] * channels).skip((-top).max(0) as usize);
    let sources = image.bytes().chunks_exact(from[1] * channels).skip(top.max(0) as usize);
    for (row, source) in rows.zip(sources) {
        row[to_left * channels..][..columns]
            .copy_from_slice(&source[from_left * channels..][..columns]);
    }
    Pixels::new(size, channels, bytes)
}

#[cfg(test)]
mod tests;
