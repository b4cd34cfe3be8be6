//! Batches of an epoch, made in the background.

use std::iter::FusedIterator;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::augment::AugmentConfig;
use crate::error::DataError;
use crate::pipeline::{Batch, Pipeline, Scratch};
use crate::set::ImageSet;

/// Batches that each thread finishes ahead of their use. Two keep a thread busy while one is taken.
const AHEAD: usize = 2;
const MAX_SIDE: usize = 4096;
const MAX_THREADS: usize = 256;
/// Values of one batch: 16 GiB of them is a mistake in an option.
const MAX_VALUES: usize = u32::MAX as usize;

/// How a [`Loader`] makes batches.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Height and width of the model's input in pixels. Images of another size are resized bilinearly, one by one:
    /// pixel centres at half-integers as PyTorch with `align_corners=False`, and with a filter as wide as the ratio
    /// where they are shrunk (torchvision's `antialias=True`). The aspect is not kept.
    pub image_size: [usize; 2],
    /// Images in each batch; the last batch of an epoch may have fewer.
    pub batch_size: usize,
    /// What all random decisions come from.
    pub seed: u64,
    /// Threads that make batches in the background; with 0 they are made where they are taken. The batches are the
    /// same whatever the number.
    pub threads: usize,
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
        Self { image_size, batch_size, seed, threads: 1, augment, shuffle: true, drop_last: true }
    }

    /// For evaluation: every image once, as it is, in the set's order, one background thread.
    pub fn evaluation(image_size: [usize; 2], batch_size: usize) -> Self {
        Self {
            image_size,
            batch_size,
            seed: 0,
            threads: 1,
            augment: None,
            shuffle: false,
            drop_last: false,
        }
    }

    fn validate(&self, set: &ImageSet, mean: &[f32], std: &[f32]) -> Result<(), DataError> {
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
        self.augment.as_ref().map_or(Ok(()), |augment| augment.validate(self.image_size))
    }
}

/// Draws an image set in batches, epoch by epoch.
///
/// A batch is a function of the set, the options, the epoch and the batch's position. Neither the number of threads
/// nor the batches drawn before changes a bit of it.
pub struct Loader {
    pipeline: Arc<Pipeline>,
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
        set: Arc<ImageSet>,
        mean: &[f32],
        std: &[f32],
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        options.validate(&set, mean, std)?;
        if set.is_empty() {
            return Err(DataError::option("images", "at least one image to load", "an empty set"));
        }
        if options.drop_last && set.len() < options.batch_size {
            let expected = format!(
                "at most the {} images there are, since unfilled batches are left out",
                set.len()
            );
            return Err(DataError::option("batch_size", expected, options.batch_size));
        }
        Ok(Self { pipeline: Arc::new(Pipeline::new(set, mean, std, options)) })
    }

    /// The number of batches in an epoch, at least 1.
    pub fn batches_per_epoch(&self) -> usize {
        self.pipeline.batches()
    }

    /// The images that batches are drawn from.
    pub fn set(&self) -> &ImageSet {
        self.pipeline.set()
    }

    /// The options this loader was made with.
    pub fn options(&self) -> &LoaderOptions {
        self.pipeline.options()
    }

    /// The batches of `epoch` from position `start_batch` on; none if that is past the last.
    ///
    /// Threads start here and end when the epoch is drawn or dropped.
    pub fn epoch(&self, epoch: u64, start_batch: usize) -> Epoch {
        let maker = Maker {
            pipeline: self.pipeline.clone(),
            order: self.pipeline.order(epoch).into(),
            epoch,
        };
        let end = self.batches_per_epoch();
        let next = start_batch.min(end);
        let threads = self.pipeline.options().threads.min(end - next);
        let workers = (0..threads)
            .map(|lane| Worker::start(maker.clone(), (next + lane..end).step_by(threads)));
        Epoch {
            workers: workers.collect(),
            maker,
            start: next,
            next,
            end,
            scratch: Scratch::default(),
        }
    }
}

/// Makes any batch of one epoch.
#[derive(Clone)]
struct Maker {
    pipeline: Arc<Pipeline>,
    order: Arc<[usize]>,
    epoch: u64,
}

impl Maker {
    fn batch(&self, index: usize, scratch: &mut Scratch) -> Batch {
        self.pipeline.batch(&self.order, self.epoch, index, scratch)
    }
}

/// A background thread that makes every n-th batch, in order.
struct Worker {
    batches: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(maker: Maker, indices: impl Iterator<Item = usize> + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(AHEAD - 1);
        let work = move || {
            let mut scratch = Scratch::default();
            for index in indices {
                // The receiver is gone when the epoch was dropped.
                if sender.send(maker.batch(index, &mut scratch)).is_err() {
                    return;
                }
            }
        };
        // Where the system refuses a thread, the sender is dropped and the epoch makes these batches itself.
        let thread = Builder::new().name("spvit-data loader".to_owned()).spawn(work).ok();
        Self { batches: Some(receiver), thread }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without a receiver, the thread ends at its next batch.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing more to say: its batches were made in its stead.
            let _ = thread.join();
        }
    }
}

/// The batches of one epoch, in order. Made by [`Loader::epoch`].
///
/// Dropping it ends its threads and waits for them, which takes at most as long as one batch.
pub struct Epoch {
    workers: Vec<Worker>,
    maker: Maker,
    start: usize,
    next: usize,
    end: usize,
    scratch: Scratch,
}

impl Iterator for Epoch {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.next == self.end {
            return None;
        }
        let index = self.next;
        self.next += 1;
        // Worker n makes the batches start + n, start + n + workers, ...: taking them in turn keeps their order.
        let worker = (index - self.start)
            .checked_rem(self.workers.len())
            .and_then(|lane| self.workers.get(lane));
        let ready = worker.and_then(|worker| worker.batches.as_ref()?.recv().ok());
        Some(ready.unwrap_or_else(|| self.maker.batch(index, &mut self.scratch)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl ExactSizeIterator for Epoch {}
impl FusedIterator for Epoch {}

impl Drop for Epoch {
    fn drop(&mut self) {
        // All receivers first, so that the threads end at the same time and not one after the other.
        self.workers.iter_mut().for_each(|worker| worker.batches = None);
    }
}
