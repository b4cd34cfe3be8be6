//! A contact sheet: what augmentation does to a few images.

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use crate::augment::resample::{Interpolation, Resampler};
use crate::error::DataError;
use crate::loader::LoaderOptions;
use crate::pixels::Pixels;
use crate::prepare::{Prepare, Scratch};
use crate::rng::{Purpose, Stream};
use crate::source::ImageSource;

/// Pixels between images.
const GAP: usize = 4;
const BACKGROUND: u8 = 255;
/// Pixels of a sheet's side that nobody wants to look at.
const MAX_SIDE: usize = 30_000;

/// Images in rows, each beside some of its augmented variants.
#[derive(Clone, Copy, Debug)]
pub struct ContactSheet<'a> {
    /// The numbers of the images, one for each row.
    pub images: &'a [usize],
    /// Augmented variants in a row, after the image itself as an evaluation sees it.
    pub variants: usize,
}

impl ContactSheet<'_> {
    /// Draws the sheet for what a loader with these options makes of `source`, normalisation undone. Mixing, which
    /// takes a batch, is not shown. Variant v is what the image looks like in epoch v, if it comes there, and without
    /// repeats.
    ///
    /// # Errors
    ///
    /// [`DataError::Option`] when an option is out of range, `options.augment` is absent, an image is not there, the sheet would be
    /// empty or larger than 30,000 pixels a side, or the images have neither 1 nor 3 channels; what decoding an image gives.
    pub fn draw(
        &self,
        source: &dyn ImageSource,
        mean: &[f32],
        std: &[f32],
        options: &LoaderOptions,
    ) -> Result<Pixels, DataError> {
        options.validate(source, mean, std)?;
        if options.augment.is_none() {
            let expected = "augmentation to show";
            return Err(DataError::option("augment", expected, "none"));
        }
        let channels = source.channels();
        if ![1, 3].contains(&channels) {
            return Err(DataError::option("channels", "1 or 3 channels to show", channels));
        }
        if let Some(past) = self.images.iter().find(|&&index| index >= source.len()) {
            let expected = format!("numbers less than {}", source.len());
            return Err(DataError::option("images", expected, past));
        }
        let mut sheet = Sheet::new(options.image_size, channels, self)?;
        let prepare = Prepare::new(source, mean, std, options)?;
        let plain = LoaderOptions { augment: None, ..options.clone() };
        let plain = Prepare::new(source, mean, std, &plain)?;
        let [height, width] = options.image_size;
        let mut values = vec![0.0; channels * height * width];
        let mut scratch = Scratch::default();
        for (row, &index) in self.images.iter().enumerate() {
            for column in 0..=self.variants {
                let (prepare, epoch) = match column.checked_sub(1) {
                    Some(variant) => (&prepare, variant as u64),
                    None => (&plain, 0),
                };
                let mut stream = Stream::new(options.seed, Purpose::Image, epoch, index as u64);
                values.fill(0.0);
                prepare.image(source, index, &mut stream, &mut values, &mut scratch)?;
                let image = Pixels::denormalised(&values, options.image_size, mean, std)?;
                sheet.paste([row, column], &image);
            }
        }
        Pixels::new(sheet.size, channels, sheet.bytes)
    }
}

/// The sheet in the making, `[height, width, channels]`.
struct Sheet {
    size: [usize; 2],
    channels: usize,
    bytes: Vec<u8>,
    image: [usize; 2],
}

impl Sheet {
    fn new(
        image: [usize; 2],
        channels: usize,
        &ContactSheet { images, variants }: &ContactSheet<'_>,
    ) -> Result<Self, DataError> {
        let side = |count: usize, side: usize| count.saturating_mul(side + GAP).saturating_add(GAP);
        let size = [side(images.len(), image[0]), side(variants.saturating_add(1), image[1])];
        if images.is_empty() || size.iter().any(|&side| side > MAX_SIDE) {
            let expected = format!("at least one image, and at most {MAX_SIDE} pixels a side");
            let found = format!("{} images and {} x {} pixels", images.len(), size[0], size[1]);
            return Err(DataError::option("contact sheet", expected, found));
        }
        let bytes = vec![BACKGROUND; size[0] * size[1] * channels];
        Ok(Self { size, channels, bytes, image })
    }

    /// Puts an image at this row and column of images.
    fn paste(&mut self, [row, column]: [usize; 2], image: &Pixels) {
        let [height, width] = self.image;
        let (top, left) = (GAP + row * (height + GAP), GAP + column * (width + GAP));
        for (y, values) in image.bytes().chunks_exact(width * self.channels).enumerate() {
            let first = ((top + y) * self.size[1] + left) * self.channels;
            self.bytes[first..first + values.len()].copy_from_slice(values);
        }
    }
}

impl Pixels {
    /// The image that normalised `values`, `[channels, height, width]`, came from, as far as bytes can hold it.
    ///
    /// # Errors
    ///
    /// [`DataError::Option`] when `values` has another length than the sizes say.
    pub fn denormalised(
        values: &[f32],
        [height, width]: [usize; 2],
        mean: &[f32],
        std: &[f32],
    ) -> Result<Self, DataError> {
        let channels = mean.len().min(std.len());
        let mut bytes = vec![0; values.len()];
        let planes = values.chunks_exact((height * width).max(1)).zip(mean.iter().zip(std));
        for (channel, (plane, (mean, std))) in planes.enumerate() {
            for (byte, value) in bytes[channel..].iter_mut().step_by(channels).zip(plane) {
                // A cast keeps to 0..255: noise may lie beyond.
                *byte = ((value * std + mean) * 255.0).round() as u8;
            }
        }
        Self::new([height, width], channels, bytes)
    }

    /// The image with its longer side at most `side` pixels, its aspect kept.
    ///
    /// # Errors
    ///
    /// [`DataError::Option`] for an image of more than 4 channels that would have to be made smaller.
    pub fn thumbnail(self, side: usize) -> Result<Self, DataError> {
        let [height, width] = self.size();
        let longer = height.max(width);
        if longer <= side {
            return Ok(self);
        }
        let smaller = |own: usize| (own * side / longer).max(1);
        let size = [smaller(height), smaller(width)];
        Resampler::default().resize_whole(&self, size, Interpolation::Bilinear)
    }

    /// This image as a PNG.
    ///
    /// # Errors
    ///
    /// [`DataError::Option`] for an image of other than 1 or 3 channels, or larger than a PNG may be.
    pub fn to_png(&self) -> Result<Vec<u8>, DataError> {
        let color = match self.channels() {
            1 => ExtendedColorType::L8,
            3 => ExtendedColorType::Rgb8,
            channels => return Err(DataError::option("channels", "1 or 3 for a PNG", channels)),
        };
        let side = |side: usize| {
            u32::try_from(side).map_err(|error| DataError::option("image", "a PNG's side", error))
        };
        let [height, width] = self.size();
        let mut file = Vec::new();
        PngEncoder::new(&mut file)
            .write_image(self.bytes(), side(width)?, side(height)?, color)
            .map_err(|error| DataError::option("image", "one that a PNG can hold", error))?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::AugmentConfig;
    use crate::set::ImageSet;

    /// Four images of 6 x 8, of one value each.
    fn set(channels: usize) -> ImageSet {
        let image = channels * 48;
        let pixels = (0..4 * image).map(|at| (at / image * 60 + 10) as u8).collect();
        ImageSet::new([channels, 6, 8], 2, pixels, vec![0, 1, 0, 1]).unwrap()
    }

    fn draw(channels: usize, images: &[usize], variants: usize) -> Result<Pixels, DataError> {
        let augment = AugmentConfig { rand_augment: "rand-p1".to_owned(), ..Default::default() };
        let options = LoaderOptions::training([6, 8], 1, 3, augment);
        let (mean, std) = (vec![0.4; channels], vec![0.25; channels]);
        ContactSheet { images, variants }.draw(&set(channels), &mean, &std, &options)
    }

    #[test]
    fn a_sheet_shows_images_and_what_becomes_of_them() {
        for channels in [1, 3] {
            let sheet = draw(channels, &[2, 0, 3], 5).unwrap();
            assert_eq!(sheet.size(), [3 * 10 + 4, 6 * 12 + 4]);
            let at = |y: usize, x: usize| sheet.bytes()[(y * (6 * 12 + 4) + x) * channels];
            // The images themselves stand left, on white.
            assert_eq!([at(4, 4), at(14, 4), at(24, 11)], [130, 10, 190]);
            assert_eq!([at(3, 4), at(10, 4), at(4, 12)], [255; 3]);
            let changed = (0..3).flat_map(|row| (1..6).map(move |column| (row, column)));
            let changed = changed.filter(|(row, column)| {
                at(4 + row * 10 + 3, 4 + column * 12 + 4) != at(4 + row * 10 + 3, 8)
            });
            assert!(changed.count() > 3);
            assert_eq!(sheet, draw(channels, &[2, 0, 3], 5).unwrap());
        }
    }

    #[test]
    fn a_png_holds_the_pixels() {
        let sheet = draw(3, &[1], 2).unwrap();
        let file = sheet.to_png().unwrap();
        let read = image::load_from_memory(&file).unwrap().into_rgb8();
        assert_eq!([read.height() as usize, read.width() as usize], sheet.size());
        assert_eq!(read.into_raw(), sheet.bytes());
    }

    #[test]
    fn a_normalised_image_comes_back_and_becomes_smaller() {
        let (mean, std) = ([0.5, 0.25], [0.5, 0.125]);
        // Two channels of 1 x 2: 0 and 255, then 64 and what lies beyond.
        let values = [-1.0, 1.0, 0.0, 9.0];
        let image = Pixels::denormalised(&values, [1, 2], &mean, &std).unwrap();
        assert_eq!(image.bytes(), [0, 64, 255, 255]);
        assert!(Pixels::denormalised(&values[1..], [1, 2], &mean, &std).is_err());
        assert_eq!(image.clone().thumbnail(2).unwrap(), image);
        let wide = Pixels::new([30, 100], 3, vec![7; 9000]).unwrap().thumbnail(40).unwrap();
        assert_eq!((wide.size(), wide.bytes()[0]), ([12, 40], 7));
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let refused = |found: Result<Pixels, DataError>| found.unwrap_err().to_string();
        assert!(refused(draw(3, &[], 2)).starts_with("contact sheet: expected at least one image"));
        assert!(refused(draw(3, &[0], usize::MAX)).starts_with("contact sheet"));
        assert!(refused(draw(2, &[0], 2)).starts_with("channels: expected"));
        assert!(refused(draw(3, &[9], 2)).contains("expected numbers less than 4"));
        let plain = LoaderOptions::evaluation([6, 8], 1);
        let sheet = ContactSheet { images: &[0], variants: 1 };
        assert!(refused(sheet.draw(&set(1), &[0.5], &[0.5], &plain)).starts_with("augment"));
    }
}
