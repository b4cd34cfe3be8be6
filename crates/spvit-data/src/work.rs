//! The pieces of an epoch's batches, which threads make in turn.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::augment::repeat::Member;
use crate::broken::Faults;
use crate::pipeline::{Draft, Made, Piece, Pipeline};
use crate::prepare::Scratch;
use crate::share::Shared;

/// Pieces that each thread finishes ahead of their use. Two keep a thread busy while one is taken.
const AHEAD: usize = 2;

/// What the threads of one epoch share.
pub(crate) struct Work {
    pipeline: Arc<Pipeline>,
    shared: Option<Shared>,
    faults: Arc<Mutex<Faults>>,
    order: Vec<Member>,
    epoch: u64,
    /// The first batch, and how far it is from one to the next.
    batches: (usize, usize),
    /// How many batches are made here. They are counted from 0.
    end: usize,
    /// How many the process with the most makes.
    most: usize,
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
    /// Pieces of the batch `first` that are to be made anew.
    again: Vec<usize>,
    closed: bool,
}

/// A batch in the making.
pub(crate) enum Slot {
    Pieces { draft: Arc<Draft>, made: Vec<Option<Piece>>, missing: usize },
    Done(Made),
    Panicked(Box<dyn Any + Send>),
}

/// A piece to be made: its batch, its number in it, and what the batch is made of.
struct Task(usize, usize, Arc<Draft>);

impl Work {
    /// The batches of an epoch from batch `start` on, as far as they are made here, and how many threads there is
    /// something to do for.
    pub(crate) fn new(
        (pipeline, shared, faults): (Arc<Pipeline>, Option<Shared>, Arc<Mutex<Faults>>),
        (epoch, start): (u64, usize),
    ) -> (Self, usize) {
        let left = pipeline.batches().saturating_sub(start);
        let (rank, count) = shared.as_ref().and_then(Shared::batches).unwrap_or((0, 1));
        let queue =
            Queue { slots: VecDeque::new(), first: 0, next: (0, 0), again: vec![], closed: false };
        let mut work = Self {
            order: pipeline.order(epoch),
            piece: pipeline.piece(),
            pipeline,
            shared,
            faults,
            epoch,
            batches: (start + rank, count),
            end: left.saturating_sub(rank).div_ceil(count),
            most: left.div_ceil(count),
            open: 1,
            queue: Mutex::new(queue),
            taken: Condvar::new(),
            ready: Condvar::new(),
        };
        let pieces = if work.end > 0 { work.pieces(&work.draft(0)) } else { 1 };
        let threads = work.pipeline.options().threads.min(work.end.saturating_mul(pieces));
        work.open += (threads * AHEAD).div_ceil(pieces);
        (work, threads)
    }

    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// How many batches the process with the most makes.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds this.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a batch is made of. A part is one of what is not known to be broken.
    fn draft(&self, batch: usize) -> Draft {
        let index = self.batches.0 + batch * self.batches.1;
        let size = self.pipeline.options().batch_size;
        let members = &self.order[index * size..((index + 1) * size).min(self.order.len())];
        let shared = self.shared.as_ref();
        let mut members = members.to_vec();
        if shared.is_some_and(Shared::is_parts) {
            let known = self.faults();
            members.retain(|member| !known.contains(member.index));
        }
        self.pipeline.draft((self.epoch, index), members, shared)
    }

    /// How many pieces a batch has. One without images has one, too, in which nothing is.
    fn pieces(&self, draft: &Draft) -> usize {
        draft.len().div_ceil(self.piece).max(1)
    }

    fn begin(&self, draft: &Arc<Draft>) -> Slot {
        let missing = self.pieces(draft);
        let made = (0..missing).map(|_| None).collect();
        Slot::Pieces { draft: draft.clone(), made, missing }
    }

    /// The next piece that may be made now.
    fn claim(&self, queue: &mut Queue) -> Option<Task> {
        if queue.closed {
            return None;
        }
        if let Some(task) = Self::claim_again(queue) {
            return Some(task);
        }
        let (batch, piece) = queue.next;
        if batch >= self.end.min(queue.first + self.open) {
            return None;
        }
        if piece == 0 {
            let slot = self.begin(&Arc::new(self.draft(batch)));
            queue.slots.push_back(slot);
        }
        let Some(Slot::Pieces { draft, .. }) = queue.slots.back() else { return None };
        let last = piece + 1 == self.pieces(draft);
        queue.next = if last { (batch + 1, 0) } else { (batch, piece + 1) };
        Some(Task(batch, piece, draft.clone()))
    }

    /// The next piece of a batch that is made anew.
    fn claim_again(queue: &mut Queue) -> Option<Task> {
        let piece = queue.again.pop()?;
        let Some(Slot::Pieces { draft, .. }) = queue.slots.front() else { return None };
        Some(Task(queue.first, piece, draft.clone()))
    }

    /// Makes a piece and, if it is the last of its batch, the batch.
    fn make(&self, Task(batch, piece, draft): &Task, scratch: &mut Scratch) {
        let start = piece * self.piece;
        let places = start..(start + self.piece).min(draft.len());
        let made = self.pipeline.images(self.epoch, (draft, places), scratch);
        let Some(pieces) = self.put(*batch, *piece, made) else { return };
        self.finish(*batch, Slot::Done(self.pipeline.batch(draft.clone(), pieces)));
    }

    /// Puts a piece in its place; gives all of them when none is missing.
    fn put(&self, batch: usize, piece: usize, made: Piece) -> Option<Vec<Piece>> {
        let mut queue = self.lock();
        let place = batch.checked_sub(queue.first)?;
        let Some(Slot::Pieces { made: pieces, missing, .. }) = queue.slots.get_mut(place) else {
            return None;
        };
        *pieces.get_mut(piece)? = Some(made);
        *missing -= 1;
        (*missing == 0).then(|| pieces.drain(..).flatten().collect())
    }

    /// Begins the batch anew that was taken last.
    pub(crate) fn reopen(&self) {
        let mut queue = self.lock();
        queue.first -= 1;
        let draft = Arc::new(self.draft(queue.first));
        queue.again = (0..self.pieces(&draft)).rev().collect();
        queue.slots.push_front(self.begin(&draft));
        drop(queue);
        self.taken.notify_all();
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
    pub(crate) fn run(&self) {
        let mut scratch = Scratch::default();
        let mut queue = self.lock();
        loop {
            if queue.closed || (queue.next.0 >= self.end && queue.again.is_empty()) {
                return;
            }
            // A panic is handed to whoever takes the batch, who would wait for ever otherwise.
            match catch_unwind(AssertUnwindSafe(|| self.claim(&mut queue))) {
                Err(panic) => {
                    queue.slots.push_back(Slot::Panicked(panic));
                    queue.next = (queue.next.0 + 1, 0);
                    self.ready.notify_all();
                }
                Ok(None) => {
                    queue = self.taken.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                Ok(Some(task)) => {
                    drop(queue);
                    let made = catch_unwind(AssertUnwindSafe(|| self.make(&task, &mut scratch)));
                    if let Err(panic) = made {
                        self.finish(task.0, Slot::Panicked(panic));
                    }
                    queue = self.lock();
                }
            }
        }
    }

    /// The next batch's slot, once it is complete; `None` at the end. Who takes it makes it, too, where that is done
    /// `alone`.
    pub(crate) fn take(&self, alone: bool, scratch: &mut Scratch) -> Option<Slot> {
        let mut queue = self.lock();
        loop {
            if queue.closed || queue.first >= self.end {
                return None;
            }
            if queue.slots.front().is_some_and(|slot| !matches!(slot, Slot::Pieces { .. })) {
                let slot = queue.slots.pop_front();
                queue.first += 1;
                drop(queue);
                self.taken.notify_all();
                return slot;
            }
            let task = match alone {
                true => Some(self.claim(&mut queue)?),
                // The threads may have ended.
                false => Self::claim_again(&mut queue),
            };
            if let Some(task) = task {
                drop(queue);
                self.make(&task, scratch);
                queue = self.lock();
            } else {
                queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Batches that are still to be taken.
    pub(crate) fn left(&self) -> usize {
        self.end - self.lock().first
    }

    /// Ends the threads and gives no batch any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.taken.notify_all();
    }
}
