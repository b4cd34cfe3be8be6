//! Ctrl-C: the first press asks the run to stop after a checkpoint, the second ends it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, INTERRUPTED};

static STOP: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C (also SIGTERM and SIGHUP, so that a machine that shuts down keeps the run).
pub fn listen() -> Result<(), Failure> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("stopping after a checkpoint; once more stops at once");
    })
    .map_err(|error| Failure::run(format!("cannot listen for Ctrl-C: {error}")))
}

pub fn requested() -> bool {
    STOP.load(Ordering::Relaxed)
}
