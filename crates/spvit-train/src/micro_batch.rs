//! A batch in parts, and parts that are computed at the same time.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData, backend::Backend};
use spvit_core::TrainBackend;
use spvit_data::{Batch, paired_places};

/// A part of a batch on a device.
#[derive(Debug, Clone)]
pub struct MicroBatch<B: Backend> {
    /// Places of the images in the batch, ascending.
    pub places: Vec<usize>,
    /// Images of the whole batch.
    pub total: usize,
    /// `[count, channels, height, width]`.
    pub images: Tensor<B, 4>,
    /// `[count, classes]`, each row summing to 1.
    pub targets: Tensor<B, 2>,
}

impl<B: Backend> MicroBatch<B> {
    /// Place of its first image in the batch.
    pub fn first(&self) -> usize {
        self.places.first().copied().unwrap_or_default()
    }
}

/// A part of a batch on the host.
pub(crate) struct Part {
    places: Vec<usize>,
    total: usize,
    images: TensorData,
    targets: TensorData,
    /// The true classes, `[count]`.
    pub labels: Vec<u16>,
}

impl Part {
    /// Moves the part to a device; gives its labels, too.
    pub fn upload<B: Backend>(self, device: &B::Device) -> (MicroBatch<B>, Vec<u16>) {
        let Self { places, total, images, targets, labels } = self;
        let images = Tensor::from_data(images, device);
        let targets = Tensor::from_data(targets, device);
        (MicroBatch { places, total, images, targets }, labels)
    }
}

/// How batches are cut for devices, of which every process has as many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// Parts of a batch for each device, where it has as many images.
    pub each: usize,
    /// Devices of this process.
    pub devices: usize,
    /// Which process this is, and how many there are.
    pub process: (usize, usize),
}

impl Cut {
    /// How many nearly equal parts a batch of `total` images has.
    fn parts(&self, total: usize) -> usize {
        let parts = self.each.saturating_mul(self.devices).saturating_mul(self.process.1);
        parts.clamp(1, total.max(1))
    }

    /// Parts for each device. Of fewer images than parts the last devices get none.
    pub fn share(&self, total: usize) -> usize {
        self.parts(total).div_ceil(self.devices * self.process.1)
    }

    /// Whether there is nothing for this process to do.
    pub fn is_idle(&self, total: usize) -> bool {
        self.share(total) * self.devices * self.process.0 >= self.parts(total)
    }

    /// The parts that this process computes. What has nothing to do learns from the first one what there is to add up.
    fn own(&self, total: usize) -> Range<usize> {
        if self.is_idle(total) {
            return 0..1;
        }
        let share = self.share(total) * self.devices;
        let before = share * self.process.0;
        before..(before + share).min(self.parts(total))
    }

    /// Places of the images of some of the parts. An image is in the same one as its partner in mixup and CutMix, but
    /// for at most one at either end, so that no other process needs to decode it.
    fn places(&self, total: usize, Range { start, end }: Range<usize>) -> Vec<usize> {
        let parts = self.parts(total);
        paired_places(total, start * total / parts..end * total / parts)
    }

    /// Places of the images that this process computes, ascending.
    pub fn images(&self, total: usize) -> Vec<usize> {
        self.places(total, self.own(total))
    }
}

/// The parts of a batch that this process computes; it has their images.
pub(crate) fn split(batch: &Batch, cut: &Cut) -> Vec<Part> {
    let [total, channels, height, width] = batch.shape;
    let (size, classes) = (channels * height * width, batch.classes);
    cut.own(total)
        .map(|part| {
            let places = cut.places(total, part..part + 1);
            let count = places.len();
            let mut images = Vec::with_capacity(count * size);
            let mut targets = Vec::with_capacity(count * classes);
            for &place in &places {
                let at = batch.part.partition_point(|&other| other < place) * size;
                images.extend_from_slice(&batch.images[at..at + size]);
                targets.extend_from_slice(&batch.targets[place * classes..(place + 1) * classes]);
            }
            Part {
                total,
                images: TensorData::new(images, [count, channels, height, width]),
                targets: TensorData::new(targets, [count, classes]),
                labels: places.iter().map(|&place| batch.labels[place]).collect(),
                places,
            }
        })
        .collect()
}

/// Does `work`, which computes gradients, on every part with a model of its own, each on a thread; results in
/// order. `replicas` do so at the same time.
pub(crate) fn run<B: TrainBackend, M: Send, R: Send>(
    parts: Vec<Part>,
    replicas: usize,
    fork: impl Fn() -> M,
    work: impl Fn(M, Part) -> R + Sync,
) -> Vec<R> {
    let jobs: Vec<(M, Part)> = parts.into_iter().map(|part| (fork(), part)).collect();
    let passes = replicas.saturating_mul(jobs.len());
    let work = |(model, part)| B::pass_in_pool(passes, || work(model, part));
    let mut jobs = jobs.into_iter();
    match jobs.next() {
        Some(first) => at_once(|| work(first), jobs.collect(), work),
        None => Vec::new(),
    }
}

/// Does one thing on this thread and every other one on a thread of its own; results in order, the first
/// thing's first.
pub(crate) fn at_once<T: Send, R: Send>(
    first: impl FnOnce() -> R,
    others: Vec<T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            others.into_iter().map(|other| scope.spawn(move || work(other))).collect();
        let first = first();
        let rest = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        std::iter::once(first).chain(rest).collect()
    })
}
