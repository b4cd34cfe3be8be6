//! A word where something takes long without a sign of life.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::Builder,
    time::Duration,
};

use crate::output::tell;

/// What takes no longer needs no explanation.
const LONG: Duration = Duration::from_secs(4);

/// Says a sentence once if it lives for long.
pub struct Patience {
    _alive: Option<Sender<()>>,
}

/// For the time in which images are looked for.
pub fn reading_images() -> Patience {
    let (alive, dropped) = channel::<()>();
    let wait = move || {
        if dropped.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
            tell(
                "still looking through the images; a run keeps what it found, so that --resume \
                 begins sooner",
            );
        }
    };
    // Where the system refuses a thread, nothing is said.
    let thread = Builder::new().name("patience".into()).stack_size(1 << 17).spawn(wait);
    Patience { _alive: thread.is_ok().then_some(alive) }
}
