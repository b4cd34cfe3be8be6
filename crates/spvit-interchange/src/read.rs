//! Files to models.

use std::path::Path;

use spvit_core::FusedOps;
use spvit_layers::{
    BlockConfig, Family, Init, ModelConfig, Operation, Vit,
    state::{self, StateDict, StateError},
};
use spvit_search::{Architecture, BlockArchitecture, CostModel};

use crate::{
    Dense, Imported, InterchangeError, ReadOptions, fit, infer,
    names::Renamed,
    published,
    weights::{self, read_architecture},
};

/// A file under the names used here.
struct Source<'a> {
    path: &'a Path,
    renamed: Renamed,
    /// The architecture that spvit wrote into it.
    architecture: Option<Architecture>,
    notes: Vec<String>,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path, entry: Option<&str>) -> Result<Self, InterchangeError> {
        let checkpoint = match entry {
            Some(entry) => spvit_formats::read_under(path, entry)?,
            None => spvit_formats::read(path)?,
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
                    .map_err(|error| InterchangeError::architecture(path, error))?,
            ),
            None => None,
        };
        let tensors = weights::from_host(checkpoint.tensors);
        if let Some(problem) = unfit(&tensors) {
            return Err(InterchangeError::refused(path, problem));
        }
        let renamed = Renamed::new(tensors, &mut notes);
        Ok(Self { path, renamed, architecture, notes })
    }

    /// The error of weights that do not fit, in the file's own names.
    fn state_error(&self, error: StateError, hint: String) -> InterchangeError {
        let path = self.path.to_path_buf();
        InterchangeError::State { path, error: self.renamed.translate(error), hint }
    }

    /// The architecture of the model as the options want it, and the map of patches of the file.
    fn resolve(
        &mut self,
        options: &ReadOptions,
    ) -> Result<(Architecture, [usize; 2]), InterchangeError> {
        let tensors = &self.renamed.tensors;
        let (config, blocks) = match &self.architecture {
            Some(own) => (own.model.clone(), own.block_configs()),
            None => {
                infer::infer(self.path, tensors, self.renamed.family, options, &mut self.notes)?
            }
        };
        let map = config.map();
        let mut config = config;
        config.set_image_size(options.image_size.unwrap_or(config.image_size()));
        config.set_classes(options.classes.unwrap_or(config.classes()));
        config
            .validate()
            .map_err(|error| InterchangeError::refused(self.path, error.to_string()))?;
        let architecture = match (&options.architecture, self.architecture.take()) {
            (Some(path), _) => given(path, config, &blocks)?,
            (None, Some(own)) => {
                Architecture::new(config, own.cost_model, own.blocks, own.target_flops)
            }
            (None, None) => numbered(config, &blocks, &mut self.notes),
        };
        architecture
            .validate()
            .map_err(|error| InterchangeError::architecture(self.path, error))?;
        Ok((architecture, map))
    }
}

/// Why a checkpoint cannot be a model of this program, if that is known from its names.
fn unfit(tensors: &StateDict) -> Option<String> {
    let any = |test: &dyn Fn(&str) -> bool| tensors.keys().any(|name| test(name));
    let refusal = if any(&|n| n.ends_with("dist_token") || n.ends_with("distillation_token")) {
        "this is a distilled DeiT: it has a second class token and a second head, which spvit's \
         models do not have. Take the checkpoint without distillation, such as \
         deit_tiny_patch16_224 in place of deit_tiny_distilled_patch16_224"
    } else if any(&|n| n.starts_with("layers.") && n.contains(".blocks.")) {
        "this is a Swin transformer; spvit reads vision transformers of ViT's and DeiT's form only"
    } else if tensors.is_empty() {
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
    let block = |block: &BlockConfig| BlockArchitecture {
        operation: block.operation,
        kept: (0..block.hidden).collect(),
    };
    let blocks = blocks.iter().map(block).collect();
    Architecture::new(config, CostModel::Paper, blocks, None)
}

/// The architecture of the model in a weights file, and notes on what was assumed. The weights are
/// read but not checked.
///
/// # Errors
/// [`InterchangeError`] naming the file and what it lacks.
pub fn describe(
    path: &Path,
    options: &ReadOptions,
) -> Result<(Architecture, Vec<String>), InterchangeError> {
    let mut source = Source::open(path, options.entry.as_deref())?;
    let (architecture, _) = source.resolve(options)?;
    Ok((architecture, source.notes))
}

/// Reads a dense or compact model of whatever shape, whoever wrote it: spvit, timm, DeiT, Hugging
/// Face, or the published code (fine-tuned or compact).
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
    let mut init = Init::new(seed, device);
    fit::positions(path, &mut source.renamed.tensors, config, Some(map), &mut source.notes)?;
    fit::head(&mut source.renamed.tensors, config, &mut init, &mut source.notes);
    let tensors = std::mem::take(&mut source.renamed.tensors);
    let model = match published::is_fine_tuned(&tensors) {
        true => published::compact::<B>(tensors, &architecture, &mut init),
        false => {
            let fresh = Vit::new(config, &architecture.block_configs(), &mut init);
            state::import_owned(fresh, tensors)
        }
    };
    match model {
        Ok(model) => Ok(Imported { model, architecture, notes: source.notes }),
        Err(error) => {
            let hint = match error.missing.is_empty() && error.misshapen.is_empty() {
                true => "; this kind of vision transformer has layers that spvit's have not",
                false => "; check that this is the whole model, and of ViT's or DeiT's form",
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
    let map = source.architecture.as_ref().map(|own| own.model.map());
    if source.renamed.family.epsilon() != config.layer_norm_epsilon()
        && source.architecture.is_none()
    {
        source.notes.push(format!(
            "layer norms have ε {:e}, as model.layer_norm_epsilon says; models of this origin \
             usually have {:e}",
            config.layer_norm_epsilon(),
            source.renamed.family.epsilon()
        ));
    }
    let hint = difference(&source.renamed.tensors, config);
    let mut init = Init::new(seed, device);
    let tensors = &mut source.renamed.tensors;
    fit::positions(path, tensors, config, map, &mut source.notes)?;
    let new_head = fit::head(tensors, config, &mut init, &mut source.notes);
    let fresh = Vit::new(config, &config.dense_blocks(), &mut init);
    match state::import_owned(fresh, std::mem::take(tensors)) {
        Ok(model) => Ok(Dense { model, new_head, notes: source.notes }),
        Err(error) => Err(source.state_error(error, hint)),
    }
}

/// What to change in a configuration that the weights do not fit.
fn difference(tensors: &StateDict, config: &ModelConfig) -> String {
    let patch = infer::shape::<4>(tensors, "patch_embed.proj.weight");
    let part = |axis: usize| patch.map(|shape| shape[axis]);
    let blocks =
        |name: &str| name.strip_prefix("blocks.")?.split('.').next()?.parse::<usize>().ok();
    let hidden = infer::shape::<2>(tensors, "blocks.0.mlp.fc1.weight").map(|[hidden, _]| hidden);
    let found = [
        ("channels", part(1), config.channels()),
        ("patch_size", part(2), config.patch_size()),
        ("dim", part(0), config.embed_dim()),
        ("depth", tensors.keys().filter_map(|n| blocks(n)).max().map(|i| i + 1), config.depth()),
        ("hidden", hidden, config.blocks().first().map_or(0, |block| block.hidden)),
    ];
    let differing = found.into_iter().filter_map(|(name, found, wanted)| {
        found.filter(|&found| found != wanted).map(|found| format!("model.{name} = {found}"))
    });
    let settings: Vec<_> = differing.collect();
    match settings.is_empty() {
        true => "; expected the weights of a dense vision transformer of timm, DeiT or Hugging \
                 Face with the shape in [model]"
            .into(),
        false => format!("; the file is for a model with {}", settings.join(", ")),
    }
}
