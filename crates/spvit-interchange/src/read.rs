//! Files to models.

use std::path::{Path, PathBuf};

use spvit_core::FusedOps;
use spvit_layers::{
    BlockConfig, Family, Init, ModelConfig, Operation, Vit,
    state::{self, StateDict, StateError},
};
use spvit_search::{Architecture, BlockArchitecture, CostModel};

use crate::{
    Dense, Description, INPUT, Imported, Input, InterchangeError, ReadOptions, asked,
    detect::{self, Described, Told},
    fit, infer, memory,
    names::Renamed,
    published,
    weights::{self, read_architecture},
};

/// A file under the names used here.
struct Source {
    path: PathBuf,
    renamed: Renamed,
    /// The architecture that spvit wrote into it.
    architecture: Option<Architecture>,
    /// How images come to the model.
    input: Input,
    notes: Vec<String>,
}

/// The weights in a folder as Hugging Face's and timm's programs save it; a file is itself.
///
/// # Errors
/// [`InterchangeError`] naming a folder that has none.
pub fn weights_file(path: &Path) -> Result<PathBuf, InterchangeError> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let names = ["model.safetensors", "pytorch_model.bin", "compact.safetensors"];
    let found = names.iter().map(|name| path.join(name)).find(|file| file.exists());
    found.ok_or_else(|| {
        let problem = "is a folder without model.safetensors or pytorch_model.bin; name a file";
        InterchangeError::refused(path, problem)
    })
}

impl Source {
    fn open(path: &Path, entry: Option<&str>) -> Result<Self, InterchangeError> {
        let path = weights_file(path)?;
        let checkpoint = match entry {
            Some(entry) => spvit_formats::read_under(&path, entry)?,
            None => spvit_formats::read(&path)?,
        };
        let mut notes = Vec::new();
        let origin = &checkpoint.origin;
        if !origin.nested_under.is_empty() {
            notes.push(format!("the weights are those under '{}'", origin.nested_under.join("/")));
        }
        if !origin.stripped_prefixes.is_empty() {
            let prefixes = origin.stripped_prefixes.join("' and '");
            notes.push(format!("the prefix '{prefixes}' is removed from the names"));
        }
        let architecture = match checkpoint.metadata.get(weights::ARCHITECTURE) {
            Some(json) => Some(
                Architecture::from_json(json)
                    .map_err(|error| InterchangeError::architecture(&path, error))?,
            ),
            None => None,
        };
        let tensors = weights::from_host(checkpoint.tensors);
        let refused = |problem| InterchangeError::refused(&path, problem);
        let input = Input::stored(checkpoint.metadata.get(INPUT)).map_err(refused)?;
        if let Some(problem) = unfit(&tensors) {
            return Err(refused(problem));
        }
        let renamed = Renamed::new(tensors, &mut notes).map_err(refused)?;
        Ok(Self { path, renamed, architecture, input, notes })
    }

    /// The error of weights that do not fit, in the file's own names.
    fn state_error(&self, error: StateError, hint: String) -> InterchangeError {
        let path = self.path.clone();
        InterchangeError::State { path, error: self.renamed.translate(error), hint }
    }

    fn refused(&self, problem: String) -> InterchangeError {
        InterchangeError::refused(&self.path, problem)
    }

    /// What the file says of a model that spvit did not write, and what is assumed.
    fn describe(&mut self, told: &Told) -> Result<Described, InterchangeError> {
        let described = infer::described(&self.path, &self.renamed, told)?;
        let tensors = &mut self.renamed.tensors;
        tensors.retain(|name, _| !detect::follows_from_rope(&described, name));
        if described.attention_pool.is_none() {
            let count = self.renamed.tensors.len();
            self.renamed.tensors.retain(|name, _| !name.starts_with("attn_pool."));
            if self.renamed.tensors.len() < count {
                self.notes
                    .push("the attention pool is left out: the classifier has no use of it".into());
            }
        }
        if told.final_norm == Some(false) && self.renamed.tensors.contains_key("norm.weight") {
            self.renamed.tensors.retain(|name, _| !name.starts_with("norm."));
            self.notes
                .push("the last norm is left out: the classifier takes what comes before".into());
        }
        fit::rows(&mut self.renamed.tensors, &described);
        Ok(described)
    }

    /// The architecture of the model as the options want it, and the map of patches of the file.
    fn resolve(
        &mut self,
        options: &ReadOptions,
    ) -> Result<(Architecture, [usize; 2]), InterchangeError> {
        let (mut config, blocks) = match &self.architecture {
            Some(own) => (own.model.clone(), own.block_configs()),
            None => {
                let described = self.describe(&infer::told(&self.path, options)?)?;
                self.notes.extend(described.warning());
                self.input = std::mem::take(&mut self.input).over(described.input.clone());
                infer::infer(&self.path, &self.renamed.tensors, &described, options)?
            }
        };
        let map = config.map();
        config.set_image_size(options.image_size.unwrap_or(config.image_size()));
        config.set_classes(options.classes.unwrap_or(config.classes()));
        config.validate().map_err(|error| self.refused(error.to_string()))?;
        let architecture = match (&options.architecture, self.architecture.take()) {
            (Some(path), _) => given(path, config, &blocks)?,
            (None, Some(own)) => {
                Architecture::new(config, own.cost_model, own.blocks, own.target_flops)
            }
            (None, None) => numbered(config, &blocks, &mut self.notes),
        };
        architecture
            .validate()
            .map_err(|error| InterchangeError::architecture(&self.path, error))?;
        Ok((architecture, map))
    }
}

/// Why a checkpoint cannot be a model of this program, if that is known from its names.
fn unfit(tensors: &StateDict) -> Option<String> {
    let any = |test: &dyn Fn(&str) -> bool| tensors.keys().any(|name| test(name));
    let refusal = if tensors.is_empty() {
        "it has no weights"
    } else if tensors.keys().all(|name| published::is_indicator(name)) {
        "this is a search result of the published code, not a model: read it as an architecture, \
         with a file of its blocks' operations"
    } else if any(&|n| n.ends_with("_thresholds") || n.starts_with("thresholds.")) {
        "this is the state of a search, which holds every operation; prune it first (spvit prune)"
    } else {
        return None;
    };
    Some(refusal.into())
}

/// The architecture in a file, which must be that of the weights.
fn given(
    path: &Path,
    config: ModelConfig,
    blocks: &[BlockConfig],
) -> Result<Architecture, InterchangeError> {
    let given = read_architecture(path)?;
    let model = &given.model;
    for (what, theirs, ours) in [
        ("model.dim", model.embed_dim(), config.embed_dim()),
        ("model.depth", model.depth(), config.depth()),
        ("model.heads", heads(model), heads(&config)),
        ("model.patch_size", model.patch_size(), config.patch_size()),
    ] {
        if theirs != ours {
            return Err(InterchangeError::refused(
                path,
                format!("{what} is {theirs}, but the weights have {ours}"),
            ));
        }
    }
    for (index, (theirs, ours)) in given.block_configs().iter().zip(blocks).enumerate() {
        if theirs != ours {
            let text =
                |b: &BlockConfig| format!("{} and {} hidden dimensions", b.operation, b.hidden);
            return Err(InterchangeError::refused(
                path,
                format!("blocks[{index}] has {}, but the weights {}", text(theirs), text(ours)),
            ));
        }
    }
    let mut config = config;
    config.space = model.space.clone();
    if let (Family::Vit(ours), Some(theirs)) = (&mut config.family, model.as_vit()) {
        ours.hidden = theirs.hidden;
    }
    Ok(Architecture::new(config, given.cost_model, given.blocks, given.target_flops))
}

/// Heads of the first block.
fn heads(config: &ModelConfig) -> usize {
    config.blocks().first().map_or(0, |block| block.heads)
}

/// An architecture that numbers the hidden dimensions from 0, as weights do not tell them.
fn numbered(config: ModelConfig, blocks: &[BlockConfig], notes: &mut Vec<String>) -> Architecture {
    let shapes = config.blocks();
    let cut = blocks.iter().zip(&shapes).find(|(block, shape)| block.hidden < shape.hidden);
    if let Some((_, shape)) = cut {
        notes.push(format!(
            "the weights do not tell which of {} hidden dimensions they keep; the architecture \
             numbers them from 0",
            shape.hidden
        ));
    }
    let shortcut = |block: &BlockConfig| block.operation == Operation::Shortcut;
    if blocks.iter().any(shortcut) && !shapes.iter().any(|s| s.style.shortcut_adds_norm) {
        notes.push(
            "shortcuts add nothing; a model that the published code fine-tuned adds norm1(x) \
             there, which has to be asked for (shortcut_adds_norm)"
                .into(),
        );
    }
    let blocks = blocks.iter().map(BlockArchitecture::first).collect();
    Architecture::new(config, CostModel::Paper, blocks, None)
}

/// What a file's tensors and the configuration beside it say of their model, whether spvit reads
/// it or not. The weights are not checked.
///
/// # Errors
/// [`InterchangeError`] naming the file and what it lacks.
pub fn examine(path: &Path, options: &ReadOptions) -> Result<Described, InterchangeError> {
    let source = Source::open(path, options.entry.as_deref())?;
    let told = infer::told(&source.path, options)?;
    detect::detect(&source.renamed.shapes, source.renamed.origin, &told)
        .map_err(|problem| source.refused(problem))
}

/// The model in a weights file, which is read but not checked.
///
/// # Errors
/// [`InterchangeError`] naming the file and what it lacks.
pub fn describe(path: &Path, options: &ReadOptions) -> Result<Description, InterchangeError> {
    let mut source = Source::open(path, options.entry.as_deref())?;
    let heads = ["head.weight", "head.fc.weight"];
    let head = heads.iter().any(|name| source.renamed.tensors.contains_key(*name));
    let (architecture, _) = source.resolve(options)?;
    Ok(Description { architecture, head, input: source.input, notes: source.notes })
}

/// Reads a dense or compact model of whatever shape, whoever wrote it: spvit, timm, DeiT, Hugging
/// Face, or the published code (fine-tuned or compact). `path` may be a folder with the weights.
///
/// A head that is not in the file, or for other classes, is drawn anew from `seed`.
///
/// # Errors
/// [`InterchangeError`] naming the file, what it lacks, and every tensor that does not fit.
pub fn read<B: FusedOps>(
    path: &Path,
    options: &ReadOptions,
    seed: u64,
    device: &B::Device,
) -> Result<Imported<B>, InterchangeError> {
    let mut source = Source::open(path, options.entry.as_deref())?;
    let (architecture, map) = source.resolve(options)?;
    let config = &architecture.model;
    let fits = match published::is_fine_tuned(&source.renamed.tensors) {
        // It is filled up to the search form first.
        true => memory::check(config),
        false => memory::check_architecture(&architecture),
    };
    fits.map_err(|problem| source.refused(problem))?;
    let mut init = Init::new(seed, device);
    fit::biases(&mut source.renamed, config, &mut source.notes);
    let tensors = &mut source.renamed.tensors;
    fit::positions(tensors, config, Some(map), &mut source.notes)
        .map_err(|problem| InterchangeError::refused(&source.path, problem))?;
    fit::head(tensors, config, &mut init, &mut source.notes);
    let tensors = std::mem::take(tensors);
    let model = match published::is_fine_tuned(&tensors) {
        true => published::compact::<B>(tensors, &architecture, &mut init),
        false => {
            let fresh = Vit::new(config, &architecture.block_configs(), &mut init);
            state::import_owned(fresh, tensors)
        }
    };
    match model {
        Ok(model) => Ok(Imported { model, architecture, input: source.input, notes: source.notes }),
        Err(error) => {
            let hint = match error.missing.is_empty() && error.misshapen.is_empty() {
                true => "; this kind of vision transformer has layers that spvit's have not",
                false => "; check that this is the whole model, and of a kind that spvit reads",
            };
            Err(source.state_error(error, hint.into()))
        }
    }
}

/// Reads the weights of a dense model of this shape, whoever wrote them, with another head or
/// resolution where the shape asks for it. A new head is drawn from `seed`.
///
/// # Errors
/// [`InterchangeError`] naming the file and every tensor that does not fit.
pub fn read_dense<B: FusedOps>(
    path: &Path,
    config: &ModelConfig,
    seed: u64,
    device: &B::Device,
) -> Result<Dense<B>, InterchangeError> {
    let mut source = Source::open(path, None)?;
    config.validate().map_err(|error| source.refused(error.to_string()))?;
    memory::check(config).map_err(|problem| source.refused(problem))?;
    let mut map = source.architecture.as_ref().map(|own| own.model.map());
    let mut hint = "; expected the weights of a dense model of this shape".to_string();
    if source.architecture.is_none() {
        let beside = infer::told(&source.path, &ReadOptions::default())?;
        let usual = source.renamed.origin.epsilon();
        if beside.epsilon.is_none()
            && config.as_vit().is_some()
            && usual != config.layer_norm_epsilon()
        {
            source.notes.push(format!(
                "layer norms have ε {:e}, as model.layer_norm_epsilon says; models of this origin \
                 usually have {usual:e}",
                config.layer_norm_epsilon(),
            ));
        }
        let described =
            source.describe(&beside.over(asked::told(config, &source.renamed.shapes)))?;
        map = Some(described.image_size.map(|side| side / described.patch_size));
        let options = ReadOptions { classes: Some(config.classes()), ..ReadOptions::default() };
        let (found, blocks) =
            infer::infer(&source.path, &source.renamed.tensors, &described, &options)?;
        if let Some(difference) = asked::difference(config, &found, &blocks) {
            hint = difference.clone();
            if asked::of_another_form(config, &found) {
                return Err(source.refused(difference.trim_start_matches("; ").into()));
            }
        }
    }
    let mut init = Init::new(seed, device);
    fit::biases(&mut source.renamed, config, &mut source.notes);
    let tensors = &mut source.renamed.tensors;
    fit::positions(tensors, config, map, &mut source.notes)
        .map_err(|problem| InterchangeError::refused(&source.path, problem))?;
    let new_head = fit::head(tensors, config, &mut init, &mut source.notes);
    let tensors = std::mem::take(tensors);
    let fresh = Vit::new(config, &config.dense_blocks(), &mut init);
    match state::import_owned(fresh, tensors) {
        Ok(model) => Ok(Dense { model, new_head, notes: source.notes }),
        Err(error) => Err(source.state_error(error, hint)),
    }
}
