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
    let _ = writeln!(std::io::stderr(), "{}", plain(line));
}

/// A text as one line: a file's name may hold line ends, and what a terminal takes for commands.
pub fn plain(text: impl Display) -> String {
    let text = text.to_string();
    match text.contains(char::is_control) {
        false => text,
        true => text
            .chars()
            .flat_map(|c| {
                let escaped = c.is_control().then(|| c.escape_default());
                let same = escaped.is_none().then_some(c);
                escaped.into_iter().flatten().chain(same)
            })
            .collect(),
    }
}
