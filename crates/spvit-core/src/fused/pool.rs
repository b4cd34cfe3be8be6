//! Many operations on the threads that compute them.

#[cfg(feature = "host")]
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::backend::Backend;

/// Where work runs that calls many operations.
pub trait PoolOps: Backend {
    /// Does `work`, a forward or a backward pass, and gives what it gives. A backend that computes on a pool
    /// of threads does it on one of them: an operation that is called from outside the pool wakes a thread
    /// and goes to sleep itself until that one is done, which with small operations takes longer than they
    /// do. `work` must not wait for other work that needs the pool.
    fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    /// The same for work with a backward pass, which holds the lock of its graph while it computes and asks for
    /// the locks of all others at its end. A thread of a pool that waits for a part of such work takes up other
    /// work, and must not take up a second pass: that one would wait for a lock which it keeps from being
    /// released itself. So each has a pool of its own, with its share of the threads where `at_once` of them are
    /// computed at the same time.
    fn pass_in_pool<R: Send>(_at_once: usize, work: impl FnOnce() -> R + Send) -> R {
        work()
    }
}

impl<B: PoolOps, C: CheckpointStrategy> PoolOps for Autodiff<B, C> {
    fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        B::in_pool(work)
    }

    fn pass_in_pool<R: Send>(at_once: usize, work: impl FnOnce() -> R + Send) -> R {
        B::pass_in_pool(at_once, work)
    }
}

#[cfg(feature = "host")]
impl<B: super::host::HostAccess> PoolOps for B {
    fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        rayon::scope(|_| work())
    }

    fn pass_in_pool<R: Send>(at_once: usize, work: impl FnOnce() -> R + Send) -> R {
        let threads = (rayon::current_num_threads() / at_once.max(1)).max(1);
        let idle = free().entry(threads).or_default().pop();
        let pool = match idle {
            Some(pool) => pool,
            None => match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
                Ok(pool) => pool,
                // No threads can be started here.
                Err(_) => return work(),
            },
        };
        let result = pool.install(work);
        free().entry(threads).or_default().push(pool);
        result
    }
}

/// Pools without work, by their number of threads.
#[cfg(feature = "host")]
fn free() -> MutexGuard<'static, BTreeMap<usize, Vec<rayon::ThreadPool>>> {
    static FREE: Mutex<BTreeMap<usize, Vec<rayon::ThreadPool>>> = Mutex::new(BTreeMap::new());
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}
