//! From one image of a source to the model's input.

use crate::augment::bytes::BytesTransform;
use crate::augment::image::ImageChange;
use crate::augment::resample::Resampler;
use crate::augment::{AugmentConfig, erase};
use crate::error::DataError;
use crate::loader::LoaderOptions;
use crate::pixels::Pixels;
use crate::resize::Resizer;
use crate::rng::Stream;
use crate::set::ImageSet;
use crate::source::ImageSource;

/// What is done to every image of a loader. Shared by threads, changed by none.
pub(crate) struct Prepare {
    options: LoaderOptions,
    /// Normalised value of each byte, per channel.
    normalised: Vec<[f32; 256]>,
    /// For sources whose images are all of one size, another than the model's.
    resizer: Option<Resizer>,
    /// Where something is to be done to bytes.
    bytes: Option<BytesTransform>,
}

/// Buffers that one thread uses again for every image.
#[derive(Default)]
pub(crate) struct Scratch {
    source: Vec<f32>,
    resized: Vec<f32>,
    rows: Vec<f32>,
    resampler: Resampler,
}

impl Prepare {
    /// `mean` and `std` have one value for each channel of `source`.
    pub(crate) fn new(
        source: &dyn ImageSource,
        mean: &[f32],
        std: &[f32],
        options: &LoaderOptions,
    ) -> Result<Self, DataError> {
        let table = |(mean, std): (&f32, &f32)| {
            std::array::from_fn(|pixel| {
                ((pixel as f64 / 255.0 - f64::from(*mean)) / f64::from(*std)) as f32
            })
        };
        let normalised = mean.iter().zip(std).map(table).collect();
        let resizer = source
            .size()
            .filter(|&stored| stored != options.image_size)
            .map(|stored| Resizer::new(stored, options.image_size));
        let (whole, augment) = (options.transform.as_ref(), options.augment.as_ref());
        let bytes = (whole.is_some() || augment.is_some_and(AugmentConfig::changes_bytes))
            .then(|| BytesTransform::new(options.image_size, mean, whole, augment))
            .transpose()?;
        Ok(Self { options: options.clone(), normalised, resizer, bytes })
    }

    /// Writes image `index` of `source` to `target`, `[channels, height, width]`, which comes zeroed. All that is
    /// random comes from `stream`.
    pub(crate) fn image(
        &self,
        source: &dyn ImageSource,
        index: usize,
        stream: &mut Stream,
        target: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), DataError> {
        let size = self.options.image_size;
        let augment = self.options.augment.as_ref();
        if let Some(transform) = &self.bytes {
            let image = source.decode(index)?;
            self.check_channels(&image)?;
            let draw = augment.map(|_| transform.draw(image.size(), stream));
            let image = transform.apply(&image, draw.as_ref(), &mut scratch.resampler)?;
            self.normalise(&image, target);
            if let Some(config) = augment {
                let erased = erase::draw(config, size, stream);
                erase::apply(&erased, config.random_erasing_mode, target, size, stream);
            }
            return Ok(());
        }
        let planes = match source.in_memory() {
            Some(set) => self.memory_planes(set, index, scratch),
            None => self.pixel_planes(&source.decode(index)?, scratch)?,
        };
        match augment {
            Some(config) => {
                let change = ImageChange::draw(config, size, stream);
                change.apply(planes, target, size);
                erase::apply(&change.erase, config.random_erasing_mode, target, size, stream);
            }
            None => target.copy_from_slice(planes),
        }
        Ok(())
    }

    /// An image of a set in memory at the model's size, normalised: its bytes are planes already.
    fn memory_planes<'a>(
        &self,
        set: &ImageSet,
        index: usize,
        scratch: &'a mut Scratch,
    ) -> &'a [f32] {
        let Scratch { source, resized, rows, .. } = scratch;
        let plane = set.height() * set.width();
        source.clear();
        for (pixels, table) in
            set.image(index).unwrap_or_default().chunks_exact(plane).zip(&self.normalised)
        {
            source.extend(pixels.iter().map(|&pixel| table[usize::from(pixel)]));
        }
        let Some(resizer) = &self.resizer else {
            return source;
        };
        resize(resizer, plane, source, resized, (self.options.image_size, rows));
        resized
    }

    fn check_channels(&self, pixels: &Pixels) -> Result<(), DataError> {
        let channels = self.normalised.len();
        if pixels.channels() != channels {
            let expected = format!("{channels} channels");
            return Err(DataError::option("image", expected, pixels.channels()));
        }
        Ok(())
    }

    /// Writes `[height, width, channels]` bytes as `[channels, height, width]` normalised values.
    fn normalise(&self, pixels: &Pixels, target: &mut [f32]) {
        let [height, width] = pixels.size();
        let planes = target.chunks_exact_mut(height * width).zip(&self.normalised);
        for (channel, (plane, table)) in planes.enumerate() {
            let values = pixels.bytes().iter().skip(channel).step_by(self.normalised.len());
            for (target, &value) in plane.iter_mut().zip(values) {
                *target = table[usize::from(value)];
            }
        }
    }

    /// A decoded image at the model's size, normalised.
    fn pixel_planes<'a>(
        &self,
        pixels: &Pixels,
        scratch: &'a mut Scratch,
    ) -> Result<&'a [f32], DataError> {
        let Scratch { source, resized, rows, .. } = scratch;
        self.check_channels(pixels)?;
        let channels = self.normalised.len();
        source.clear();
        for (channel, table) in self.normalised.iter().enumerate() {
            let values = pixels.bytes().iter().skip(channel).step_by(channels);
            source.extend(values.map(|&value| table[usize::from(value)]));
        }
        let (size, wanted) = (pixels.size(), self.options.image_size);
        if size == wanted {
            return Ok(source);
        }
        let resizer = Resizer::new(size, wanted);
        resize(&resizer, size[0] * size[1], source, resized, (wanted, rows));
        Ok(resized)
    }
}

fn resize(
    resizer: &Resizer,
    plane: usize,
    source: &[f32],
    resized: &mut Vec<f32>,
    ([height, width], rows): ([usize; 2], &mut Vec<f32>),
) {
    resized.resize(source.len() / plane * height * width, 0.0);
    for (source, target) in source.chunks_exact(plane).zip(resized.chunks_exact_mut(height * width))
    {
        resizer.plane(source, target, rows);
    }
}
