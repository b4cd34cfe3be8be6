//! What the program says.

use std::{
    fmt::Display,
    io::{ErrorKind, Write},
};

use crate::failure::Failure;

/// Writes a line. A reader that has seen enough, such as `head`, is no error.
pub fn say(line: impl Display) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::run(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error, if anybody still reads it: a run goes on without.
pub fn tell(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
