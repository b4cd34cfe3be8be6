//! What a loader is asked for, and the loader.

use std::sync::{Arc, Mutex};

use crate::augment::crop::EvalTransform;
use crate::augment::{AugmentConfig, repeat};
use crate::broken::{BrokenImages, Faults};
use crate::epoch::Epoch;
use crate::error::DataError;
use crate::pipeline::Pipeline;
use crate::share::{Peers, Share, Shared};
use crate::source::ImageSource;

const MAX_SIDE: usize = 4096;
const MAX_THREADS: usize = 256;
/// Values of one batch: 16 GiB of them is a mistake in an option.
const MAX_VALUES: usize = u32::MAX as usize;

/// How a [`Loader`] makes batches.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Height and width of the model's input in pixels. Where neither `transform` nor the augmentation of bytes says
    /// otherwise, images of another size are resized bilinearly in float32, without rounding: pixel centres at
    /// half-integers as PyTorch with `align_corners=False`, and with a filter as wide as the ratio where they are
    /// shrunk (torchvision's `antialias=True`). The aspect is not kept.
    pub image_size: [usize; 2],
    /// Images in each batch; the last batch of an epoch may have fewer.
    pub batch_size: usize,
    /// What all random decisions come from.
    pub seed: u64,
    /// Threads that make batches in the background, together on each; with 0 they are made where they are taken. The
    /// batches are the same whatever the number.
    pub threads: usize,
    /// How images that are not cropped at random come to `image_size`: those of an evaluation, and of a training
    /// without `random_resized_crop`. Resizing is done to bytes, as Pillow does it. Without, they are resized as said
    /// there.
    pub transform: Option<EvalTransform>,
    /// Changes to images and targets. Without, images are only normalised and targets are one-hot.
    pub augment: Option<AugmentConfig>,
    /// Whether each epoch draws the images in an order of its own, or in that of the set.
    pub shuffle: bool,
    /// Whether an epoch leaves out the last batch if it is not full.
    pub drop_last: bool,
}

impl LoaderOptions {
    /// For training: shuffled, augmented, full batches only, one background thread.
    pub fn training(
        image_size: [usize; 2],
        batch_size: usize,
        seed: u64,
        augment: AugmentConfig,
    ) -> Self {
        let augment = Some(augment);
        Self {
            seed,
            augment,
            shuffle: true,
            drop_last: true,
            ..Self::evaluation(image_size, batch_size)
        }
    }

    /// For evaluation: every image once, as it is, in the set's order, one background thread.
    pub fn evaluation(image_size: [usize; 2], batch_size: usize) -> Self {
        Self {
            image_size,
            batch_size,
            seed: 0,
            threads: 1,
            transform: None,
            augment: None,
            shuffle: false,
            drop_last: false,
        }
    }

    pub(crate) fn validate(
        &self,
        set: &dyn ImageSource,
        mean: &[f32],
        std: &[f32],
    ) -> Result<(), DataError> {
        let [height, width] = self.image_size;
        if !self.image_size.iter().all(|side| (1..=MAX_SIDE).contains(side)) {
            let expected = format!("height and width of 1 to {MAX_SIDE} pixels");
            return Err(DataError::option("image_size", expected, format!("{height} x {width}")));
        }
        let image = set.channels().saturating_mul(height * width);
        let largest = MAX_VALUES / image.max(1);
        if self.batch_size == 0 || self.batch_size > largest {
            let expected =
                format!("1 to {largest} images of {} x {height} x {width}", set.channels());
            return Err(DataError::option("batch_size", expected, self.batch_size));
        }
        if self.threads > MAX_THREADS {
            return Err(DataError::option("threads", format!("0 to {MAX_THREADS}"), self.threads));
        }
        let channels = set.channels();
        if mean.len() != channels || !mean.iter().all(|mean| mean.is_finite()) {
            return Err(DataError::option(
                "mean",
                format!("{channels} finite values"),
                format!("{mean:?}"),
            ));
        }
        if std.len() != channels || !std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return Err(DataError::option(
                "std",
                format!("{channels} values above 0"),
                format!("{std:?}"),
            ));
        }
        if let Some(transform) = &self.transform {
            transform.validate()?;
            if ![1, 3].contains(&channels) {
                let expected = "images of 1 or 3 channels for a transform";
                return Err(DataError::option("channels", expected, channels));
            }
        }
        if let Some(augment) = &self.augment {
            augment.validate(self.image_size)?;
            augment.validate_channels(channels)?;
        }
        Ok(())
    }

    /// Times that an image comes in an epoch.
    pub(crate) fn repeats(&self) -> usize {
        self.augment.as_ref().map_or(1, |augment| augment.repeated)
    }

    /// Images of an epoch, of a set of `images`.
    pub(crate) fn drawn(&self, images: usize) -> usize {
        repeat::drawn(images, self.repeats())
    }
}

/// Draws an image set in batches, epoch by epoch.
///
/// A batch is a function of the set, the options, the epoch and the batch's position. Neither the number of threads
/// nor the batches drawn before changes a bit of it.
pub struct Loader {
    pipeline: Arc<Pipeline>,
    shared: Option<Shared>,
    faults: Arc<Mutex<Faults>>,
    broken: BrokenImages,
}

impl Loader {
    /// A loader for `set`, whose pixels, scaled to 0..1, are normalised by `mean` and `std` (`[channels]`, those of
    /// the training split).
    ///
    /// # Errors
    ///
    /// [`DataError::Option`] when an option is out of range or does not fit the set, when the set is empty, or when an
    /// epoch would have no batch.
    pub fn new(
        set: Arc<dyn ImageSource>,
        mean: &[f32],
        std: &[f32],
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        options.validate(&*set, mean, std)?;
        if set.is_empty() {
            return Err(DataError::option("images", "at least one image to load", "an empty set"));
        }
        let drawn = options.drawn(set.len());
        if options.drop_last && drawn < options.batch_size {
            let expected = format!(
                "at most the {drawn} images there are, since unfilled batches are left out",
            );
            return Err(DataError::option("batch_size", expected, options.batch_size));
        }
        let pipeline = Arc::new(Pipeline::new(set, mean, std, options)?);
        let (faults, broken) = (Arc::default(), BrokenImages::default());
        Ok(Self { pipeline, shared: None, faults, broken })
    }

    /// Names broken images among `broken` ([`Dataset::broken`](crate::Dataset::broken)) and stops at its limit,
    /// rather than at 1 % and with notes of its own.
    #[must_use]
    pub fn sharing(mut self, broken: &BrokenImages) -> Self {
        self.broken = broken.clone();
        self
    }

    /// Makes this process's share of the batches only, as several draw them together: what one of them cannot decode
    /// is left out by all. All of them draw the same epochs from the same batch on.
    #[must_use]
    pub fn among(mut self, peers: Arc<dyn Peers>, share: Share) -> Self {
        self.shared = Some(Shared::new(peers, share));
        self
    }

    /// The broken images met, and what is to be said about them.
    pub fn broken(&self) -> &BrokenImages {
        &self.broken
    }

    /// The number of batches in an epoch, at least 1.
    pub fn batches_per_epoch(&self) -> usize {
        self.pipeline.batches()
    }

    /// The images that batches are drawn from.
    pub fn set(&self) -> &dyn ImageSource {
        self.pipeline.source()
    }

    /// The options this loader was made with.
    pub fn options(&self) -> &LoaderOptions {
        self.pipeline.options()
    }

    /// The batches of `epoch` from position `start_batch` on; none if that is past the last.
    ///
    /// Threads start here and end when the epoch is drawn or dropped.
    pub fn epoch(&self, epoch: u64, start_batch: usize) -> Epoch {
        let broken = (self.faults.clone(), self.broken.clone());
        let shared = self.shared.clone();
        Epoch::start((self.pipeline.clone(), shared), (epoch, start_batch), broken)
    }
}
