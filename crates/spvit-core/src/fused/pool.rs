//! Many operations on the threads that compute them.

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

    /// The same for work with a backward pass. That holds the lock of its graph while it computes: a thread of
    /// the pool that waits within it takes up other work, and were that another backward pass, it would wait for
    /// ever for the lock that it holds itself. So only one such work is in the pool at a time, and the others
    /// wait outside. Passes that are to run at the same time stay outside altogether.
    fn alone_in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        work()
    }
}

impl<B: PoolOps, C: CheckpointStrategy> PoolOps for Autodiff<B, C> {
    fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        B::in_pool(work)
    }

    fn alone_in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        B::alone_in_pool(work)
    }
}

#[cfg(feature = "host")]
impl<B: super::host::HostAccess> PoolOps for B {
    fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        rayon::scope(|_| work())
    }

    fn alone_in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        // Nothing is in the lock that a panic could have left half done.
        let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        B::in_pool(work)
    }
}
