//! What must hold before a change lands.

use std::{collections::BTreeSet, path::Path, thread, time::Instant};

use crate::{
    book, interop, pages,
    shell::{Failure, cargo, release, run, spvit, succeeds},
    study, torture,
};

/// All tests of the workspace, in release: training on a CPU is too slow without optimisation.
pub fn test() -> Result<(), Failure> {
    let nextest = succeeds(cargo().args(["nextest", "--version"]));
    match nextest {
        true => {
            run(cargo().args(["nextest", "run", "--cargo-profile", "release", "--workspace"]))?;
            run(cargo().args(["test", "--release", "--workspace", "--doc"]))
        }
        false => run(cargo().args(["test", "--release", "--workspace"])),
    }
}

/// Every check whose name has this in it, each with its time.
pub fn all(only: &str) -> Result<(), Failure> {
    type Check = fn() -> Result<(), Failure>;
    let checks: [(&str, Check); 14] = [
        ("format", || run(cargo().args(["fmt", "--all", "--check"]))),
        ("tests", test),
        ("the README's and the book's commands", texts),
        ("the study, in small", study::quick),
        ("pages in a browser", || pages::check(&release().join("pages"))),
        ("bad days", || torture::run(&torture::Arguments::default())),
        // deit_small differs from deit_tiny in its width and its heads alone.
        ("other programs' files", || interop::check(&["deit_tiny", "deit_base"].map(String::from))),
        ("a sample of other programs' models", || interop::coverage(&["--sample=40".into()])),
        ("several processes", || {
            let mut tests = cargo();
            tests.args(["test", "--release", "--workspace", "--features", "spvit-cli/mpi"]);
            run(tests.args(["--test", "program", "team::"]))
        }),
        ("software Vulkan", software_vulkan),
        ("lints", || {
            let lint = ["clippy", "--release", "--workspace", "--all-targets"];
            run(cargo().args(lint).args(["--", "-D", "warnings"]))
        }),
        ("the book", book::build),
        ("documentation", || {
            let mut doc = cargo();
            doc.args(["doc", "--release", "--workspace", "--no-deps"]);
            run(doc.env("RUSTDOCFLAGS", "-D warnings"))
        }),
        ("the GPU features' types", || {
            let features = "spvit-cli/cuda,spvit-benches/cuda,spvit-cli/wgpu,spvit-benches/wgpu";
            let check = ["check", "--release", "-p", "spvit-cli", "-p", "spvit-benches"];
            run(cargo().args(check).args(["--features", features]))
        }),
    ];
    // Gigabytes of Python's packages come while the tests compile.
    let mut packages = only.is_empty().then(|| thread::spawn(interop::python));
    let mut times = Vec::new();
    for (name, check) in checks.into_iter().filter(|(name, _)| name.contains(only)) {
        let began = Instant::now();
        check().map_err(|failure| Failure::new(format!("{name}: {failure}")))?;
        if let Some(packages) = packages.take_if(|_| name == "tests") {
            packages.join().map_err(|_| Failure::new("no packages of Python: a panic"))??;
        }
        times.push(format!("{name} {:.0} s", began.elapsed().as_secs_f64()));
    }
    println!("all checks passed: {}", times.join(", "));
    Ok(())
}

/// GPU kernels, stored cases, steps and a run on Vulkan, which is software where there is no GPU. Most of the
/// time goes into compiling kernels, so that unoptimised programs are the quickest way; and what does not
/// depend on kernels stays out, as do more operations side by side than three.
fn software_vulkan() -> Result<(), Failure> {
    let mut tests = cargo();
    tests.args(["test", "--profile", "quick"]);
    tests.args(["-p", "spvit-core", "-p", "spvit-search", "-p", "spvit-train"]);
    tests.args(["--features", "spvit-core/vulkan,spvit-search/wgpu,spvit-train/wgpu"]);
    tests.args(["--lib", "--test", "suite", "--test", "parity", "--test", "run", "--", "wgpu"]);
    for part in ["families", "forms", "importance", "four_operations", "five_operations"] {
        tests.args(["--skip", part]);
    }
    // CubeCL's threads, unoptimised, need more than the usual 2 MiB.
    run(tests.env("RUST_MIN_STACK", (32 << 20).to_string()))
}

/// Few images and steps.
const QUICK: [&str; 7] = [
    "data.train_limit=640",
    "data.test_limit=200",
    "search.start_images=128",
    "search.trial_steps=5",
    "finetune.refit=128",
    "finetune.epochs=1",
    "run.timing_seconds=0",
];

/// Texts whose commands for the program are run.
const TEXTS: [&str; 5] = [
    "README.md",
    "docs/quick-start.md",
    "docs/your-model.md",
    "docs/budgets.md",
    "docs/exports.md",
];

/// Runs the commands that the README and the book show for the program, searches on few images.
fn texts() -> Result<(), Failure> {
    let read = |name: &str| {
        std::fs::read_to_string(name).map_err(|error| Failure::new(format!("{name}: {error}")))
    };
    let text = read("README.md")?;
    for command in ["cargo xtask search", "cargo xtask test"] {
        if !text.contains(command) {
            return Err(Failure::new(format!("README.md does not show `{command}`")));
        }
    }
    run(cargo().args(["build", "--release", "--workspace"]))?;
    let scratch = release().join("readme-check");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch)
            .map_err(|error| Failure::new(format!("{}: {error}", scratch.display())))?;
    }
    std::fs::create_dir_all(&scratch)
        .map_err(|error| Failure::new(format!("{}: {error}", scratch.display())))?;
    let mut known = BTreeSet::new();
    TEXTS.iter().try_for_each(|name| commands(&read(name)?, &scratch, &mut known))
}

/// Runs the lines of a text's shell blocks that call the program and are not known yet, with few images and run
/// folders of this check's own.
fn commands(text: &str, scratch: &Path, known: &mut BTreeSet<String>) -> Result<(), Failure> {
    let runs = format!("{}/", scratch.display());
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).filter(|line| line.starts_with("spvit "));
    for line in lines {
        if !known.insert(line.to_string()) {
            continue;
        }
        let line = line.split('#').next().unwrap_or_default();
        let line = line.replace("runs/", &runs);
        let mut program = spvit();
        // What is quoted is one word.
        let parts = line.split('"').enumerate();
        let words: Vec<&str> = parts
            .flat_map(|(part, text)| match part % 2 {
                0 => text.split_whitespace().collect(),
                _ => vec![text],
            })
            .skip(1)
            .collect();
        program.args(&words);
        if words.first() == Some(&"run") && !words.contains(&"--resume") {
            for setting in QUICK {
                program.args(["--set", setting]);
            }
        }
        run(&mut program)?;
    }
    Ok(())
}
