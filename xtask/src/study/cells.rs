//! How one cell is computed.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::Value;

use super::{
    Study,
    records::{Figures, Record},
    rows::{Kind, Row},
};
use crate::{
    interop,
    shell::{self, Failure, run},
};

/// In what the program says of a candidate that was trained.
const TRIED: &str = "nats from the dense model, loss";

/// What a cell of Torch-Pruning is computed by.
const SCRIPTS: &str = concat!(
    include_str!("../../../tests/interop/torch_pruning_rival.py"),
    include_str!("../../../tests/interop/torch_pruning_cut.py"),
);

/// Architectures that chance may try.
const TRIES: u64 = 5;

/// A row at a budget with a seed.
pub struct Cell<'a> {
    pub study: &'a Study,
    pub row: &'a Row,
    pub budget: f64,
    pub seed: u64,
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, budget, seed, .. } = self;
        write!(f, "{} at {:.0} %, seed {seed}", row.name, 100.0 * budget)
    }
}

impl Cell<'_> {
    /// What the cell is computed with: its settings, those of the configuration, and the dense model's
    /// file by its length and the sum of its bytes.
    pub fn recipe(&self) -> String {
        let Study { config, made, .. } = self.study;
        // What made the dense model counts where its file need not be there.
        let trained: &[&str] = if *made { &[] } else { &["pretrain", "transfer"] };
        let mut section = String::new();
        let mut relevant = Vec::new();
        for line in config.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_string();
            } else if !line.is_empty() && !trained.contains(&section.as_str()) {
                relevant.push(format!("{section}.{line}"));
            }
        }
        let file = dense(config).filter(|_| !made);
        let dense = file.and_then(|path| fs::read(path).ok());
        let scripts = match self.row.kind {
            Kind::TorchPruning { importance, what } => format!("{importance} {what}{SCRIPTS}"),
            Kind::Carried { importance } => format!("{importance} carried{SCRIPTS}"),
            Kind::BestOfFive => "best of five".into(),
            Kind::Run | Kind::Dense => String::new(),
        };
        let (own, relevant) = (self.row.settings.join(" "), relevant.join(" "));
        let bytes = format!("{own} {:?} {relevant} {scripts}", self.study.settings);
        let all = bytes.bytes().chain(dense.unwrap_or_default());
        // FNV-1a: it tells recipes apart, and guards nothing.
        let digest = all.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{digest:016x}")
    }

    /// Runs what the row asks for.
    pub fn compute(&self) -> Result<Record, Failure> {
        let began = Instant::now();
        let folder = self.study.scratch.join(self.folder_name());
        let figures = match &self.row.kind {
            Kind::Run => self.run(&folder, self.seed, &[]),
            Kind::Dense => self.run(&folder, self.seed, &["search.budget=1".to_string()]),
            Kind::BestOfFive => self.best_of_five(&folder),
            Kind::TorchPruning { importance, what } => {
                self.torch_pruning(&folder, importance, what)
            }
            Kind::Carried { importance } => self.carried(&folder, importance),
        }?;
        let (figures, impossible) = match figures {
            Ok(figures) => {
                (Some(Figures { seconds: began.elapsed().as_secs_f64(), ..figures }), None)
            }
            Err(why) => (None, Some(why)),
        };
        let _ = fs::remove_dir_all(&folder);
        Ok(Record {
            row: self.row.name.into(),
            budget: self.budget,
            seed: self.seed,
            recipe: self.recipe(),
            impossible,
            figures,
        })
    }

    fn folder_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = self.row.name.chars().map(plain).collect();
        format!("{name}-{:.0}-{}-{}", 1000.0 * self.budget, self.seed, self.recipe())
    }

    /// A command of the program in a folder, with the cell's settings and these.
    fn program(&self, command: &str, folder: &Path, seed: u64, more: &[String]) -> Command {
        let mut program = shell::spvit();
        program.arg(command).env("RAYON_NUM_THREADS", self.study.threads.to_string());
        match folder.join("config.toml").exists() {
            true => program.arg("--resume"),
            false => program.arg("--config").arg(&self.study.config_file).arg("--out"),
        };
        program.arg(folder);
        if !folder.join("config.toml").exists() {
            let budget = format!("search.budget={}", self.budget);
            let own = self.row.settings.iter().map(|setting| setting.to_string());
            let all = own.chain(self.study.settings.iter().cloned()).chain([budget]);
            for setting in all.chain(more.iter().cloned()) {
                program.args(["--set", &setting]);
            }
            program.args(["--seed", &seed.to_string()]);
        }
        program
    }

    /// A whole run; the reason if no model meets the budget.
    fn run(
        &self,
        folder: &Path,
        seed: u64,
        more: &[String],
    ) -> Result<Result<Figures, String>, Failure> {
        let mut program = self.program("run", folder, seed, more);
        let output = program
            .stderr(std::process::Stdio::piped())
            .output()
            .map_err(|error| Failure::new(format!("spvit cannot be started: {error}")))?;
        if output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let tried = said.lines().filter(|line| line.contains(TRIED)).count() as u64;
            return self.figures(folder, tried).map(Ok);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let error = said.lines().rev().find(|line| line.contains("error: ")).unwrap_or_default();
        match error.contains("cannot be met") {
            true => Ok(Err(error.trim_start_matches("error: ").to_string())),
            false => Err(Failure::new(format!("{self}: {error}"))),
        }
    }

    /// Five architectures of chance, an epoch each; the best by validation is trained in full.
    fn best_of_five(&self, folder: &Path) -> Result<Result<Figures, String>, Failure> {
        let mut best: Option<(f64, u64)> = None;
        for number in 0..TRIES {
            let seed = 1000 * (self.seed + 1) + number;
            let tried = folder.with_extension(format!("try{number}"));
            let short = ["finetune.epochs=1".to_string()];
            match self.run(&tried, seed, &short)? {
                Ok(figures) => {
                    if best.is_none_or(|(most, _)| figures.validation > most) {
                        best = Some((figures.validation, seed));
                    }
                }
                Err(why) => return Ok(Err(why)),
            }
            let _ = fs::remove_dir_all(&tried);
        }
        let seed = best.map_or(self.seed, |(_, seed)| seed);
        let figures = self.run(folder, seed, &[])?;
        let config = fs::read_to_string(folder.join("config.toml")).unwrap_or_default();
        let epoch = per_epoch(&config, "finetune", self.study.images);
        Ok(figures
            .map(|own| Figures { images: [own.images[0] + TRIES * epoch, own.images[1]], ..own }))
    }

    /// Runs the script unless it has left this file; why no model meets the budget, if none does.
    fn script(
        &self,
        folder: &Path,
        (importance, what): (&str, &str),
        more: &[&str],
        result: &str,
    ) -> Result<Option<String>, Failure> {
        if folder.join(result).exists() {
            return Ok(None);
        }
        let mut script = Command::new(interop::python()?);
        script.args(["-W", "ignore", "tests/interop/torch_pruning_rival.py"]);
        script.arg("--dense").arg(dense(&self.study.config).unwrap_or_default());
        script.args(["--data", &setting(&self.study.config, "data.folder")?]);
        script.args(["--budget", &self.budget.to_string(), "--seed", &self.seed.to_string()]);
        script.args(["--importance", importance, "--what", what]).args(more);
        script.args(["--threads", &self.study.threads.to_string()]);
        for (option, key) in SHARED {
            script.args([option, &setting(&self.study.config, key)?]);
        }
        script.arg("--out").arg(folder);
        let output = script.stderr(std::process::Stdio::piped()).output();
        let output = output.map_err(|error| Failure::new(format!("python: {error}")))?;
        if output.status.success() {
            return Ok(None);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default().to_string();
        match last.contains("budget") && output.status.code() == Some(1) {
            true => Ok(Some(last.trim_start_matches("error: ").to_string())),
            false => Err(Failure::new(format!("{self}: {last}"))),
        }
    }

    fn torch_pruning(
        &self,
        folder: &Path,
        importance: &str,
        what: &str,
    ) -> Result<Result<Figures, String>, Failure> {
        if let Some(why) = self.script(folder, (importance, what), &[], "result.json")? {
            return Ok(Err(why));
        }
        let values = read(&folder.join("result.json"))?;
        let number = |name: &str| values[name].as_f64().unwrap_or(f64::NAN);
        let blocks = values["blocks"].as_array().into_iter().flatten();
        let blocks = blocks.map(|block| format!("{} heads {}", block["heads"], block["hidden"]));
        Ok(Ok(Figures {
            share: number("share"),
            parameters: number("parameters") as u64,
            images: [number("importance_images") as u64, number("images_after_cut") as u64],
            before: None,
            validation: number("validation_best"),
            test: number("test"),
            latency: None,
            blocks: blocks.collect::<Vec<_>>().join(", "),
            seconds: 0.0,
        }))
    }

    /// The dimensions that Torch-Pruning keeps, in a run of this program.
    fn carried(&self, folder: &Path, importance: &str) -> Result<Result<Figures, String>, Failure> {
        let cut = folder.with_extension("cut");
        let cut_only = ["--cut-only"];
        if let Some(why) = self.script(&cut, (importance, "ffn"), &cut_only, "kept.json")? {
            return Ok(Err(why));
        }
        let kept = read(&cut.join("kept.json"))?;
        run(&mut self.program("search", folder, self.seed, &[]))?;
        run(&mut self.program("prune", folder, self.seed, &[]))?;
        let path = folder.join("architecture.json");
        let mut architecture = read(&path)?;
        let blocks = architecture["blocks"].as_array_mut().map(Vec::as_mut_slice);
        let lists = kept["kept"].as_array().cloned().unwrap_or_default();
        for (block, kept) in blocks.unwrap_or_default().iter_mut().zip(lists) {
            block["kept"] = kept;
        }
        fs::write(&path, architecture.to_string())
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        run(&mut self.program("prune", folder, self.seed, &[]))?;
        let _ = fs::remove_dir_all(&cut);
        self.run(folder, self.seed, &[])
    }

    /// A finished run's figures; so many candidates were trained briefly.
    fn figures(&self, folder: &Path, tried: u64) -> Result<Figures, Failure> {
        let summary = read(&folder.join("summary.json"))?;
        let model = |name: &str| {
            let models = summary["models"].as_array().into_iter().flatten();
            models.into_iter().find(|model| model["name"] == name).cloned().unwrap_or_default()
        };
        let [dense, searched, compact] = ["dense", "searched", "compact"].map(model);
        let number = |model: &Value, name: &str| model[name].as_f64().unwrap_or(f64::NAN);
        let path = folder.join("metrics.jsonl");
        let text = fs::read_to_string(&path)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        let lines: Vec<Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let of = |phase: &str| lines.iter().filter(|line| line["phase"] == phase).count() as u64;
        let tuned = lines.iter().filter(|line| line["phase"] == "finetune");
        let validation = tuned.filter_map(|line| line["validation_accuracy"].as_f64());
        let config = fs::read_to_string(folder.join("config.toml")).unwrap_or_default();
        let images = |section: &str| per_epoch(&config, section, self.study.images);
        let number_of = |section: &str, name: &str| {
            value(&config, section, name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
        };
        let measured = match value(&config, "search", "start").as_deref() {
            Some("importance") => {
                let steps = number_of("search", "trial_steps") * number_of("search", "batch_size");
                number_of("search", "start_images") + tried * steps
            }
            _ => 0,
        };
        let before = of("search") * images("search") + measured + number_of("finetune", "refit");
        let architecture = read(&folder.join("architecture.json"))?;
        let blocks = architecture["blocks"].as_array().into_iter().flatten().map(|block| {
            let kept = block["kept"].as_array().map_or(0, Vec::len);
            format!("{} {kept}", block["operation"].as_str().unwrap_or_default())
        });
        Ok(Figures {
            share: number(&compact, "flops") / number(&dense, "flops"),
            parameters: number(&compact, "parameters") as u64,
            images: [before, of("finetune") * images("finetune")],
            before: Some(number(&searched, "accuracy")),
            validation: validation.fold(0.0, f64::max),
            test: number(&compact, "accuracy"),
            latency: Some(number(&compact, "latency_batch") / number(&dense, "latency_batch")),
            blocks: blocks.collect::<Vec<_>>().join(", "),
            seconds: 0.0,
        })
    }
}

/// Options of the script in Python and the settings that they share with the configuration.
const SHARED: [(&str, &str); 6] = [
    ("--epochs", "finetune.epochs"),
    ("--batch", "finetune.batch_size"),
    ("--learning-rate", "finetune.learning_rate"),
    ("--min-learning-rate", "finetune.min_learning_rate"),
    ("--weight-decay", "finetune.weight_decay"),
    ("--distillation", "finetune.distillation"),
];

/// A value in a configuration's text.
pub fn setting(config: &str, key: &str) -> Result<String, Failure> {
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let missing = || Failure::new(format!("the study's configuration: {key} is not there"));
    value(config, section, name).ok_or_else(missing)
}

fn value(text: &str, section: &str, name: &str) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    Some(match table.get(section)?.get(name)? {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

/// The dense model that a configuration names.
fn dense(config: &str) -> Option<PathBuf> {
    value(config, "dense", "weights").map(PathBuf::from)
}

/// Images of an epoch of full batches, of those of the training file that are not for validation or of
/// fewer.
fn per_epoch(config: &str, section: &str, images: u64) -> u64 {
    let number = |section: &str, name: &str| {
        value(config, section, name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
    };
    let all = match number("data", "train_limit") {
        0 => images.saturating_sub(number("data", "validation")),
        limit => limit,
    };
    let batch = number(section, "batch_size").max(1);
    all / batch * batch
}

fn read(path: &Path) -> Result<Value, Failure> {
    let fail = |error: String| Failure::new(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| fail(error.to_string()))
}
