//! The `spvit` program: arguments to configuration to one call into `spvit-train`.

mod args;
mod commands;
mod convert;
mod derive;
mod device;
mod failure;
mod folders;
mod interrupt;
mod measure;
mod memory;
mod model_arguments;
mod output;
mod patience;
mod plan;
mod predict;
mod profile;
mod progress;
mod report;
mod table;
mod team;
mod timing;
mod watch;

use std::process::ExitCode;

use clap::Parser;

/// Bytes of the stack that everything is called on: what Linux gives by default.
const STACK: usize = 8 << 20;

fn main() -> ExitCode {
    memory::keep();
    memory::tell_when_it_runs_out();
    interrupt::survive_size_limits();
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return args::refuse(&error),
    };
    // A stack of its own size, whatever `ulimit -s` says.
    let worker = std::thread::Builder::new().name("spvit".into()).stack_size(STACK);
    match worker.spawn(|| failure::catch(|| commands::execute(arguments.command))) {
        // A panic is caught in there.
        Ok(worker) => worker.join().unwrap_or(ExitCode::FAILURE),
        Err(error) => {
            let message = failure::no_thread(error);
            failure::catch(|| Err(failure::Failure::run(message)))
        }
    }
}
