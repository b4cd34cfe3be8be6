//! Builds docs/ as a book, into target/book. Called by `cargo xtask book`; a program of its own, as nothing else
//! needs mdBook.

use std::process::ExitCode;

use mdbook_driver::MDBook;

fn main() -> ExitCode {
    match MDBook::load("docs").and_then(|book| book.build()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
