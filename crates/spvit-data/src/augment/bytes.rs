//! What is done to an image's bytes, before they are normalised.

use crate::augment::AugmentConfig;
use crate::augment::crop::{CropMode, EvalTransform, RandomResizedCrop};
use crate::augment::image::Rectangle;
use crate::augment::operation::Operation;
use crate::augment::rand_augment::RandAugment;
use crate::augment::resample::{Interpolation, Resampler};
use crate::error::DataError;
use crate::pixels::Pixels;
use crate::rng::Stream;

/// How images of any size become images of the model's size.
#[derive(Clone, Debug)]
pub(crate) struct BytesTransform {
    size: [usize; 2],
    /// The mean colour, of an image's channels.
    fill: Vec<u8>,
    whole: EvalTransform,
    crop: Option<RandomResizedCrop>,
    pad: usize,
    flips: [f64; 2],
    jitter: f64,
    rand_augment: Option<RandAugment>,
}

/// What is done to one image, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Draw {
    /// The part that is shown, and how it is resized; otherwise all of it is shown.
    part: Option<(Rectangle, Interpolation)>,
    /// Rows and columns by which the image moves up and left.
    shift: [isize; 2],
    mirrored: bool,
    upside_down: bool,
    operations: Vec<Operation>,
}

impl BytesTransform {
    /// For the size `[height, width]` and mean colour of a model, 0 to 1 for each channel. Without random cropping,
    /// images come to that size as `whole` has it, or are resized bilinearly, whatever becomes of their aspect.
    pub(crate) fn new(
        size: [usize; 2],
        mean: &[f32],
        whole: Option<&EvalTransform>,
        config: Option<&AugmentConfig>,
    ) -> Result<Self, DataError> {
        // Through f64: 255 times a mean may lie at a half, where float32 would round another way than timm.
        let fill = mean
            .iter()
            .map(|&mean| (f64::from(mean) * 255.0).round_ties_even().clamp(0.0, 255.0) as u8)
            .collect();
        let whole = whole.cloned().unwrap_or(EvalTransform {
            crop_pct: 1.0,
            interpolation: Interpolation::Bilinear,
            crop_mode: CropMode::Squash,
        });
        let made = Self {
            size,
            fill,
            whole,
            crop: None,
            pad: 0,
            flips: [0.0; 2],
            jitter: 0.0,
            rand_augment: None,
        };
        let Some(config) = config else { return Ok(made) };
        let rand_augment = RandAugment::parse(&config.rand_augment)?;
        // As in timm, RandAugment takes the place of jitter, unless it is the three of DeiT III, which have none.
        let keeps_jitter = rand_augment.is_none() || config.rand_augment.contains("3a");
        Ok(Self {
            crop: config.random_resized_crop.clone(),
            pad: config.pad_crop,
            flips: [if config.horizontal_flip { 0.5 } else { 0.0 }, config.vertical_flip],
            jitter: if keeps_jitter { config.color_jitter } else { 0.0 },
            rand_augment,
            ..made
        })
    }

    /// Draws what is done to an image of `[height, width]`.
    pub(crate) fn draw(&self, size: [usize; 2], stream: &mut Stream) -> Draw {
        let part = self.crop.as_ref().map(|crop| {
            let part = crop.draw(size, stream);
            (part, crop.interpolation.drawn(stream))
        });
        let pad = self.pad;
        let shift = match pad {
            0 => [0, 0],
            _ => [0, 0].map(|_: isize| stream.below(2 * pad + 1) as isize - pad as isize),
        };
        let [mirrored, upside_down] =
            self.flips.map(|chance| chance > 0.0 && stream.chance(chance));
        // A crop's own filter moves images, too; without one, either as chance has it.
        let interpolation =
            self.crop.as_ref().map_or(Interpolation::Random, |crop| crop.interpolation);
        let mut operations = self
            .rand_augment
            .as_ref()
            .map_or_else(Vec::new, |augment| augment.draw(interpolation, stream));
        operations.extend(self.draw_jitter(stream));
        Draw { part, shift, mirrored, upside_down, operations }
    }

    /// torchvision's `ColorJitter`: brightness, contrast and colour, in any order.
    fn draw_jitter(&self, stream: &mut Stream) -> Vec<Operation> {
        if self.jitter == 0.0 {
            return Vec::new();
        }
        let order = stream.permutation(3);
        let mut factor = || stream.between((1.0 - self.jitter).max(0.0), 1.0 + self.jitter);
        let all = [
            Operation::Brightness(factor()),
            Operation::Contrast(factor()),
            Operation::Color(factor()),
        ];
        order.into_iter().map(|which| all[which]).collect()
    }

    /// The image at the model's size, changed as drawn, or as it is.
    pub(crate) fn apply(
        &self,
        image: &Pixels,
        draw: Option<&Draw>,
        resampler: &mut Resampler,
    ) -> Result<Pixels, DataError> {
        let mut changed = match draw.and_then(|draw| draw.part) {
            Some((part, interpolation)) => {
                resampler.resize(image, part, self.size, interpolation)?
            }
            None => self.whole.apply(image, self.size, &self.fill, resampler)?,
        };
        let Some(draw) = draw else { return Ok(changed) };
        if draw.shift != [0, 0] {
            changed = self.shifted(&changed, draw.shift)?;
        }
        let row = self.size[1] * changed.channels();
        if draw.mirrored {
            mirror(&mut changed);
        }
        if draw.upside_down {
            let (upper, lower) = changed.bytes_mut().split_at_mut(self.size[0] / 2 * row);
            let rows = upper.chunks_exact_mut(row).zip(lower.chunks_exact_mut(row).rev());
            rows.for_each(|(upper, lower)| upper.swap_with_slice(lower));
        }
        for operation in &draw.operations {
            operation.apply(&mut changed, &self.fill);
        }
        Ok(changed)
    }

    /// An image moved up and left; the mean colour comes in.
    fn shifted(&self, image: &Pixels, [down, right]: [isize; 2]) -> Result<Pixels, DataError> {
        let ([height, width], channels) = (image.size(), image.channels());
        let mut bytes: Vec<u8> =
            self.fill.iter().copied().cycle().take(height * width * channels).collect();
        let kept = width.saturating_sub(right.unsigned_abs()) * channels;
        let from = right.max(0).unsigned_abs() * channels;
        let to = (-right).max(0).unsigned_abs() * channels;
        let sources = image.bytes().chunks_exact(width * channels);
        let targets = bytes.chunks_exact_mut(width * channels);
        let sources = sources.skip(down.max(0).unsigned_abs());
        let targets = targets.skip((-down).max(0).unsigned_abs());
        for (target, source) in targets.zip(sources) {
            target[to..to + kept].copy_from_slice(&source[from..from + kept]);
        }
        Pixels::new([height, width], channels, bytes)
    }
}

fn mirror(image: &mut Pixels) {
    let (width, channels) = (image.size()[1], image.channels());
    for row in image.bytes_mut().chunks_exact_mut(width * channels) {
        match channels {
            1 => row.reverse(),
            3 => row.as_chunks_mut::<3>().0.reverse(),
            _ => {
                row.reverse();
                row.chunks_exact_mut(channels).for_each(<[u8]>::reverse);
            }
        }
    }
}

#[cfg(test)]
mod tests;
