//! The allocator: tensors are allocated and freed by the thousand in every step.

use std::{
    alloc::{GlobalAlloc, Layout},
    ffi::{c_int, c_long},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use mimalloc::MiMalloc;

#[cfg(unix)]
use crate::interrupt::system;

#[global_allocator]
static ALLOCATOR: Noting = Noting;

/// `mi_option_purge_delay` of mimalloc 2 and 3: milliseconds until freed memory goes back to the
/// system, -1 for never.
const PURGE_DELAY: c_int = 15;

// SAFETY: mimalloc's own declarations, of the library that `ALLOCATOR` links.
#[allow(unsafe_code)]
unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
    #[cfg(test)]
    safe fn mi_option_get(option: c_int) -> c_long;
}

/// Keeps the memory of one step for the next, unless `MIMALLOC_PURGE_DELAY` says otherwise: giving it
/// back and taking it anew costs 6 to 14 % of a step. To be called before there is a second thread.
pub fn keep() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: not thread-safe; there is one thread.
        #[allow(unsafe_code)]
        unsafe {
            mi_option_set(PURGE_DELAY, -1);
        }
    }
}

/// Bytes that the system last refused; 0 where it has refused none.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// mimalloc, with a note of what it could not give: without memory the standard library ends the
/// program by SIGABRT, and a handler can tell this end from others.
struct Noting;

fn noted(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() {
        REFUSED.store(size, Ordering::Relaxed);
    }
    pointer
}

// SAFETY: mimalloc keeps the contract; its results pass through unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        noted(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        noted(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        noted(unsafe { MiMalloc.realloc(old, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

/// Makes memory that runs out an error like others: one line and exit code 1.
pub fn tell_when_it_runs_out() {
    // The handler makes calls alone that a handler may.
    #[cfg(unix)]
    system::signal(system::SIGABRT, ran_out as *const () as usize);
}

/// Says what was asked for. An end for another reason is as if there were no handler.
#[cfg(unix)]
extern "C" fn ran_out(_: c_int) {
    #[allow(unsafe_code)]
    // SAFETY: POSIX's declarations; all may be called in a handler.
    unsafe extern "C" {
        fn write(file: c_int, bytes: *const u8, count: usize) -> isize;
        safe fn _exit(code: c_int) -> !;
        safe fn raise(number: c_int) -> c_int;
        safe fn pause() -> c_int;
    }
    let refused = REFUSED.load(Ordering::Relaxed);
    if refused == 0 {
        // Delivered when the handler has returned.
        system::signal(system::SIGABRT, system::DEFAULT);
        raise(system::SIGABRT);
        return;
    }
    // Several threads may find no memory at once: one says so, and ends them all.
    static TOLD: AtomicBool = AtomicBool::new(false);
    while TOLD.swap(true, Ordering::Relaxed) {
        pause();
    }
    let (mut digits, mut rest, mut start) = ([b'0'; 20], refused.div_ceil(1_000_000), 20);
    while rest > 0 {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // In one piece and on a line of its own, whatever another thread is about to write.
    let (mut text, mut length) = ([0u8; 256], 0);
    for part in [
        b"\nerror: the memory has run out: another ",
        &digits[start..],
        b" MB were asked for; make batch_size or the model smaller, set accumulate, or raise \
          the limit (ulimit -v, the container's). A run goes on from its last checkpoint with \
          --resume\n",
    ] {
        let end = (length + part.len()).min(text.len());
        text[length..end].copy_from_slice(&part[..end - length]);
        length = end;
    }
    // SAFETY: the bytes live as long as the call.
    #[allow(unsafe_code)]
    unsafe {
        write(2, text.as_ptr(), length);
    }
    _exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The option's number is mimalloc's: its default is 10 or 1000 ms, and no other option's.
    #[test]
    fn memory_is_kept() {
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            assert!(mi_option_get(PURGE_DELAY) >= 10);
            keep();
            assert_eq!(mi_option_get(PURGE_DELAY), -1);
        }
    }

    #[test]
    fn memory_that_is_refused_is_noted() {
        assert!(Vec::<u8>::new().try_reserve_exact(isize::MAX as usize / 2).is_err());
        assert_eq!(REFUSED.load(Ordering::Relaxed), isize::MAX as usize / 2);
    }
}
