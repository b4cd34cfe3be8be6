//! Making one batch: a function of the options, the epoch and the batch's position.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::augment::mix::{Mix, targets};
use crate::augment::repeat::{self, Member};
use crate::broken::Fault;
use crate::error::DataError;
use crate::loader::LoaderOptions;
use crate::prepare::{Prepare, Scratch};
use crate::rng::{Purpose, Stream};
use crate::share::Shared;
use crate::source::ImageSource;

/// Values that one thread makes at a time: few enough that a batch of photographs is shared by many threads, and
/// enough that a batch of small images is made by one, without being put together from pieces.
const PIECE_VALUES: usize = 1 << 19;

/// Images ready for a model, with their labels and soft targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The batch's position in its epoch, from 0.
    pub index: usize,
    /// Normalised and augmented images, `[part, channels, height, width]`.
    pub images: Vec<f32>,
    /// Places of `images` in the batch, ascending: all of them, unless processes share it
    /// ([`Share::Part`](crate::Share)).
    pub part: Vec<usize>,
    /// The batch's shape: batch, channels, height, width.
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

/// What a batch is made of, if all of that can be decoded.
#[derive(Debug)]
pub(crate) struct Draft {
    index: usize,
    members: Vec<Member>,
    mix: Mix,
    /// Places in `members` of the images that are wanted, ascending, where that is not all.
    part: Option<Vec<usize>>,
    /// Places of what these are made of, ascending: of themselves and of what they are mixed with.
    places: Vec<usize>,
}

impl Draft {
    /// How many images are to be decoded.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether any of its images is so.
    pub(crate) fn any(&self, so: impl Fn(usize) -> bool) -> bool {
        self.members.iter().any(|member| so(member.index))
    }
}

/// Some consecutive images of a batch.
#[derive(Default)]
pub(crate) struct Piece {
    images: Vec<f32>,
    faults: Vec<Fault>,
}

/// A batch, and what it lacks.
pub(crate) struct Made {
    pub(crate) draft: Arc<Draft>,
    /// None where a part of it lacks images: it depends on what the other parts lack.
    pub(crate) batch: Option<Batch>,
    pub(crate) faults: Vec<Fault>,
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

    /// What batch `index` of an epoch is made of: of these images, or of the part of them that is wanted.
    pub(crate) fn draft(
        &self,
        (epoch, index): (u64, usize),
        members: Vec<Member>,
        shared: Option<&Shared>,
    ) -> Draft {
        let LoaderOptions { image_size, seed, augment, .. } = &self.options;
        let mix = augment.as_ref().map_or(Mix::None, |config| {
            let mut stream = Stream::new(*seed, Purpose::Mix, epoch, index as u64);
            Mix::draw(config, *image_size, &mut stream)
        });
        let count = members.len();
        let part = shared.and_then(|shared| shared.part(count));
        let wanted = |&place: &usize| match &part {
            Some(part) => {
                contains(part, place) || (mix != Mix::None && contains(part, count - 1 - place))
            }
            None => true,
        };
        let places = (0..count).filter(wanted).collect();
        Draft { index, members, mix, part, places }
    }

    /// A draft's images from place to place, but for those that cannot be decoded.
    pub(crate) fn images(
        &self,
        epoch: u64,
        (draft, places): (&Draft, Range<usize>),
        scratch: &mut Scratch,
    ) -> Piece {
        let image = self.image_values();
        let places = &draft.places[places];
        let mut piece = Piece { images: vec![0.0; places.len() * image], ..Piece::default() };
        let mut whole = 0;
        for &place in places {
            let Member { index: member, repeat } = draft.members[place];
            let start = whole * image;
            let target = &mut piece.images[start..start + image];
            // The image's own number, not its place: what happens to it does not depend on the batch size.
            let (seed, purpose) = (self.options.seed, Purpose::Image);
            let mut stream = Stream::repeated(seed, purpose, epoch, member as u64, repeat);
            match self.prepare.image(&*self.source, member, &mut stream, target, scratch) {
                Ok(()) => whole += 1,
                Err(error) => piece.faults.push(Fault {
                    index: member,
                    place,
                    name: self.source.name(member),
                    problem: error.to_string(),
                }),
            }
        }
        piece.images.truncate(whole * image);
        piece
    }

    /// A drafted batch, put together from its pieces.
    pub(crate) fn batch(&self, draft: Arc<Draft>, pieces: impl IntoIterator<Item = Piece>) -> Made {
        let LoaderOptions { image_size, augment, .. } = &self.options;
        let mut pieces = pieces.into_iter();
        let Piece { mut images, mut faults } = pieces.next().unwrap_or_default();
        for piece in pieces {
            images.extend_from_slice(&piece.images);
            faults.extend(piece.faults);
        }
        let Draft { index, members, mix, part, places } = &*draft;
        if part.is_some() && !faults.is_empty() {
            return Made { draft, batch: None, faults };
        }
        let broken: HashSet<usize> = faults.iter().map(|fault| fault.place).collect();
        let whole = members.iter().enumerate().filter(|(place, _)| !broken.contains(place));
        let labels: Vec<u16> =
            whole.map(|(_, member)| self.source.label(member.index).unwrap_or_default()).collect();
        // What is mixed is symmetric: with every place there is the one that it is mixed with.
        mix.apply(&mut images, self.image_values(), *image_size);
        let part = part.clone().unwrap_or_else(|| (0..labels.len()).collect());
        if places.len() > part.len() {
            let image = self.image_values();
            let own = places.iter().enumerate().filter(|&(_, &place)| contains(&part, place));
            for (to, (from, _)) in own.enumerate() {
                images.copy_within(from * image..(from + 1) * image, to * image);
            }
            images.truncate(part.len() * image);
        }
        let classes = self.source.classes();
        let smoothing = augment.as_ref().map_or(0.0, |config| config.label_smoothing);
        let targets = targets(&labels, classes, smoothing, mix.lambda(*image_size));
        let [height, width] = *image_size;
        let shape = [labels.len(), self.source.channels(), height, width];
        let batch = Batch { index: *index, images, part, shape, labels, targets, classes };
        Made { draft, batch: Some(batch), faults }
    }
}

/// Whether ascending places contain this one.
fn contains(places: &[usize], place: usize) -> bool {
    places.binary_search(&place).is_ok()
}
