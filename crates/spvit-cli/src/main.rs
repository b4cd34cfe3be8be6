//! The `spvit` program: arguments to configuration to one call into `spvit-train`.

mod args;
mod commands;
mod convert;
mod device;
mod failure;
mod folders;
mod interrupt;
mod memory;
mod output;
mod picture;
mod profile;
mod progress;
mod table;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    memory::keep();
    interrupt::survive_size_limits();
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return args::refuse(&error),
    };
    failure::catch(|| commands::execute(arguments.command))
}
