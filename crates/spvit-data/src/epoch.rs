//! The batches of an epoch, made in the background by threads that share each batch.

use std::iter::FusedIterator;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use crate::broken::{BrokenImages, Fault, Faults};
use crate::error::DataError;
use crate::pipeline::{Batch, Made, Pipeline};
use crate::prepare::Scratch;
use crate::share::Shared;
use crate::work::{Slot, Work};

/// The batches of one epoch, in order. Made by [`Loader::epoch`](crate::Loader::epoch).
///
/// A batch lacks the images that could not be decoded; one of which no image is left is not given at all. An error
/// ends the epoch. Dropping it ends its threads and waits for them, which takes at most as long as a few images.
///
/// Where processes share it ([`Loader::among`](crate::Loader::among)), `next` waits for all of them, which therefore
/// all draw it to its end, or to the same batch.
pub struct Epoch {
    work: Arc<Work>,
    threads: Vec<JoinHandle<()>>,
    scratch: Scratch,
    broken: BrokenImages,
    /// Batches of which the processes have still to tell each other what they lack, where these are shared.
    rounds: usize,
}

impl Epoch {
    pub(crate) fn start(
        (pipeline, shared): (Arc<Pipeline>, Option<Shared>),
        (epoch, start): (u64, usize),
        (faults, broken): (Arc<Mutex<Faults>>, BrokenImages),
    ) -> Self {
        let (work, threads) = Work::new((pipeline, shared, faults), (epoch, start));
        let work = Arc::new(work);
        let spawn = |_| {
            let work = work.clone();
            // Where the system refuses a thread, the others do its work, or whoever takes the batches.
            Builder::new().name("spvit-data loader".to_owned()).spawn(move || work.run()).ok()
        };
        let threads = (0..threads).map_while(spawn).collect();
        let rounds = work.most();
        Self { work, threads, scratch: Scratch::default(), broken, rounds }
    }

    /// The batches that are still to come, at most.
    #[expect(clippy::len_without_is_empty, reason = "what matters is whether `next` gives one")]
    pub fn len(&self) -> usize {
        self.work.left()
    }

    /// The next batch, and what it lacks.
    fn made(&mut self) -> Option<Made> {
        match self.work.take(self.threads.is_empty(), &mut self.scratch)? {
            Slot::Done(made) => Some(made),
            Slot::Panicked(panic) => resume_unwind(panic),
            Slot::Pieces { .. } => None,
        }
    }

    /// Notes what could not be decoded.
    fn note(&self, faults: Vec<Fault>) -> Result<(), DataError> {
        if faults.is_empty() {
            return Ok(());
        }
        let images = self.work.pipeline().source().len();
        self.work.faults().add(faults, images, &self.broken)
    }

    /// The next batch, once all processes know what it lacks.
    fn agreed(&mut self) -> Result<Option<Batch>, DataError> {
        let work = self.work.clone();
        match work.shared() {
            None => {
                let Some(Made { batch, faults, .. }) = self.made() else { return Ok(None) };
                self.note(faults)?;
                Ok(batch)
            }
            Some(shared) if shared.is_parts() => self.agreed_part(shared),
            Some(_) if self.rounds == 0 => Ok(None),
            Some(shared) => {
                self.rounds -= 1;
                // In the last round there may be none for this process.
                let made = self.made();
                let own = made.as_ref().map_or(&[][..], |made| &made.faults);
                self.note(shared.gather(own)?)?;
                Ok(made.and_then(|made| made.batch))
            }
        }
    }

    /// This process's part of the next batch. Which images those are depends on which of the batch are broken, so that
    /// it is made anew once another process has found one. All have the same ones, and go round as often.
    fn agreed_part(&mut self, shared: &Shared) -> Result<Option<Batch>, DataError> {
        let Some(mut made) = self.made() else { return Ok(None) };
        // It may have been drafted before those of the last batch were known.
        let mut anew = {
            let known = self.work.faults();
            made.draft.any(|index| known.contains(index))
        };
        loop {
            if anew {
                self.work.reopen();
                let Some(again) = self.made() else { return Ok(None) };
                made = again;
            }
            let mut faults = shared.gather(&made.faults)?;
            if faults.is_empty() {
                return Ok(made.batch);
            }
            faults.sort_by_key(|fault| fault.place);
            self.note(faults)?;
            anew = true;
        }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.agreed() {
                // Of which no image is left.
                Ok(Some(batch)) if batch.labels.is_empty() => {}
                Ok(batch) => return batch.map(Ok),
                Err(error) => {
                    self.rounds = 0;
                    self.work.close();
                    return Some(Err(error));
                }
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
        self.work.close();
        for thread in self.threads.drain(..) {
            // What a thread panicked with was handed on, and whoever drops the epoch does not want it.
            let _ = thread.join();
        }
    }
}
