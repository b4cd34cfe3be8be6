//! The batches of an epoch, made in the background by threads that share each batch.

use std::any::Any;
use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::augment::repeat::Member;
use crate::broken::{BrokenImages, Fault, Faults};
use crate::error::DataError;
use crate::pipeline::{Batch, Piece, Pipeline};
use crate::prepare::Scratch;

/// Pieces that each thread finishes ahead of their use. Two keep a thread busy while one is taken.
const AHEAD: usize = 2;

/// What the threads of one epoch share.
struct Work {
    pipeline: Arc<Pipeline>,
    order: Vec<Member>,
    epoch: u64,
    end: usize,
    /// Images in a piece.
    piece: usize,
    /// Batches that may be open at once, which bounds the memory.
    open: usize,
    queue: Mutex<Queue>,
    /// A batch was taken, or the epoch dropped.
    taken: Condvar,
    /// A batch is complete.
    ready: Condvar,
}

struct Queue {
    /// The batches from `first` on that have been begun.
    slots: VecDeque<Slot>,
    /// The next batch that will be taken.
    first: usize,
    /// The next piece to be made: its batch, and its number in it.
    next: (usize, usize),
    closed: bool,
}

/// A batch in the making.
enum Slot {
    Pieces { made: Vec<Option<Piece>>, missing: usize },
    Done(Batch, Vec<Fault>),
    Panicked(Box<dyn Any + Send>),
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds this.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places in `order` of a batch's images.
    fn members(&self, batch: usize) -> Range<usize> {
        let size = self.pipeline.options().batch_size;
        batch * size..((batch + 1) * size).min(self.order.len())
    }

    /// The next piece that may be made now.
    fn claim(&self, queue: &mut Queue) -> Option<(usize, usize)> {
        let (batch, piece) = queue.next;
        if queue.closed || batch >= self.end.min(queue.first + self.open) {
            return None;
        }
        let pieces = self.members(batch).len().div_ceil(self.piece);
        if piece == 0 {
            let made = (0..pieces).map(|_| None).collect();
            queue.slots.push_back(Slot::Pieces { made, missing: pieces });
        }
        queue.next = if piece + 1 < pieces { (batch, piece + 1) } else { (batch + 1, 0) };
        Some((batch, piece))
    }

    /// Makes a piece and, if it is the last of its batch, the batch.
    fn make(&self, (batch, piece): (usize, usize), scratch: &mut Scratch) {
        let members = &self.order[self.members(batch)];
        let start = piece * self.piece;
        let members = &members[start..(start + self.piece).min(members.len())];
        let made = self.pipeline.images(self.epoch, members, scratch);
        let Some(pieces) = self.put(batch, piece, made) else { return };
        let (made, faults) = self.pipeline.batch(self.epoch, batch, pieces);
        self.finish(batch, Slot::Done(made, faults));
    }

    /// Puts a piece in its place; gives all of them when none is missing.
    fn put(&self, batch: usize, piece: usize, made: Piece) -> Option<Vec<Piece>> {
        let mut queue = self.lock();
        let place = batch.checked_sub(queue.first)?;
        let Some(Slot::Pieces { made: pieces, missing }) = queue.slots.get_mut(place) else {
            return None;
        };
        *pieces.get_mut(piece)? = Some(made);
        *missing -= 1;
        (*missing == 0).then(|| pieces.drain(..).flatten().collect())
    }

    fn finish(&self, batch: usize, done: Slot) {
        let mut queue = self.lock();
        let place = batch.checked_sub(queue.first);
        if let Some(slot) = place.and_then(|place| queue.slots.get_mut(place)) {
            *slot = done;
        }
        drop(queue);
        self.ready.notify_all();
    }

    /// What a thread does until there is nothing left to do.
    fn run(&self) {
        let mut scratch = Scratch::default();
        let mut queue = self.lock();
        loop {
            if queue.closed || queue.next.0 >= self.end {
                return;
            }
            match self.claim(&mut queue) {
                None => {
                    queue = self.taken.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                Some(task) => {
                    drop(queue);
                    // A panic is handed to whoever takes the batch, who would wait for ever otherwise.
                    let made = catch_unwind(AssertUnwindSafe(|| self.make(task, &mut scratch)));
                    if let Err(panic) = made {
                        self.finish(task.0, Slot::Panicked(panic));
                    }
                    queue = self.lock();
                }
            }
        }
    }
}

/// The batches of one epoch, in order. Made by [`Loader::epoch`](crate::Loader::epoch).
///
/// A batch lacks the images that could not be decoded; one of which no image is left is not given at all. An error
/// ends the epoch. Dropping it ends its threads and waits for them, which takes at most as long as a few images.
pub struct Epoch {
    work: Arc<Work>,
    threads: Vec<JoinHandle<()>>,
    scratch: Scratch,
    faults: Arc<Mutex<Faults>>,
    broken: BrokenImages,
}

impl Epoch {
    pub(crate) fn start(
        pipeline: Arc<Pipeline>,
        (epoch, start): (u64, usize),
        (faults, broken): (Arc<Mutex<Faults>>, BrokenImages),
    ) -> Self {
        let end = pipeline.batches();
        let first = start.min(end);
        let piece = pipeline.piece();
        let pieces = pipeline.options().batch_size.div_ceil(piece);
        let threads = pipeline.options().threads.min((end - first).saturating_mul(pieces));
        let open = 1 + (threads * AHEAD).div_ceil(pieces);
        let order = pipeline.order(epoch);
        let queue = Queue { slots: VecDeque::new(), first, next: (first, 0), closed: false };
        let (taken, ready) = (Condvar::new(), Condvar::new());
        let queue = Mutex::new(queue);
        let work = Arc::new(Work { pipeline, order, epoch, end, piece, open, queue, taken, ready });
        let spawn = |_| {
            let work = work.clone();
            // Where the system refuses a thread, the others do its work, or whoever takes the batches.
            Builder::new().name("spvit-data loader".to_owned()).spawn(move || work.run()).ok()
        };
        let threads = (0..threads).map_while(spawn).collect();
        Self { work, threads, scratch: Scratch::default(), faults, broken }
    }

    /// The batches that are still to come, at most.
    #[expect(clippy::len_without_is_empty, reason = "what matters is whether `next` gives one")]
    pub fn len(&self) -> usize {
        self.work.end - self.work.lock().first
    }

    /// The next batch's slot, once it is complete; `None` at the end.
    fn take(&mut self) -> Option<Slot> {
        let mut queue = self.work.lock();
        loop {
            if queue.closed || queue.first >= self.work.end {
                return None;
            }
            if queue.slots.front().is_some_and(|slot| !matches!(slot, Slot::Pieces { .. })) {
                let slot = queue.slots.pop_front();
                queue.first += 1;
                drop(queue);
                self.work.taken.notify_all();
                return slot;
            }
            if self.threads.is_empty() {
                let task = self.work.claim(&mut queue)?;
                drop(queue);
                self.work.make(task, &mut self.scratch);
                queue = self.work.lock();
            } else {
                queue = self.work.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn close(&self) {
        self.work.lock().closed = true;
        self.work.taken.notify_all();
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (batch, faults) = match self.take()? {
                Slot::Done(batch, faults) => (batch, faults),
                Slot::Panicked(panic) => resume_unwind(panic),
                Slot::Pieces { .. } => return None,
            };
            if !faults.is_empty() {
                let images = self.work.pipeline.source().len();
                let mut met = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = met.add(faults, images, &self.broken) {
                    drop(met);
                    self.close();
                    return Some(Err(error));
                }
            }
            if !batch.labels.is_empty() {
                return Some(Ok(batch));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.len()))
    }
}

impl FusedIterator for Epoch {}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.close();
        for thread in self.threads.drain(..) {
            // What a thread panicked with was handed on, and whoever drops the epoch does not want it.
            let _ = thread.join();
        }
    }
}
