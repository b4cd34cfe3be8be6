//! `cargo xtask study`: the search beside its rivals, from one dense model, with the same training after
//! the cut for all.
//!
//! Every cell (a row at a budget with a seed) is a run of the program, or of a script in Python, in a
//! folder of its own, and leaves one line in docs/evidence.jsonl. Cells that have a line are not computed
//! again, so that the study can be stopped at any time; docs/EVIDENCE.md is drawn from the lines.

mod cells;
mod page;
mod records;
mod rows;
mod transfer;

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
};

use crate::shell::{self, Failure, cargo, run};
use cells::Cell;
use records::Records;
use rows::{Kind, ROWS, Row};

/// The configuration of the whole study.
const WHOLE: &str = "configs/fashion-mnist.toml";

/// What to compute.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only the row of this name, or those whose name contains it; can be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Budgets, as shares of the dense model's FLOPs
    #[arg(long, value_delimiter = ',', default_values_t = [0.6, 0.4, 0.25])]
    budgets: Vec<f64>,
    /// Seeds
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1, 2])]
    seeds: Vec<u64>,
    /// A few rows on few images, to see that the study works; the page stays as it is
    #[arg(long, conflicts_with_all = ["only", "budgets", "seeds"])]
    quick: bool,
    /// Some rows on five of the classes, from a dense model that was pretrained on the other five and
    /// transferred
    #[arg(long, conflicts_with = "quick")]
    transfer: bool,
    /// Draws the page from the lines that there are, and computes nothing
    #[arg(long)]
    page: bool,
    /// Cells that are computed at the same time, each on its share of the cores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
}

/// What all cells share.
pub struct Study {
    /// Configuration that every run starts from: its text, and the file that has it.
    config: String,
    config_file: PathBuf,
    /// Whether the dense model is made by the study, by that configuration.
    made: bool,
    /// Images of the training file.
    images: u64,
    /// Settings of every run, after the row's own.
    settings: Vec<String>,
    /// Where runs are made, and removed when they are done.
    scratch: PathBuf,
    records: PathBuf,
    page: Option<page::Part>,
    /// Cores of each cell.
    threads: usize,
}

impl Study {
    fn quick(threads: usize) -> Result<Self, Failure> {
        let scratch = crate::shell::release().join("study-quick");
        let _ = std::fs::remove_dir_all(&scratch);
        Ok(Self {
            settings: [
                "data.train_limit=1280",
                "search.start_images=256",
                "search.trial_steps=5",
                "finetune.epochs=1",
                "run.timing_seconds=0",
            ]
            .map(String::from)
            .to_vec(),
            records: scratch.join("evidence.jsonl"),
            page: None,
            scratch,
            ..Self::of("configs/demo.toml", threads)?
        })
    }

    /// From the bundled model, on the images of a configuration.
    fn of(config_file: &str, threads: usize) -> Result<Self, Failure> {
        let config_file = PathBuf::from(config_file);
        let config = std::fs::read_to_string(&config_file)
            .map_err(|error| shell::fail(&config_file, &error))?;
        Ok(Self {
            config,
            config_file,
            made: false,
            images: 60_000,
            settings: Vec::new(),
            scratch: PathBuf::from("runs/study"),
            records: PathBuf::from("docs/evidence.jsonl"),
            page: Some(page::Part::Whole),
            threads,
        })
    }

    /// From a model of half of the classes, on the images of the other half.
    fn transfer(threads: usize) -> Result<Self, Failure> {
        let whole = Self::of(WHOLE, threads)?;
        let scratch = PathBuf::from(transfer::SCRATCH);
        Ok(Self {
            config: transfer::configuration(&whole.config)?,
            config_file: scratch.join("config.toml"),
            made: true,
            images: transfer::IMAGES,
            scratch,
            records: PathBuf::from("docs/evidence-transfer.jsonl"),
            page: Some(page::Part::Transfer),
            ..whole
        })
    }

    /// Makes what cells start from.
    fn prepare(&self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.scratch)
            .map_err(|error| shell::fail(&self.scratch, &error))?;
        if !self.made {
            return Ok(());
        }
        std::fs::write(&self.config_file, &self.config)
            .map_err(|error| shell::fail(&self.config_file, &error))?;
        transfer::prepare(&Self::of(WHOLE, self.threads)?.config, &self.config_file)
    }
}

/// A few rows on few images.
pub fn quick() -> Result<(), Failure> {
    let (only, budgets, seeds) = (vec![], vec![], vec![]);
    let (quick, transfer, page) = (true, false, false);
    run_study(&Arguments { only, budgets, seeds, quick, transfer, page, jobs: 1 })
}

/// Computes what is missing and draws the page.
pub fn run_study(arguments: &Arguments) -> Result<(), Failure> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let jobs = usize::try_from(arguments.jobs).unwrap_or(1);
    let threads = (cores / jobs).max(1);
    let study = match (arguments.quick, arguments.transfer) {
        (true, _) => Study::quick(threads)?,
        (_, true) => Study::transfer(threads)?,
        _ => Study::of(WHOLE, threads)?,
    };
    let (budgets, seeds): (&[f64], &[u64]) = match arguments.quick {
        true => (&[0.4], &[0]),
        false => (&arguments.budgets, &arguments.seeds),
    };
    let wanted = |row: &&Row| match arguments.quick {
        true => row.quick,
        false if arguments.transfer && !rows::TRANSFERRED.contains(&row.name) => false,
        false => {
            let exact = |text: &str| ROWS.iter().any(|row| row.name == text);
            let named = |text: &String| match exact(text) {
                true => row.name == text,
                false => row.name.contains(text.as_str()),
            };
            arguments.only.is_empty() || arguments.only.iter().any(named)
        }
    };
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    if rows.is_empty() {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        return Err(Failure::new(format!("--only names no row; there are: {}", names.join(", "))));
    }
    let mut records = Records::read(&study.records)?;
    if !arguments.page {
        run(cargo().args(["build", "--release", "--workspace"]))?;
        study.prepare()?;
        let mut cells = Vec::new();
        for &seed in seeds {
            for row in &rows {
                // The whole model is the same at every budget.
                let budgets = if matches!(row.kind, Kind::Dense) { &[1.0] } else { budgets };
                for &budget in budgets {
                    let cell = Cell { study: &study, row, budget, seed };
                    if records.of(&cell).is_none() {
                        cells.push(cell);
                    }
                }
            }
        }
        compute(cells, jobs, &mut records)?;
    }
    let records = records.current(|name| {
        let row = ROWS.iter().find(|row| row.name == name)?;
        Some(Cell { study: &study, row, budget: 0.0, seed: 0 }.recipe())
    });
    print!("{}", page::table(&records));
    study.page.map_or(Ok(()), |part| page::write(&records, part))
}

/// Computes the cells, so many at a time, and keeps each record as soon as it is there.
fn compute(cells: Vec<Cell>, jobs: usize, records: &mut Records) -> Result<(), Failure> {
    let count = cells.len();
    let left = Mutex::new(cells.into_iter().enumerate());
    let records = Mutex::new(records);
    let work = || -> Result<(), Failure> {
        loop {
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, cell)) = next else { return Ok(()) };
            eprintln!("cell {} of {count}: {cell}", number + 1);
            let record = cell.compute()?;
            records.lock().unwrap_or_else(PoisonError::into_inner).add(record)?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let ends = workers.into_iter().map(|worker| {
            worker.join().unwrap_or_else(|_| Err(Failure::new("a cell's thread panicked")))
        });
        // All of them end before the first failure is told.
        ends.collect::<Vec<_>>().into_iter().collect()
    })
}
