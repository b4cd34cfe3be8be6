//! From what a person says to a configuration with every value, and where each comes from.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use spvit_data::Dataset;
use spvit_interchange::{Description, Input, ReadOptions, describe};
use spvit_layers::{BlockConfig, ModelConfig, Operation};
use toml::{Table, Value};

use super::{RunConfig, fit, text};
use crate::{TrainError, changes::flatten};

/// What a person says of a run.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// A configuration file; it may hold only what differs.
    pub file: Option<PathBuf>,
    /// `key=value` settings over it, each with what it is called in messages.
    pub settings: Vec<(String, String)>,
    /// What the weights' file does not say of its model.
    pub read: ReadOptions,
    /// Where the index of many image files is kept, if anywhere.
    pub index: Option<PathBuf>,
}

/// A configuration, and how it came about.
#[derive(Debug)]
pub struct Resolved {
    /// Every value.
    pub config: RunConfig,
    /// Where values come from that are no plain defaults, by dotted key.
    pub sources: BTreeMap<String, String>,
    /// What was read and assumed, one sentence each.
    pub notes: Vec<String>,
    /// The images, if they had to be looked at.
    pub data: Option<Dataset>,
}

/// What settings are called that a person types one by one.
pub const SET: &str = "--set";

/// Values of the model that are no part of its weights' shape.
const FREE: [&str; 5] = ["kernels", "alpha", "separate", "image_size", "classes"];

impl Given {
    /// The whole configuration. Where a model's weights are named and its shape is not, the shape, the
    /// preprocessing and the defaults are those that fit weights and images.
    ///
    /// # Errors
    /// [`TrainError`] naming the file, setting, weights or images.
    pub fn resolve(&self) -> Result<Resolved, TrainError> {
        let (own, sources) = self.own()?;
        self.resolved(own, sources.clone()).map_err(|error| self.blamed(error, &sources))
    }

    fn resolved(
        &self,
        own: Table,
        sources: BTreeMap<String, String>,
    ) -> Result<Resolved, TrainError> {
        let by_file = self.file.as_deref().map(text::read_table).transpose()?;
        let shape = by_file.is_some_and(|table| text::has_shape(&table))
            || sources.contains_key("model.preset");
        let weights = own.get("dense").and_then(|dense| dense.get("weights"));
        let weights = weights.and_then(Value::as_str).filter(|path| !path.is_empty());
        let shaped = own
            .get("model")
            .and_then(Value::as_table)
            .is_some_and(|model| model.keys().any(|key| !FREE.contains(&key.as_str())));
        match weights.map(PathBuf::from).filter(|_| !shaped) {
            Some(weights) => self.fitted(own, &weights, sources),
            None => {
                let config = text::over_defaults(own, shape, &self.source_name())?;
                Ok(Resolved { config, sources, notes: Vec::new(), data: None })
            }
        }
    }

    /// Whether the file or a setting gives this dotted key.
    pub fn says(&self, key: &str) -> bool {
        self.own().is_ok_and(|(_, sources)| sources.contains_key(key))
    }

    /// The run's seed, which does not depend on weights and images.
    ///
    /// # Errors
    /// [`TrainError`] naming the file or setting.
    pub fn seed(&self) -> Result<u64, TrainError> {
        let (mut own, _) = self.own()?;
        own.retain(|key, _| key == "seed");
        Ok(text::over_defaults(own, false, &self.source_name())?.seed)
    }

    /// The configuration by which images come to this model, whose file says `input`: what is given of
    /// its sections `data` and `run` over that. `loose` tells that they are image files by themselves.
    ///
    /// # Errors
    /// [`TrainError`] naming the file or setting.
    pub fn for_model(
        &self,
        model: &ModelConfig,
        input: &Input,
        loose: bool,
    ) -> Result<RunConfig, TrainError> {
        const USED: [&str; 3] = ["data", "run", "seed"];
        let (mut own, sources) = self.own()?;
        let section = |key: &str| key.split('.').next().is_some_and(|own| USED.contains(&own));
        if let Some((key, name)) = sources.iter().find(|(key, name)| *name == SET && !section(key))
        {
            return Err(TrainError::Config {
                source_name: format!("{name} {key}"),
                problem: "no training belongs to this command; it has use of data and run alone"
                    .into(),
            });
        }
        own.retain(|key, _| USED.contains(&key));
        let base = with_shape(model)?;
        let layered = |defaults: &[fit::Default]| {
            self.layered(&base, defaults, &own).map_err(|error| self.blamed(error, &sources))
        };
        let files = loose || is_image_files(&layered(&[])?);
        layered(&fit::preprocessing(model, input, files))
    }

    /// What is given, by the file and by settings over it, and where each value comes from.
    fn own(&self) -> Result<(Table, BTreeMap<String, String>), TrainError> {
        let mut sources = BTreeMap::new();
        let mut own = Table::new();
        if let Some(file) = &self.file {
            own = text::read_table(file)?;
            let mut values = Vec::new();
            flatten("", Value::Table(own.clone()), &mut values);
            let name = file.display().to_string();
            sources.extend(values.into_iter().map(|(key, _)| (key, name.clone())));
        }
        for (name, setting) in &self.settings {
            let key = text::apply(&mut own, name, setting)?;
            if key == "model.preset" {
                // The file's own shape would be laid over it.
                if let Some(Value::Table(model)) = own.get_mut("model") {
                    model
                        .retain(|key, _| ["preset", "kernels", "alpha", "separate"].contains(&key));
                }
                sources.retain(|key, _| !key.starts_with("model."));
            }
            sources.insert(key, name.clone());
        }
        Ok((own, sources))
    }

    /// Defaults over `base`, and what is given over them.
    fn layered(
        &self,
        base: &Table,
        defaults: &[fit::Default],
        own: &Table,
    ) -> Result<RunConfig, TrainError> {
        let mut whole = base.clone();
        for (key, value, _) in defaults {
            text::insert(&mut whole, key, value.clone())?;
        }
        text::merge(&mut whole, own.clone());
        text::parse_table(whole, &self.source_name())
    }

    /// An error about a value that was given names the file or option that gave it.
    fn blamed(&self, error: TrainError, sources: &BTreeMap<String, String>) -> TrainError {
        match error {
            TrainError::Config { source_name, problem } if source_name == self.source_name() => {
                // The first that it speaks of, and of two such as `search.budget` and `search.budgets` the longer.
                let spoken = sources.iter().filter_map(|(key, name)| {
                    Some((problem.find(key.as_str())?, Reverse(key.len()), name))
                });
                let source_name = spoken.min().map_or(source_name, |(.., name)| name.clone());
                TrainError::Config { source_name, problem }
            }
            other => other,
        }
    }

    fn source_name(&self) -> String {
        match (&self.file, self.settings.first()) {
            (Some(file), _) => file.display().to_string(),
            (None, Some((name, _))) => name.clone(),
            (None, None) => "built-in configuration".into(),
        }
    }

    /// With the weights' shape, and defaults that fit it.
    fn fitted(
        &self,
        own: Table,
        weights: &Path,
        mut sources: BTreeMap<String, String>,
    ) -> Result<Resolved, TrainError> {
        let Description { architecture, head, input, notes } = describe(weights, &self.read)?;
        let name = weights.display().to_string();
        let mut notes: Vec<String> =
            notes.into_iter().map(|note| format!("{name}: {note}")).collect();
        check_dense(&name, &architecture.model, &architecture.block_configs())?;
        // The shape first, as the images are read for its channels.
        let base = with_shape(&architecture.model)?;
        let mut defaults = Vec::new();
        let mut config = self.layered(&base, &defaults, &own)?;
        let files = is_image_files(&config);
        defaults.extend(fit::preprocessing(&config.model, &input, files));
        config = self.layered(&base, &defaults, &own)?;
        let load = |config: &RunConfig| {
            let options = config.data.options(config.model.channels(), self.index.as_deref());
            spvit_data::load(&config.data.folder, &options)
        };
        let mut data = load(&config)?;
        if data.train.in_memory().is_none()
            && let Some(order) = other_order(&input.class_names, &data.class_names)
        {
            let names = order.iter().cloned().map(Value::String).collect();
            let why = "the weights' order of classes".to_string();
            defaults.push(("data.images.classes", Value::Array(names), why));
            config = self.layered(&base, &defaults, &own)?;
            data = load(&config)?;
        }
        let (classes, found) = (data.train.classes(), config.model.classes());
        let asked = sources.contains_key("model.classes");
        if !asked && (classes != found || !head) {
            let value = i64::try_from(classes).unwrap_or(i64::MAX);
            defaults.push(("model.classes", Value::Integer(value), "the images' classes".into()));
            let why = match head {
                true => format!("the weights have {found} classes, the images {classes}"),
                false => "the weights have no classifier".into(),
            };
            notes.push(format!(
                "{name}: {why}: a new head is trained first (transfer), with the rest of the model"
            ));
            defaults.push(("dense.transfer", Value::Boolean(true), why));
        } else if input.class_names != data.class_names {
            notes.push(taken_in_order(&name, &input.class_names, &data.class_names));
        }
        let (images, files) = (data.train.len(), data.train.in_memory().is_none());
        // What is given of one changes the defaults of the next.
        defaults.push(fit::start(&own));
        defaults.extend(fit::batches(images));
        config = self.layered(&base, &defaults, &own)?;
        defaults.extend(fit::epochs(&config, images));
        config = self.layered(&base, &defaults, &own)?;
        defaults.extend(fit::rates(&config, images, files));
        config = self.layered(&base, &defaults, &own)?;
        for (key, _, why) in defaults {
            sources.entry(key.to_string()).or_insert(why);
        }
        for key in ["image_size", "classes"] {
            sources.entry(format!("model.{key}")).or_insert_with(|| name.clone());
        }
        Ok(Resolved { config, sources, notes, data: Some(data) })
    }
}

/// A model's names of its classes, where the images' are the same in another order.
pub fn other_order<'a>(theirs: &'a [String], ours: &[String]) -> Option<&'a [String]> {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    (theirs != ours && sorted(theirs) == sorted(ours)).then_some(theirs)
}

/// What is taken for granted where nobody knows whether two classifications are the same.
pub fn taken_in_order(name: &str, theirs: &[String], ours: &[String]) -> String {
    const SHOWN: usize = 5;
    let some = |names: &[String]| {
        let more = if names.len() > SHOWN { ", ..." } else { "" };
        format!("{}{more}", names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
    };
    let called = match theirs.is_empty() {
        true => "does not say what its classes are called".into(),
        false => format!("calls its classes {}", some(theirs)),
    };
    format!(
        "{name} {called}; they are taken to be, in this order, {} (another order: \
         --set data.images.classes=[..]; other classes: --set dense.transfer=true)",
        some(ours)
    )
}

/// The built-in values with this model's shape.
fn with_shape(model: &ModelConfig) -> Result<Table, TrainError> {
    let shape = Value::try_from(model).map_err(|error| TrainError::Config {
        source_name: "model".into(),
        problem: error.to_string(),
    })?;
    let mut table = text::defaults()?;
    table.insert("model".into(), shape);
    Ok(table)
}

/// Whether the data are image files, as far as can be told before they are read.
fn is_image_files(config: &RunConfig) -> bool {
    use spvit_data::Format;
    match config.data.format {
        Format::Images => true,
        Format::Auto => spvit_data::is_image_files(&config.data.folder),
        _ => false,
    }
}

/// A search starts from attention everywhere and whole FFNs.
fn check_dense(name: &str, model: &ModelConfig, blocks: &[BlockConfig]) -> Result<(), TrainError> {
    let shapes = model.blocks();
    let whole = |(block, shape): (&BlockConfig, &spvit_layers::BlockShape)| {
        block.operation == Operation::Msa
            && block.hidden == shape.hidden
            && block.heads.is_none_or(|heads| heads == shape.heads)
    };
    match blocks.iter().zip(&shapes).all(whole) {
        true => Ok(()),
        false => Err(TrainError::Config {
            source_name: name.into(),
            problem: "it is a compact model already; a search starts from a dense one".into(),
        }),
    }
}
