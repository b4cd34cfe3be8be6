//! The forms in which the published code keeps its results.

use std::path::Path;

use burn::tensor::TensorData;
use serde::Deserialize;
use spvit_core::FusedOps;
use spvit_layers::{
    BlockShape, Family, Init, ModelConfig, Operation, SearchVit, Vit, VitConfig,
    state::{self, StateDict, StateError},
};
use spvit_search::{Architecture, BlockArchitecture, CostModel, prune};

use crate::{InterchangeError, infer, weights};

/// What the published code calls a block's kept hidden dimensions.
const INDICATOR: &str = "mlp.assigned_indicator_index";

/// α of the released Swins.
pub(super) const SWIN_ALPHA: f64 = 100.0;

pub(super) fn is_indicator(name: &str) -> bool {
    name.ends_with(INDICATOR)
}

/// Whether the names are those of a model that the published code fine-tuned: bottleneck
/// convolutions are still maps of values and a distribution over heads there.
pub(super) fn is_fine_tuned(tensors: &StateDict) -> bool {
    tensors.keys().any(|name| name.contains(".attn.head_probs") || name.contains(".attn.bn_"))
}

/// The compact form of a model that the published code fine-tuned.
///
/// Its blocks lack what their operation does not need; that is filled up here, then the model is
/// pruned as a searched one.
pub(super) fn compact<B: FusedOps>(
    mut tensors: StateDict,
    architecture: &Architecture,
    init: &mut Init<B>,
) -> Result<Vit<B>, StateError> {
    let config = &architecture.model;
    let places = block_names(config).into_iter().zip(config.blocks());
    for ((name, shape), block) in places.zip(&architecture.blocks) {
        complete(&mut tensors, config, &shape, (&name, block.operation));
    }
    state::merge_qkv(&mut tensors);
    let hidden: Vec<usize> = architecture.blocks.iter().map(|block| block.kept.len()).collect();
    let search = SearchVit::with_hidden(config, &hidden, init);
    let search = state::import_owned(search, tensors)?;
    // The weights are cut already: all of what is left is kept.
    let kept = |(block, hidden): (&BlockArchitecture, usize)| BlockArchitecture {
        operation: block.operation,
        kept: (0..hidden).collect(),
        heads: Vec::new(),
    };
    let blocks = architecture.blocks.iter().zip(hidden).map(kept).collect();
    let whole = Architecture { blocks, ..architecture.clone() };
    Ok(prune(&search, &whole))
}

/// Adds to a block what the search form has and the block's operation does not use.
fn complete(
    tensors: &mut StateDict,
    config: &ModelConfig,
    shape: &BlockShape,
    (block, operation): (&str, Operation),
) {
    let (dim, d) = (shape.dim, shape.head_dim());
    let mut add = |name: &str, shape: &[usize], value: f32| {
        let count = shape.iter().product();
        let data = TensorData::new(vec![value; count], shape.to_vec());
        tensors.entry(format!("{block}.attn.{name}")).or_insert(data);
    };
    if operation != Operation::Msa {
        add("qk.weight", &[2 * dim, dim], 0.0);
        add("qk.bias", &[2 * dim], 0.0);
        if shape.bias_table_rows() > 0 {
            let table = [shape.bias_table_rows(), shape.heads];
            add("relative_position_bias_table", &table, 0.0);
        }
    }
    if operation == Operation::Shortcut {
        for map in ["v", "proj"] {
            add(&format!("{map}.weight"), &[dim, dim], 0.0);
            add(&format!("{map}.bias"), &[dim], 0.0);
        }
    }
    if !matches!(operation, Operation::BConv(_)) {
        add("head_probs", &[shape.heads, config.space.largest_kernel().pow(2)], 0.0);
    }
    let unused =
        config.space.kernels.iter().filter(|&&kernel| operation != Operation::BConv(kernel));
    for kernel in unused {
        let norm = format!("bn_{kernel}x{kernel}");
        for (part, value) in
            [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)]
        {
            add(&format!("{norm}.{part}"), &[d], value);
        }
    }
}

/// The ways in which a file may list operations.
#[derive(Deserialize)]
#[serde(untagged)]
enum Operations {
    /// `["bconv1x1", "msa", ...]`
    Names(Vec<String>),
    /// `{"blocks": [{"msa": "bconv1x1"}, ...]}`
    Blocks { blocks: Vec<BlockOperation> },
    /// `{"msa_indicators": [[1, 0, 0], ...]}`: of each block, which operations' gates are open.
    Indicators { msa_indicators: Vec<Vec<f64>> },
}

#[derive(Deserialize)]
struct BlockOperation {
    #[serde(alias = "operation")]
    msa: String,
}

/// Reads the operation of every block from a small JSON file: a list of names (`shortcut` or
/// `skip`, `bconv1x1`, `bconv3x3`, `msa`), an object whose `blocks` have them under `msa` or
/// `operation`, or one with the published code's `msa_indicators`.
///
/// # Errors
/// [`InterchangeError`] naming the file, and the block whose operation is unknown.
pub fn read_operations(path: &Path, kernels: &[usize]) -> Result<Vec<Operation>, InterchangeError> {
    let text = std::fs::read(path).map_err(|error| InterchangeError::io(path, error))?;
    let form = r#"expected a list of operations such as ["bconv1x1", "msa"], or {"blocks": [{"msa": "bconv1x1"}, ...]}, or {"msa_indicators": [[1, 0, 0], ...]}"#;
    let operations: Operations = serde_json::from_slice(&text)
        .map_err(|error| InterchangeError::refused(path, format!("{form} ({error})")))?;
    let named = |(index, name): (usize, String)| match name.as_str() {
        "skip" => Ok(Operation::Shortcut),
        name => name.parse().map_err(|problem| {
            InterchangeError::refused(path, format!("block {index}: {problem}"))
        }),
    };
    match operations {
        Operations::Names(names) => names.into_iter().enumerate().map(named).collect(),
        Operations::Blocks { blocks } => {
            blocks.into_iter().map(|block| block.msa).enumerate().map(named).collect()
        }
        Operations::Indicators { msa_indicators } => {
            let all: Vec<Operation> = kernels
                .iter()
                .map(|&kernel| Operation::BConv(kernel))
                .chain([Operation::Msa])
                .collect();
            let chosen = |(index, gates): (usize, &Vec<f64>)| {
                if gates.len() != all.len() {
                    let (found, expected) = (gates.len(), all.len());
                    let problem = format!("block {index} has {found} gates; expected {expected}");
                    return Err(InterchangeError::refused(path, problem));
                }
                // A costlier operation needs all cheaper gates open (Eq. 2).
                let open = gates.iter().take_while(|&&gate| gate > 0.5).count();
                Ok(open.checked_sub(1).map_or(Operation::Shortcut, |last| all[last]))
            };
            msa_indicators.iter().enumerate().map(chosen).collect()
        }
    }
}

/// Reads a search result as the published code releases it (`{'model':
/// {'blocks.0.mlp.assigned_indicator_index': ...}}`) with the blocks' operations, which it keeps
/// elsewhere (see [`read_operations`]).
///
/// `config` is the dense model's shape; its `depth` and `hidden` must be those of the result.
///
/// # Errors
/// [`InterchangeError`] naming the file and the block that does not fit.
pub fn read_search_result(
    path: &Path,
    operations: &Path,
    config: &ModelConfig,
) -> Result<Architecture, InterchangeError> {
    let tensors = weights::from_host(spvit_formats::read(path)?.tensors);
    let kinds = read_operations(operations, &config.space.kernels)?;
    check_names(path, &tensors, config)?;
    if kinds.len() != config.depth() {
        let (found, expected) = (kinds.len(), config.depth());
        let problem = format!("has {found} operations, but the search result {expected} blocks");
        return Err(InterchangeError::refused(operations, problem));
    }
    let block = |(name, operation): (String, Operation)| {
        let data = &tensors[&format!("{name}.{INDICATOR}")];
        let gates = data.iter::<f32>().enumerate();
        let kept = gates.filter(|(_, gate)| *gate > 0.5).map(|(dimension, _)| dimension).collect();
        BlockArchitecture { operation, kept, heads: Vec::new() }
    };
    let blocks = block_names(config).into_iter().zip(kinds).map(block).collect();
    let architecture = Architecture::new(config.clone(), CostModel::Paper, blocks, None);
    architecture.validate().map_err(|error| InterchangeError::architecture(path, error))?;
    Ok(architecture)
}

/// What stands before [`INDICATOR`] in the names of a model's blocks.
fn block_names(config: &ModelConfig) -> Vec<String> {
    match &config.family {
        Family::Vit(vit) => (0..vit.depth).map(|index| format!("blocks.{index}")).collect(),
        Family::Swin(swin) => {
            let place = |(stage, block)| format!("layers.{stage}.blocks.{block}");
            swin.places().into_iter().map(place).collect()
        }
    }
}

/// The dense shape of a search result, with what is usual where it does not tell: images of 224×224
/// pixels, 1000 classes, FFNs of four times the dimensions; for DeiT patches of 16×16 and heads of
/// 64 dimensions, for Swin patches of 4×4, windows of 7×7 and heads of 32 dimensions.
///
/// # Errors
/// [`InterchangeError`] naming the file where it is no search result.
pub fn search_result_shape(path: &Path) -> Result<ModelConfig, InterchangeError> {
    let tensors = weights::from_host(spvit_formats::read(path)?.tensors);
    let refused = |problem: String| InterchangeError::refused(path, problem);
    let hidden = |name: &str| infer::shape(&tensors, &format!("{name}.{INDICATOR}"));
    let wrong = || {
        refused(format!(
            "expected a search result: tensors blocks.N.{INDICATOR}, or layers.S.blocks.N.{INDICATOR} \
             for Swin"
        ))
    };
    let mut config = match (hidden("blocks.0"), hidden("layers.0.blocks.0")) {
        (Some([hidden]), _) => {
            let depth = tensors.keys().filter(|name| is_indicator(name)).count();
            let dim = hidden / 4;
            let deit = VitConfig::deit([224, 16, 3, 1000, dim, depth, dim / 64]);
            ModelConfig::from(VitConfig { hidden, ..deit })
        }
        (None, Some([hidden])) => ModelConfig::preset("swin_tiny")
            .map(|mut config| {
                if let Family::Swin(swin) = &mut config.family {
                    swin.dim = hidden / 4;
                    let stage = |stage: usize| {
                        let start = format!("layers.{stage}.");
                        tensors.keys().filter(|name| name.starts_with(&start)).count()
                    };
                    swin.depths = (0..).map(stage).take_while(|&depth| depth > 0).collect();
                    let stages = 0..swin.depths.len();
                    swin.heads = stages.map(|stage| swin.stage_dim(stage) / 32).collect();
                }
                config
            })
            .map_err(|error| refused(error.to_string()))?,
        (None, None) => return Err(wrong()),
    };
    config.space.alpha = match &config.family {
        Family::Vit(_) => config.space.alpha,
        Family::Swin(_) => SWIN_ALPHA,
    };
    config.validate().map_err(|error| refused(error.to_string()))?;
    Ok(config)
}

/// Names every tensor of a search result that does not fit the shape.
fn check_names(
    path: &Path,
    tensors: &StateDict,
    config: &ModelConfig,
) -> Result<(), InterchangeError> {
    let blocks = config.blocks();
    let names = block_names(config);
    let expected: Vec<String> = names.iter().map(|name| format!("{name}.{INDICATOR}")).collect();
    let mut error = StateError { missing: vec![], unexpected: vec![], misshapen: vec![] };
    for (name, block) in expected.iter().zip(&blocks) {
        match tensors.get(name).map(|data| data.shape.to_vec()) {
            None => error.missing.push(name.clone()),
            Some(shape) if shape != [block.hidden] => {
                error.misshapen.push((name.clone(), vec![block.hidden], shape));
            }
            Some(_) => {}
        }
    }
    error.unexpected = tensors.keys().filter(|name| !expected.contains(name)).cloned().collect();
    match error.missing.is_empty() && error.unexpected.is_empty() && error.misshapen.is_empty() {
        true => Ok(()),
        false => Err(InterchangeError::State {
            path: path.to_path_buf(),
            error,
            hint: format!("; expected a search result of {} blocks", blocks.len()),
        }),
    }
}
