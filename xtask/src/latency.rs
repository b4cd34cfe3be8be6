//! Whether models whose budget is a time keep to it: on spvit's own forward pass and on onnxruntime.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    interop,
    shell::{self, Failure, cargo, release},
};

/// Budgets as shares of what the dense model takes.
const BUDGETS: [&str; 3] = ["80%", "60%", "40%"];

/// Times that a finished model is measured anew, each in a process of its own.
const ANEW: usize = 3;

/// What is compared: a name, settings beside those of configs/demo.toml, and batches.
struct Subject {
    name: &'static str,
    settings: &'static [&'static str],
    batches: &'static [usize],
    /// Whether its dense model is trained for a moment first, as there is none.
    fresh: bool,
}

/// Few images and steps: what is shown is the time, not the accuracy.
const QUICK: [&str; 5] = [
    "search.start_images=128",
    "search.trial_steps=5",
    "finetune.refit=128",
    "finetune.epochs=1",
    "data.test_limit=200",
];

const SUBJECTS: [Subject; 2] = [
    Subject {
        name: "vit_micro",
        settings: &["data.train_limit=640"],
        batches: &[1, 64],
        fresh: false,
    },
    Subject {
        name: "deit_tiny",
        settings: &[
            "model.image_size=[224,224]",
            "model.patch_size=16",
            "model.dim=192",
            "model.depth=12",
            "model.heads=3",
            "model.hidden=768",
            "data.train_limit=64",
            "data.validation=16",
            "data.test_limit=16",
            "pretrain.epochs=1",
            "pretrain.batch_size=16",
            "search.batch_size=16",
            "finetune.batch_size=16",
            "search.start=magnitude",
            "finetune.refit=16",
        ],
        batches: &[1],
        fresh: true,
    },
];

/// Measures tables, searches at three budgets each, and measures the compact models anew.
pub fn compare(names: &[String]) -> Result<(), Failure> {
    let library = interop::library();
    // The whole workspace, as the tests build it: one set of features, one build of Burn.
    let mut build = cargo();
    build.args(["build", "--release", "--workspace", "--features", "spvit-cli/onnxruntime"]);
    shell::run(&mut build)?;
    let place = release().join("latency");
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", place.display()));
    if place.exists() {
        fs::remove_dir_all(&place).map_err(failed)?;
    }
    fs::create_dir_all(&place).map_err(failed)?;
    heading();
    let mut rows = Vec::new();
    for subject in SUBJECTS.iter().filter(|own| names.iter().any(|name| name == own.name)) {
        let dense = subject.dense(&place)?;
        for (runtime, library) in [("burn", None), ("onnxruntime", library.as_deref())] {
            if runtime == "onnxruntime" && library.is_none() {
                let place = interop::environment();
                eprintln!("passed over: no library of onnxruntime in {}", place.display());
                continue;
            }
            for &batch in subject.batches {
                let at = At { subject, place: &place, runtime, batch, library };
                rows.extend(at.rows(dense.as_deref())?);
            }
        }
    }
    heading();
    show(&rows)
}

fn heading() {
    println!(
        "\n{:40} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "model, runtime, batch, budget",
        "dense ms",
        "budget",
        "by parts",
        "by run",
        "anew",
        "of budget"
    );
}

struct Row {
    name: String,
    /// Milliseconds: of the dense model, the budget, by the table's parts, as the run measured it, and
    /// anew.
    times: [f64; 5],
}

impl Row {
    /// The measured time in the budget's.
    fn share(&self) -> f64 {
        let [_, budget, _, _, anew] = self.times;
        anew / budget
    }

    fn is_kept(&self) -> bool {
        (0.95..=1.0).contains(&self.share())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, times: [dense, budget, parts, run, anew] } = self;
        let share = 100.0 * self.share();
        let mark = if self.is_kept() { "" } else { "  off" };
        write!(
            f,
            "{name:40} {dense:9.4} {budget:9.4} {parts:9.4} {run:9.4} {anew:9.4} {share:8.1} %{mark}"
        )
    }
}

struct At<'a> {
    subject: &'a Subject,
    place: &'a Path,
    runtime: &'a str,
    batch: usize,
    library: Option<&'a Path>,
}

impl Subject {
    /// A dense model of a moment's training, where none is bundled.
    fn dense(&self, place: &Path) -> Result<Option<PathBuf>, Failure> {
        if !self.fresh {
            return Ok(None);
        }
        let folder = place.join(format!("{}-dense", self.name));
        let mut command = shell::spvit();
        command.args(["pretrain", "--config", "configs/demo.toml", "--out"]).arg(&folder);
        settings(&mut command, self.settings.iter());
        shell::run(&mut command)?;
        Ok(Some(folder.join("dense.safetensors")))
    }
}

fn settings<'a>(command: &mut Command, all: impl Iterator<Item = &'a &'a str>) {
    for setting in all {
        command.args(["--set", setting]);
    }
}

impl At<'_> {
    fn name(&self) -> String {
        format!("{}-{}-{}", self.subject.name, self.runtime, self.batch)
    }

    fn program(&self) -> Command {
        let mut command = shell::spvit();
        if let Some(library) = self.library {
            command.env("ORT_DYLIB_PATH", library);
        }
        command
    }

    fn rows(&self, dense: Option<&Path>) -> Result<Vec<Row>, Failure> {
        let table = self.place.join(format!("{}.json", self.name()));
        let mut command = self.program();
        let source = match dense {
            Some(dense) => dense.display().to_string(),
            None => "configs/demo.toml".into(),
        };
        command.args(["measure", &source, "--runtime", self.runtime, "--out"]).arg(&table);
        shell::run(command.args(["--batch", &self.batch.to_string()]))?;
        BUDGETS.iter().map(|budget| self.row(budget, &table, dense)).collect()
    }

    fn row(&self, budget: &str, table: &Path, dense: Option<&Path>) -> Result<Row, Failure> {
        let folder = self.place.join(format!("{}-{}", self.name(), budget.trim_end_matches('%')));
        let mut command = self.program();
        command.args(["run", "--config", "configs/demo.toml", "--out"]).arg(&folder);
        command.args(["--budget", &format!("{budget} ms"), "--latency-table"]).arg(table);
        settings(&mut command, QUICK.iter().chain(self.subject.settings));
        if let Some(dense) = dense {
            command.args(["--set", &format!("dense.weights={}", dense.display())]);
        }
        shell::run(&mut command)?;
        let summary = json(&folder.join("summary.json"))?;
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let figures = json(table)?;
        let compact = summary["models"].as_array().and_then(|models| models.last());
        let run = compact.map_or(f64::NAN, |model| number(&model["milliseconds"]));
        let mut anew = Vec::new();
        let mut parts = f64::NAN;
        for _ in 0..ANEW {
            let [time, predicted] = self.anew(&folder, table)?;
            anew.push(time);
            parts = predicted;
        }
        anew.sort_by(f64::total_cmp);
        let target = number(&summary["target_milliseconds"]);
        let whole = number(&figures["dense"]["ms"]);
        let name = format!("{} {} batch {} {budget}", self.subject.name, self.runtime, self.batch);
        let row = Row { name, times: [whole, target, parts, run, anew[anew.len() / 2]] };
        // At once, as the whole takes long and may be stopped.
        println!("{row}");
        Ok(row)
    }

    /// What the compact model takes in another process, and what the table's parts say.
    fn anew(&self, folder: &Path, table: &Path) -> Result<[f64; 2], Failure> {
        let mut command = self.program();
        command.arg("measure").arg(folder).arg("--against").arg(table);
        let output = command.output().map_err(|error| Failure::new(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let before = |unit: &str| text.split(unit).next()?.split(' ').next_back()?.parse().ok();
        let parts = || text.rsplit("parts ").next()?.split(' ').next()?.parse().ok();
        match (before(" ms"), parts()) {
            (Some(time), Some(parts)) => Ok([time, parts]),
            _ => Err(Failure::new(format!(
                "spvit measure --against: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            ))),
        }
    }
}

fn json(path: &Path) -> Result<Value, Failure> {
    let failed = |problem: String| Failure::new(format!("{}: {problem}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}

/// Prints the rows; fails where a model is over its budget, or more than 5 % under it.
fn show(rows: &[Row]) -> Result<(), Failure> {
    let mut off = 0;
    for row in rows {
        off += usize::from(!row.is_kept());
        println!("{row}");
    }
    match off {
        0 => Ok(()),
        _ => Err(Failure::new(format!(
            "{off} of {} models are over their budget or more than 5 % under it; where much else runs on \
             the machine, that says little",
            rows.len()
        ))),
    }
}
