//! What a person types in the checkout: `cargo xtask COMMAND`.

mod bench;
mod book;
mod ci;
mod demo;
mod int8;
mod interop;
mod latency;
mod pages;
mod shell;
mod study;
mod torture;

use std::{path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

use shell::{Failure, cargo, run};

/// Tasks of the checkout.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Search, prune, fine-tune and evaluate on the bundled images (configs/demo.toml)
    Search {
        /// More arguments for `spvit run`, such as --set search.budget=0.5
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Train the dense model that is bundled under models/ (configs/fashion-mnist.toml)
    Pretrain {
        /// More arguments for `spvit pretrain`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run all tests
    Test,
    /// Everything that must hold before a change lands: format, tests, the README's commands, bad
    /// days, other programs' files, lints, documentation and the GPU features' types
    Ci {
        /// Only checks whose name has this in it
        #[arg(long)]
        only: Option<String>,
    },
    /// Write the bundled images anew from the full Fashion-MNIST
    BundleData {
        /// Folder with the four IDX files
        source: String,
    },
    /// Check files that other programs write and read (needs Python and PyPI)
    Interop {
        /// Presets to check
        #[arg(default_values_t = interop::SHAPES.map(String::from))]
        shapes: Vec<String>,
        /// Instead of this, read every ViT and Swin of timm and transformers, made small
        #[arg(long)]
        coverage: bool,
        /// So many of these models, always the same
        #[arg(long, requires = "coverage")]
        sample: Option<usize>,
        /// Only models whose name has this in it
        #[arg(long, requires = "coverage")]
        only: Option<String>,
        /// Write the list of models that are equal (tests/interop/coverage.txt) anew
        #[arg(long, requires = "coverage", conflicts_with = "sample")]
        update: bool,
    },
    /// Benchmarks
    Bench(bench::Arguments),
    /// Compare the search with its rivals at several budgets; draws docs/EVIDENCE.md
    Study(study::Arguments),
    /// Build a page on which a run's dense and compact model classify images in the browser
    Demo {
        /// The run
        #[arg(default_value = "runs/demo")]
        run: std::path::PathBuf,
        /// The page, one file of some 18 MB
        #[arg(long, default_value = "demo.html")]
        out: std::path::PathBuf,
    },
    /// Quantise a run's compact model to eight bits, and compare it with float32 and float16 (needs Python and
    /// PyPI)
    Int8 {
        /// The run
        #[arg(default_value = "runs/demo")]
        run: std::path::PathBuf,
    },
    /// Build the book of docs/ into target/book
    Book,
    /// Look at reports and the live page in a headless Chromium, and keep pictures of them
    Pages {
        /// Where the pictures come
        #[arg(default_value = "target/pages")]
        folder: std::path::PathBuf,
    },
    /// Kill, break and limit runs, and feed the program broken files; prints what was tried and passed
    Torture(torture::Arguments),
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    match shell::enter_checkout().and_then(|()| perform(task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<(), Failure> {
    match task {
        Task::Search { arguments } => spvit("run", "configs/demo.toml", "runs/demo", arguments),
        Task::Pretrain { arguments } => {
            spvit("pretrain", "configs/fashion-mnist.toml", "runs/pretrain", arguments)
        }
        Task::Test => ci::test(),
        Task::Ci { only } => ci::all(only.as_deref().unwrap_or_default()),
        Task::BundleData { source } => bundle(&source),
        Task::Interop { coverage: true, sample, only, update, .. } => {
            let sample = sample.map(|count| format!("--sample={count}"));
            let only = only.map(|text| format!("--only={text}"));
            let update = update.then(|| "--update".to_string());
            interop::coverage(&[sample, only, update].into_iter().flatten().collect::<Vec<_>>())
        }
        Task::Interop { shapes, .. } => interop::check(&shapes),
        Task::Bench(arguments) => bench::run(arguments),
        Task::Study(arguments) => study::run_study(&arguments),
        Task::Demo { run, out } => demo::build(&run, &out),
        Task::Int8 { run } => int8::quantise(&run),
        Task::Book => book::build(),
        Task::Pages { folder } => pages::check(&folder),
        Task::Torture(arguments) => torture::run(&arguments),
    }
}

/// Builds the program and calls it in a free run folder.
fn spvit(command: &str, config: &str, folder: &str, more: Vec<String>) -> Result<(), Failure> {
    // The whole workspace, as the tests build it: one set of features, one build of Burn.
    run(cargo().args(["build", "--release", "--workspace"]))?;
    let mut program = shell::spvit();
    program.arg(command);
    let own = |option: &str| more.iter().any(|argument| argument == option);
    if !own("--config") && !own("--resume") {
        program.args(["--config", config]);
    }
    if !own("--out") && !own("--resume") {
        program.args(["--out", &free(folder)]);
    }
    run(program.args(more))
}

/// The folder, or the first of `folder-2`, `folder-3`, … that is not there yet.
fn free(folder: &str) -> String {
    let names = std::iter::once(folder.to_string()).chain((2..).map(|n| format!("{folder}-{n}")));
    let mut free = names.filter(|name| !Path::new(name).exists());
    free.next().unwrap_or_else(|| folder.to_string())
}

fn bundle(source: &str) -> Result<(), Failure> {
    let folder = Path::new("data/fashion-mnist-mini");
    let subset = spvit_data::bundle::write_subset(Path::new(source), folder, 9000, 1000, 2000)
        .map_err(|error| Failure::new(error.to_string()))?;
    println!("wrote {} files, {} bytes, to {}", subset.files.len(), subset.bytes, folder.display());
    Ok(())
}
