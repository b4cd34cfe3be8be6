//! Writes the pages of run folders, as `spvit report` does: `report RUN...`; each in its folder.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for run in std::env::args_os().skip(1) {
        match spvit_report::write(Path::new(&run)) {
            Ok(page) => println!("{}", page.display()),
            Err(error) => {
                eprintln!("{error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
