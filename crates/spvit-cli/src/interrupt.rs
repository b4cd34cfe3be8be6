//! Ctrl-C: the first press asks the run to stop after a checkpoint, the second ends it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, INTERRUPTED, no_thread};
use crate::output::tell;

static STOP: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C (also SIGTERM and SIGHUP, so that a machine that shuts down keeps the run).
/// `trains` says whether there will be a checkpoint.
pub fn listen(trains: bool) -> Result<(), Failure> {
    let ignored = ignored();
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
    // It listens in a thread of its own; setting the handler itself fails nowhere.
    .map_err(|error| Failure::run(no_thread(format_args!("to listen for Ctrl-C: {error}"))))?;
    ignored.into_iter().for_each(ignore);
    Ok(())
}

#[cfg(unix)]
pub mod system {
    use std::ffi::c_int;

    pub const SIGABRT: c_int = 6;
    pub const SIGXFSZ: c_int = 25;
    /// SIGHUP, SIGINT, SIGTERM.
    pub const STOPS: [c_int; 3] = [1, 2, 15];
    pub const DEFAULT: usize = 0;
    pub const IGNORE: usize = 1;

    #[allow(unsafe_code)]
    // SAFETY: POSIX's declaration; a handler is what the function of the same kind takes.
    unsafe extern "C" {
        pub safe fn signal(number: c_int, handler: usize) -> usize;
    }
}

/// Which signals whoever started the program wants ignored: `nohup` does so with SIGHUP, a shell with
/// the SIGINT of what it starts in the background.
fn ignored() -> Vec<std::ffi::c_int> {
    #[cfg(unix)]
    {
        let is_ignored = |&number: &std::ffi::c_int| {
            let before = system::signal(number, system::IGNORE);
            system::signal(number, before);
            before == system::IGNORE
        };
        system::STOPS.into_iter().filter(is_ignored).collect()
    }
    #[cfg(not(unix))]
    Vec::new()
}

fn ignore(number: std::ffi::c_int) {
    #[cfg(unix)]
    system::signal(number, system::IGNORE);
    #[cfg(not(unix))]
    let _ = number;
}

pub fn requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Makes a file that grows beyond `ulimit -f` an error with a name, not the end of the program.
pub fn survive_size_limits() {
    #[cfg(unix)]
    ignore(system::SIGXFSZ);
}
