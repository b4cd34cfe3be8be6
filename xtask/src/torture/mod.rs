//! `cargo xtask torture`: what happens to runs and files on a bad day, tried by the hundred.
//!
//! Every kind is a function that tries one case with a throw of the dice and says what went wrong. A
//! failure prints the seed and number that do it again.

mod folders;
mod images;
mod inputs;
mod kills;
mod place;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use crate::shell::{self, Failure, cargo, release};
use place::{Dice, Place};

/// What to try.
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// A hundred kills of each kind and a thousand broken inputs
    #[arg(long)]
    long: bool,
    /// Seed of all that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only kinds whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The program to try [default: a release build]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// What one case found: nothing, a reason to leave it out, or what went wrong.
pub enum Verdict {
    Passed,
    Skipped(String),
    Failed(String),
}

impl From<Result<(), String>> for Verdict {
    fn from(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(problem) => Self::Failed(problem),
        }
    }
}

type Case = fn(&Place, &mut Dice, usize) -> Verdict;

/// Name, cases in a short and in a long run, and the case.
const KINDS: [(&str, [usize; 2], Case); 14] = [
    ("kills at random moments", [5, 100], kills::at_random),
    ("kills before a rename", [5, 100], kills::before_rename),
    ("signals (INT, TERM, HUP)", [4, 60], kills::signalled),
    ("system calls that fail", [8, 160], kills::refused_calls),
    ("limits and closed outputs", [15, 90], kills::limits),
    ("other programs, suspensions", [4, 60], kills::crowded),
    ("broken run folders", [16, 200], folders::broken),
    ("broken model files", [40, 700], inputs::models),
    ("broken texts (TOML, JSON)", [30, 300], inputs::texts),
    ("settings that cannot be", [24, 200], inputs::settings),
    ("broken folders of images", [10, 100], images::broken_folders),
    ("broken lists of images", [4, 40], images::broken_lists),
    ("broken shards of images", [4, 60], images::broken_shards),
    ("images that change in mid-run", [6, 60], images::changing),
];

/// Options of a small run that takes a second or two and checkpoints after every step.
pub fn small() -> Result<String, Failure> {
    let data = Path::new("data/fashion-mnist-mini")
        .canonicalize()
        .map_err(|error| Failure::new(format!("data/fashion-mnist-mini: {error}")))?;
    let mut options = format!("--set data.folder={}", data.display());
    for setting in [
        "data.validation=60",
        "data.train_limit=160",
        "data.test_limit=60",
        "model.dim=16",
        "model.depth=2",
        "model.heads=2",
        "model.hidden=32",
        "pretrain.epochs=1",
        "search.epochs=2",
        "finetune.epochs=2",
        "pretrain.batch_size=32",
        "search.batch_size=32",
        "finetune.batch_size=32",
        "run.checkpoint_seconds=0",
        "run.timing_seconds=0",
    ] {
        options += &format!(" --set {setting}");
    }
    Ok(options)
}

/// What every case starts from: a dense model, a finished run and runs that were stopped.
fn prepare(place: &Place) -> Result<(), Failure> {
    let small = small()?;
    std::fs::write(place.path("options"), &small).map_err(|e| Failure::new(e.to_string()))?;
    place.must(&format!("$spvit pretrain --out dense {small}"))?;
    let dense = "--set dense.weights=dense/dense.safetensors";
    place.must(&format!("$spvit run --out whole {small} {dense}"))?;
    for (phase, name, result) in [
        ("search", "in-search", "searched.safetensors"),
        ("finetune", "in-finetune", "compact.safetensors"),
    ] {
        stop_in(place, phase, name, result, &format!("{small} {dense}"))?;
    }
    for (from, to) in
        [("dense/dense.safetensors", "model.onnx"), ("whole/compact.safetensors", "compact.json")]
    {
        place.must(&format!("$spvit convert {from} {to}"))?;
    }
    images::make(place)
}

/// Begins a run that is stopped in a phase. A second epoch takes no longer than it takes to send a
/// signal on a busy machine, so that it is tried until the phase has no result.
fn stop_in(
    place: &Place,
    phase: &str,
    name: &str,
    result: &str,
    options: &str,
) -> Result<(), Failure> {
    let begun = format!("{phase} epoch 1/2 done");
    let line = format!("exec $spvit run --out {name} {options}");
    let errors = place.path("stderr");
    for _ in 0..50 {
        place.remove(name);
        let mut sent = false;
        place.run_with(&line, |process, _| {
            let said = std::fs::read_to_string(&errors).unwrap_or_default();
            if !sent && said.contains(&begun) {
                place.signal(process, "INT");
                sent = true;
            }
        });
        if !place.path(name).join(result).exists() {
            return Ok(());
        }
    }
    Err(Failure::new(format!("no run could be stopped in its {phase}")))
}

/// A kind's row in the table.
struct Row {
    tried: usize,
    passed: usize,
    skipped: Option<String>,
    seconds: f64,
}

/// Tries all cases of a kind.
fn try_kind(place: &Place, kind: usize, arguments: &Arguments) -> Row {
    let (name, counts, case) = KINDS[kind];
    let began = Instant::now();
    let (mut tried, mut passed, mut skipped) = (0, 0, None);
    for number in 0..counts[usize::from(arguments.long)] {
        let mut dice = Dice::new(arguments.seed ^ ((number as u64 + 1) << 24));
        match case(place, &mut dice, number) {
            Verdict::Skipped(reason) => skipped = Some(reason),
            Verdict::Passed => (tried, passed) = (tried + 1, passed + 1),
            Verdict::Failed(problem) => {
                tried += 1;
                println!("{name}, seed {}, case {number}: {problem}", arguments.seed);
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("{name}: {passed} of {tried} in {seconds:.0} s");
    Row { tried, passed, skipped, seconds }
}

/// Tries everything, in two places at a time, as much of it is waiting, and prints the table.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => {
            // The whole workspace, as the tests build it.
            shell::run(cargo().args(["build", "--release", "--workspace"]))?;
            release().join("spvit")
        }
    };
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| name.contains(only));
    let next = AtomicUsize::new(0);
    let in_a_place = |name: &str| {
        let place = Place::new(&program, name)?;
        prepare(&place)?;
        let mut rows = Vec::new();
        loop {
            let kind = next.fetch_add(1, Ordering::Relaxed);
            match KINDS.get(kind) {
                None => return Ok(rows),
                Some((name, ..)) if wanted(name) => {
                    rows.push((kind, try_kind(&place, kind, arguments)));
                }
                Some(_) => {}
            }
        }
    };
    let (here, there) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| in_a_place("b"));
        (in_a_place("a"), beside.join())
    });
    let there: Result<_, Failure> =
        there.unwrap_or_else(|_| Err(Failure::new("the cases beside these panicked")));
    let rows: BTreeMap<usize, Row> = here?.into_iter().chain(there?).collect();

    println!("\n{:28} {:>6} {:>7} {:>7}", "kind", "tried", "passed", "s");
    for (&kind, Row { tried, passed, skipped, seconds }) in &rows {
        let note = skipped.as_ref().map(|reason| format!("  ({reason})")).unwrap_or_default();
        println!("{:28} {tried:6} {passed:7} {seconds:7.0}{note}", KINDS[kind].0);
    }
    let tried: usize = rows.values().map(|row| row.tried).sum();
    let passed: usize = rows.values().map(|row| row.passed).sum();
    println!("{:28} {tried:6} {passed:7}", "all");
    match tried - passed {
        0 => Ok(()),
        failed => Err(Failure::new(format!("{failed} of {tried} cases failed"))),
    }
}
