//! Images that cannot be decoded: named once, counted, and too many of them an error.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// The share of a set's images that may be broken where nothing else is asked.
pub const BROKEN_LIMIT: f64 = 0.01;

/// The broken images met so far, shared by all loaders of a data set, so that each is named once.
///
/// Loaders print nothing: what they have to say waits here until [`take_notes`](Self::take_notes).
#[derive(Clone, Debug)]
pub struct BrokenImages {
    limit: f64,
    met: Arc<Mutex<Met>>,
}

#[derive(Debug, Default)]
struct Met {
    names: HashSet<String>,
    notes: Vec<String>,
}

impl Default for BrokenImages {
    fn default() -> Self {
        Self { limit: BROKEN_LIMIT, met: Arc::default() }
    }
}

impl BrokenImages {
    /// None met yet; a loader stops once more than `limit`, 0 to 1, of its images are broken.
    ///
    /// # Errors
    ///
    /// [`DataError::Option`] when `limit` is outside its range.
    pub fn new(limit: f64) -> Result<Self, DataError> {
        if !(0.0..=1.0).contains(&limit) {
            return Err(DataError::option("broken_limit", "a share from 0 to 1", limit));
        }
        Ok(Self { limit, ..Self::default() })
    }

    /// One sentence for each image that was found broken since this was called last, in the order of the batches.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().notes)
    }

    /// How many images were found broken.
    pub fn count(&self) -> usize {
        self.lock().names.len()
    }

    fn note(&self, name: &str, problem: &str) {
        let mut met = self.lock();
        if met.names.insert(name.to_owned()) {
            met.notes.push(format!("left out a broken image: {problem}"));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Met> {
        // Nothing panics while it holds this.
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One image that a batch lacks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Its number in the set.
    pub(crate) index: usize,
    /// Its place in the batch, of what was thought to be whole.
    pub(crate) place: usize,
    pub(crate) name: String,
    pub(crate) problem: String,
}

/// The broken images of one loader.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    indices: HashSet<usize>,
    first: Option<String>,
}

impl Faults {
    /// Whether an image was found broken.
    pub(crate) fn contains(&self, index: usize) -> bool {
        self.indices.contains(&index)
    }

    /// Notes the broken images of one batch out of `images`. Batches come in order, so that what is said, and when
    /// a run stops, does not depend on threads.
    pub(crate) fn add(
        &mut self,
        faults: Vec<Fault>,
        images: usize,
        shared: &BrokenImages,
    ) -> Result<(), DataError> {
        for fault in faults {
            shared.note(&fault.name, &fault.problem);
            self.indices.insert(fault.index);
            self.first.get_or_insert(fault.problem);
        }
        let count = self.indices.len();
        if count as f64 <= shared.limit * images as f64 {
            return Ok(());
        }
        Err(DataError::Broken {
            count,
            images,
            limit: shared.limit,
            first: self.first.clone().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(index: usize) -> Fault {
        Fault {
            index,
            place: 0,
            name: format!("{index}.jpg"),
            problem: format!("{index}.jpg: cut short"),
        }
    }

    #[test]
    fn an_image_is_named_once_by_all_loaders_and_counted_once_by_each() {
        let shared = BrokenImages::new(0.02).unwrap();
        let (mut training, mut evaluation) = (Faults::default(), Faults::default());
        for _ in 0..3 {
            training.add(vec![fault(1), fault(2)], 100, &shared).unwrap();
        }
        evaluation.add(vec![fault(2)], 100, &shared).unwrap();
        assert_eq!(shared.take_notes().len(), 2);
        assert!(shared.take_notes().is_empty());
        assert_eq!(shared.count(), 2);
        let message = training.add(vec![fault(9)], 100, &shared).unwrap_err().to_string();
        assert!(message.contains("3 of 100 images"), "{message}");
        assert!(message.contains("1.jpg: cut short"), "{message}");
        assert_eq!(shared.take_notes(), ["left out a broken image: 9.jpg: cut short"]);
    }

    #[test]
    fn a_limit_is_a_share() {
        for limit in [-0.1, 1.1, f64::NAN] {
            assert!(BrokenImages::new(limit).is_err());
        }
    }
}
