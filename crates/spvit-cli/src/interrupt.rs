//! Ctrl-C: the first press asks the run to stop after a checkpoint, the second ends it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, INTERRUPTED};
use crate::output::tell;

static STOP: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C (also SIGTERM and SIGHUP, so that a machine that shuts down keeps the run).
/// `trains` says whether there will be a checkpoint.
pub fn listen(trains: bool) -> Result<(), Failure> {
    ctrlc::set_handler(move || {
        if !trains {
            // Nothing that took long is lost.
            std::process::exit(i32::from(INTERRUPTED));
        }
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        tell("stopping after a checkpoint; once more stops at once");
    })
    .map_err(|error| Failure::run(format!("cannot listen for Ctrl-C: {error}")))
}

pub fn requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Makes a file that grows beyond `ulimit -f` an error with a name, not the end of the program.
pub fn survive_size_limits() {
    #[cfg(unix)]
    #[allow(unsafe_code)]
    {
        use std::ffi::c_int;

        const SIGXFSZ: c_int = 25;
        const IGNORE: usize = 1;
        // SAFETY: POSIX's declaration; no handler runs.
        unsafe extern "C" {
            fn signal(number: c_int, handler: usize) -> usize;
        }
        // SAFETY: there is one thread, and ignoring a signal needs no handler.
        unsafe {
            signal(SIGXFSZ, IGNORE);
        }
    }
}
