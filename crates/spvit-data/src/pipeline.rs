//! Making one batch: a function of the options, the epoch and the batch's position.

use std::sync::Arc;

use crate::augment::mix::{Mix, targets};
use crate::augment::repeat::{self, Member};
use crate::broken::Fault;
use crate::error::DataError;
use crate::loader::LoaderOptions;
use crate::prepare::{Prepare, Scratch};
use crate::rng::{Purpose, Stream};
use crate::source::ImageSource;

/// Values that one thread makes at a time: few enough that a batch of photographs is shared by many threads, and
/// enough that a batch of small images is made by one, without being put together from pieces.
const PIECE_VALUES: usize = 1 << 19;

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
    source: Arc<dyn ImageSource>,
    options: LoaderOptions,
    prepare: Prepare,
}

/// Some consecutive images of a batch.
#[derive(Default)]
pub(crate) struct Piece {
    images: Vec<f32>,
    labels: Vec<u16>,
    faults: Vec<Fault>,
}

impl Pipeline {
    /// `mean` and `std` have one value for each channel of `source`.
    pub(crate) fn new(
        source: Arc<dyn ImageSource>,
        mean: &[f32],
        std: &[f32],
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        let prepare = Prepare::new(&*source, mean, std, &options)?;
        Ok(Self { source, options, prepare })
    }

    pub(crate) fn options(&self) -> &LoaderOptions {
        &self.options
    }

    pub(crate) fn source(&self) -> &dyn ImageSource {
        &*self.source
    }

    pub(crate) fn batches(&self) -> usize {
        let (images, batch) = (self.options.drawn(self.source.len()), self.options.batch_size);
        if self.options.drop_last { images / batch } else { images.div_ceil(batch) }
    }

    /// The order of an epoch's images.
    pub(crate) fn order(&self, epoch: u64) -> Vec<Member> {
        let images = if self.options.shuffle {
            Stream::new(self.options.seed, Purpose::Order, epoch, 0).permutation(self.source.len())
        } else {
            (0..self.source.len()).collect()
        };
        repeat::order(images, self.options.repeats())
    }

    /// Images that one thread makes at a time, at least 1.
    pub(crate) fn piece(&self) -> usize {
        (PIECE_VALUES / self.image_values().max(1)).clamp(1, self.options.batch_size)
    }

    fn image_values(&self) -> usize {
        let [height, width] = self.options.image_size;
        self.source.channels() * height * width
    }

    /// The images with these numbers, but for those that cannot be decoded.
    pub(crate) fn images(&self, epoch: u64, members: &[Member], scratch: &mut Scratch) -> Piece {
        let image = self.image_values();
        let mut piece = Piece { images: vec![0.0; members.len() * image], ..Piece::default() };
        for &Member { index: member, repeat } in members {
            let start = piece.labels.len() * image;
            let target = &mut piece.images[start..start + image];
            // The image's own number, not its place: what happens to it does not depend on the batch size.
            let (seed, purpose) = (self.options.seed, Purpose::Image);
            let mut stream = Stream::repeated(seed, purpose, epoch, member as u64, repeat);
            match self.prepare.image(&*self.source, member, &mut stream, target, scratch) {
                Ok(()) => piece.labels.push(self.source.label(member).unwrap_or_default()),
                Err(error) => piece.faults.push(Fault {
                    index: member,
                    name: self.source.name(member),
                    problem: error.to_string(),
                }),
            }
        }
        piece.images.truncate(piece.labels.len() * image);
        piece
    }

    /// Batch `index` of an epoch, put together from its pieces, and what could not be decoded of it.
    pub(crate) fn batch(
        &self,
        epoch: u64,
        index: usize,
        pieces: impl IntoIterator<Item = Piece>,
    ) -> (Batch, Vec<Fault>) {
        let LoaderOptions { image_size, seed, augment, .. } = &self.options;
        let mut pieces = pieces.into_iter();
        let Piece { mut images, mut labels, mut faults } = pieces.next().unwrap_or_default();
        for piece in pieces {
            images.extend_from_slice(&piece.images);
            labels.extend_from_slice(&piece.labels);
            faults.extend(piece.faults);
        }
        let mix = augment.as_ref().map_or(Mix::None, |config| {
            let mut stream = Stream::new(*seed, Purpose::Mix, epoch, index as u64);
            Mix::draw(config, *image_size, &mut stream)
        });
        mix.apply(&mut images, self.image_values(), *image_size);
        let classes = self.source.classes();
        let smoothing = augment.as_ref().map_or(0.0, |config| config.label_smoothing);
        let targets = targets(&labels, classes, smoothing, mix.lambda(*image_size));
        let [height, width] = *image_size;
        let shape = [labels.len(), self.source.channels(), height, width];
        (Batch { index, images, shape, labels, targets, classes }, faults)
    }
}
