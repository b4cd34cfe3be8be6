//! Making one batch: a function of the options, the epoch and the batch's position.

use std::sync::Arc;

use crate::augment::image::ImageChange;
use crate::augment::mix::{Mix, targets};
use crate::loader::LoaderOptions;
use crate::resize::Resizer;
use crate::rng::{Purpose, Stream};
use crate::set::ImageSet;

/// Images ready for a model, with their labels and soft targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The batch's position in its epoch, from 0.
    pub index: usize,
    /// Normalised and augmented images, `[batch, channels, height, width]`.
    pub images: Vec<f32>,
    /// The shape of `images`: batch, channels, height, width.
    pub shape: [usize; 4],
    /// Each image's own label, `[batch]`, whatever it was mixed with.
    pub labels: Vec<u16>,
    /// Each image's target distribution, `[batch, classes]`; every row sums to 1.
    pub targets: Vec<f32>,
    /// The number of classes.
    pub classes: usize,
}

/// All that batches are made from. Shared by threads, changed by none.
pub(crate) struct Pipeline {
    set: Arc<ImageSet>,
    options: LoaderOptions,
    /// Normalised value of each byte, per channel.
    normalised: Vec<[f32; 256]>,
    resizer: Option<Resizer>,
}

/// Buffers that one thread uses again for every image.
#[derive(Default)]
pub(crate) struct Scratch {
    source: Vec<f32>,
    resized: Vec<f32>,
    rows: Vec<f32>,
}

impl Pipeline {
    /// `mean` and `std` have one value for each channel of `set`.
    pub(crate) fn new(
        set: Arc<ImageSet>,
        mean: &[f32],
        std: &[f32],
        options: LoaderOptions,
    ) -> Self {
        let table = |(mean, std): (&f32, &f32)| {
            std::array::from_fn(|pixel| {
                ((pixel as f64 / 255.0 - f64::from(*mean)) / f64::from(*std)) as f32
            })
        };
        let normalised = mean.iter().zip(std).map(table).collect();
        let stored = [set.height(), set.width()];
        let resizer =
            (stored != options.image_size).then(|| Resizer::new(stored, options.image_size));
        Self { set, options, normalised, resizer }
    }

    pub(crate) fn options(&self) -> &LoaderOptions {
        &self.options
    }

    pub(crate) fn set(&self) -> &ImageSet {
        &self.set
    }

    pub(crate) fn batches(&self) -> usize {
        let (images, batch) = (self.set.len(), self.options.batch_size);
        if self.options.drop_last { images / batch } else { images.div_ceil(batch) }
    }

    /// The order of an epoch's images.
    pub(crate) fn order(&self, epoch: u64) -> Vec<usize> {
        if self.options.shuffle {
            Stream::new(self.options.seed, Purpose::Order, epoch, 0).permutation(self.set.len())
        } else {
            (0..self.set.len()).collect()
        }
    }

    /// Batch `index` of an epoch whose images come in `order`.
    pub(crate) fn batch(
        &self,
        order: &[usize],
        epoch: u64,
        index: usize,
        scratch: &mut Scratch,
    ) -> Batch {
        let LoaderOptions { image_size, batch_size, seed, augment, .. } = &self.options;
        let [height, width] = *image_size;
        let members: Vec<usize> =
            order.iter().copied().skip(index * batch_size).take(*batch_size).collect();
        let channels = self.set.channels();
        let image = channels * height * width;
        let mut images = vec![0.0; members.len() * image];
        for (&member, target) in members.iter().zip(images.chunks_exact_mut(image)) {
            let source = self.normalised_image(member, scratch);
            match augment {
                Some(config) => {
                    // The image's own number, not its place: what happens to it does not depend on the batch size.
                    let mut stream = Stream::new(*seed, Purpose::Image, epoch, member as u64);
                    ImageChange::draw(config, *image_size, &mut stream).apply(
                        source,
                        target,
                        *image_size,
                    );
                }
                None => target.copy_from_slice(source),
            }
        }
        let mix = augment.as_ref().map_or(Mix::None, |config| {
            Mix::draw(
                config,
                *image_size,
                &mut Stream::new(*seed, Purpose::Mix, epoch, index as u64),
            )
        });
        mix.apply(&mut images, image, *image_size);
        let labels: Vec<u16> =
            members.iter().filter_map(|&member| self.set.label(member)).collect();
        let classes = self.set.classes();
        let smoothing = augment.as_ref().map_or(0.0, |config| config.label_smoothing);
        let targets = targets(&labels, classes, smoothing, mix.lambda(*image_size));
        Batch {
            index,
            images,
            shape: [members.len(), channels, height, width],
            labels,
            targets,
            classes,
        }
    }

    /// An image at the model's size, `[channels, height, width]`.
    fn normalised_image<'a>(&self, index: usize, scratch: &'a mut Scratch) -> &'a [f32] {
        let Scratch { source, resized, rows } = scratch;
        let plane = self.set.height() * self.set.width();
        source.clear();
        for (pixels, table) in
            self.set.image(index).unwrap_or_default().chunks_exact(plane).zip(&self.normalised)
        {
            source.extend(pixels.iter().map(|&pixel| table[usize::from(pixel)]));
        }
        let Some(resizer) = &self.resizer else {
            return source;
        };
        let [height, width] = self.options.image_size;
        resized.resize(self.set.channels() * height * width, 0.0);
        for (source, target) in
            source.chunks_exact(plane).zip(resized.chunks_exact_mut(height * width))
        {
            resizer.plane(source, target, rows);
        }
        resized
    }
}
