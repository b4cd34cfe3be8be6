//! Batches of which several processes make a part each.

use std::sync::Arc;

use crate::broken::Fault;
use crate::error::DataError;

/// The processes that draw the same batches, all of which take the same ones at the same time.
pub trait Peers: Send + Sync {
    /// Which of them this one is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn count(&self) -> usize;

    /// The messages of all, in the order of their ranks.
    ///
    /// # Errors
    ///
    /// A line that says why, if one of them cannot be reached.
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, String>;
}

/// Places of a process's own images in a batch of so many, for [`Share::Part`]. What an image is mixed with is decoded,
/// too: where that is among them ([`paired_places`](crate::paired_places)), each image of a batch is decoded by one
/// process. Where it panics, so does who takes the batch.
pub type PartOf = Arc<dyn Fn(usize) -> Vec<usize> + Send + Sync>;

/// What one of several processes makes of an epoch.
#[derive(Clone)]
pub enum Share {
    /// A part of every batch. The parts of all processes together are the batch.
    Part(PartOf),
    /// Every n-th batch of n processes, from its rank on.
    Batches,
}

/// Which processes, and what is this one's.
#[derive(Clone)]
pub(crate) struct Shared {
    peers: Arc<dyn Peers>,
    share: Share,
}

impl Shared {
    pub(crate) fn new(peers: Arc<dyn Peers>, share: Share) -> Self {
        Self { peers, share }
    }

    /// Own places in a batch of so many images, ascending, where every batch is shared.
    pub(crate) fn part(&self, images: usize) -> Option<Vec<usize>> {
        let Share::Part(part) = &self.share else { return None };
        let mut places = part(images);
        places.retain(|&place| place < images);
        places.sort_unstable();
        places.dedup();
        Some(places)
    }

    /// Whether every batch is.
    pub(crate) fn is_parts(&self) -> bool {
        matches!(self.share, Share::Part(_))
    }

    /// Where a process begins among its batches and by how much it goes on, where they are shared.
    pub(crate) fn batches(&self) -> Option<(usize, usize)> {
        matches!(self.share, Share::Batches).then(|| (self.peers.rank(), self.peers.count()))
    }

    /// What all of them could not decode, each image once.
    pub(crate) fn gather(&self, own: &[Fault]) -> Result<Vec<Fault>, DataError> {
        let lost = |problem: String| DataError::Peers { problem };
        let message = match own {
            [] => Vec::new(),
            own => serde_json::to_vec(own).map_err(|error| lost(error.to_string()))?,
        };
        let mut all: Vec<Fault> = Vec::new();
        for message in self.peers.gather(&message).map_err(lost)? {
            let theirs: Vec<Fault> = match &message[..] {
                [] => Vec::new(),
                text => serde_json::from_slice(text)
                    .map_err(|_| lost("they are of different versions".into()))?,
            };
            for fault in theirs {
                if all.iter().all(|known| known.index != fault.index) {
                    all.push(fault);
                }
            }
        }
        Ok(all)
    }
}
