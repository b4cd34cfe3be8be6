//! The allocator: tensors are allocated and freed by the thousand in every step.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
}
