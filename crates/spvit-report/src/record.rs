//! All that a run folder holds, whoever wrote it and however far the run has come.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::de::DeserializeOwned;
use spvit_search::{Architecture, Budget, LatencyTable, Unit};
use spvit_train::{EpochReport, Evaluation, GateReport, RunConfig, Summary};

use crate::ReportError;

/// Bytes of a file that are looked at: thousands of epochs of the largest models have fewer.
const LONGEST: u64 = 64 << 20;

/// What is known of a run. What its folder lacks, or what cannot be read there, is absent.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The folder.
    pub root: PathBuf,
    /// Its name.
    pub name: String,
    /// The configuration as it stands in its file, with the values' sources.
    pub config_text: Option<String>,
    /// The configuration.
    pub config: Option<RunConfig>,
    /// The derived architecture.
    pub architecture: Option<Architecture>,
    /// The figures of the final table.
    pub summary: Option<Summary>,
    /// Every epoch that has ended, in order.
    pub epochs: Vec<EpochReport>,
    /// The gates where they begin, and after each epoch of the search.
    pub gates: Vec<GateReport>,
    /// What the models make of the test images.
    pub evaluation: Option<Evaluation>,
    /// Which files cannot be read, and why.
    pub problems: Vec<String>,
    /// The runs in the folder's `budgets`, the dearest first.
    pub parts: Vec<Self>,
}

impl Record {
    /// Reads what a run folder holds.
    ///
    /// # Errors
    /// [`ReportError::NoRun`] if there is nothing of a run.
    pub fn read(root: &Path) -> Result<Self, ReportError> {
        let no_run = |problem: String| ReportError::NoRun { path: root.to_path_buf(), problem };
        match fs::metadata(root) {
            Ok(data) if data.is_dir() => {}
            Ok(_) => return Err(no_run("is no folder".into())),
            Err(error) => return Err(no_run(error.to_string())),
        }
        let mut record = Self::of(root);
        record.parts = parts(root);
        // A run has its configuration before anything else; another program's folder may hold files
        // of some other name of these.
        let empty = record.config.is_none()
            && record.architecture.is_none()
            && record.summary.is_none()
            && record.epochs.is_empty()
            && record.parts.is_empty();
        match empty {
            true => {
                let unread: String =
                    record.problems.iter().map(|problem| format!(" ({problem})")).collect();
                Err(no_run(format!("holds no run{unread}")))
            }
            false => Ok(record),
        }
    }

    fn of(root: &Path) -> Self {
        let name = root.canonicalize().ok();
        let name = name.as_deref().unwrap_or(root).file_name();
        let name = name.map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned());
        let mut record = Self { root: root.to_path_buf(), name, ..Self::default() };
        record.config_text = record.text("config.toml");
        if let Some(text) = &record.config_text {
            match RunConfig::parse(text, "config.toml", &[]) {
                Ok(mut config) => {
                    // A share of the dense model's time is one of the run's table.
                    let table = record.text("latency.json");
                    let table = table.and_then(|text| LatencyTable::from_json(&text).ok());
                    config.latency = table.map(Arc::new);
                    record.config = Some(config);
                }
                Err(error) => record.problems.push(error.to_string()),
            }
        }
        if let Some(text) = record.text("architecture.json") {
            match Architecture::from_json(&text) {
                Ok(architecture) => record.architecture = Some(architecture),
                Err(error) => record.problems.push(format!("architecture.json: {error}")),
            }
        }
        record.summary = record.json("summary.json");
        record.evaluation = record.json("evaluation.json").filter(is_sound);
        record.epochs = record.lines("metrics.jsonl");
        record.gates = record.lines("gates.jsonl");
        record
    }

    /// A file's text, if it is there.
    fn text(&mut self, name: &str) -> Option<String> {
        let path = self.root.join(name);
        // A pipe would wait for a writer.
        let data = fs::metadata(&path).ok()?;
        let mut bytes = Vec::new();
        let read = match data.is_file() {
            true => {
                fs::File::open(&path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
            }
            false => Err(std::io::Error::other("is no file")),
        };
        if let Err(error) = read {
            self.problems.push(format!("{name}: {error}"));
            return None;
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn json<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        match serde_json::from_str(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(format!("{name}: {error}"));
                None
            }
        }
    }

    /// The lines of a file; one that another program is writing is not there yet.
    fn lines<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        let text = self.text(name).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let (mut values, mut unread) = (Vec::new(), 0);
        for (number, line) in whole.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match serde_json::from_str(line) {
                Ok(value) => values.push(value),
                Err(error) => {
                    unread += 1;
                    if unread == 1 {
                        self.problems.push(format!("{name}, line {}: {error}", number + 1));
                    }
                }
            }
        }
        if unread > 1 {
            self.problems.push(format!("{name}: {unread} lines in all cannot be read"));
        }
        values
    }

    /// Where the run's page lies.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// What the compact model may cost, all of which holds; in a folder of several models what each may.
    pub(crate) fn budgets(&self) -> Vec<Budget> {
        let derived = self.architecture.as_ref().map(Architecture::budgets);
        let derived = derived.filter(|budgets| !budgets.is_empty());
        let configured = || {
            let config = self.config.as_ref()?;
            Some(match config.search.budgets.is_empty() {
                true => config.budgets(),
                false => config.front(),
            })
        };
        derived.or_else(configured).unwrap_or_default()
    }

    /// The budget that a search follows.
    pub(crate) fn budget(&self) -> Option<Budget> {
        let first = self.config.as_ref().map(RunConfig::budget);
        let budgets = self.budgets();
        let own = budgets.iter().find(|own| first.is_some_and(|first| first.unit == own.unit));
        own.or(budgets.first()).copied()
    }

    /// The budgets in words; a dash where there is none.
    pub(crate) fn budgets_text(&self) -> String {
        let text = |own: &Budget| match own.unit {
            Unit::Milliseconds => amount(own.target, own.unit),
            unit => format!("{} {}", amount(own.target, unit), unit_name(unit)),
        };
        let texts: Vec<String> = self.budgets().iter().map(text).collect();
        if texts.is_empty() { "–".into() } else { texts.join(", ") }
    }

    /// The figures of a model by its name in the summary.
    pub(crate) fn figures(&self, name: &str) -> Option<&spvit_train::ModelFigures> {
        self.summary.as_ref()?.models.iter().find(|model| model.name == name)
    }
}

/// Whether all numbers of classes are those of classes that there are.
fn is_sound(evaluation: &Evaluation) -> bool {
    let classes = evaluation.class_names.len();
    let pairs = evaluation.confusion.iter().flat_map(|[class, guess, _]| [*class, *guess]);
    let shown = evaluation.differences.iter().flat_map(|own| {
        let [a, b] = own.guesses;
        [own.class, a, b]
    });
    evaluation.models.iter().all(|model| model.by_class.len() == classes)
        && pairs.chain(shown).all(|class| class < classes)
        // Base64 alone: a picture's text becomes part of an address.
        && evaluation.differences.iter().all(|own| {
            own.png.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
        })
}

/// The runs in the folder `budgets`, the dearest first.
fn parts(root: &Path) -> Vec<Record> {
    let entries = fs::read_dir(root.join("budgets")).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut parts: Vec<Record> = folders.map(|folder| Record::of(&folder)).collect();
    parts.retain(|part| part.architecture.is_some() || part.summary.is_some());
    let cost = |part: &Record| part.architecture.as_ref().map_or(0, |own| own.flops);
    parts.sort_by(|a, b| cost(b).cmp(&cost(a)).then_with(|| a.name.cmp(&b.name)));
    parts
}

/// An amount of a budget's unit.
pub(crate) fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Flops => crate::numbers::flops_text(value as u64),
        Unit::Parameters => crate::numbers::thousands(value as usize),
        Unit::Milliseconds => format!("{value:.3}"),
    }
}

/// A unit's name.
pub(crate) fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Flops => "FLOPs",
        Unit::Parameters => "parameters",
        Unit::Milliseconds => "milliseconds",
    }
}
