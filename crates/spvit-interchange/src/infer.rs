//! A model's shape, from what its file says.

use std::path::Path;

use spvit_layers::{
    BlockConfig, Family as Shape, ModelConfig, Operation, Pool, QkvBias, SearchSpace, SwinConfig,
    VitConfig, state::StateDict,
};

use crate::{
    InterchangeError, ReadOptions,
    detect::{self, Biases, Described, Family, Feature, Told, detect},
    names::Renamed,
    published,
};

/// The parts that spvit's layers have beside what every vision transformer has.
const READ: [Feature; 7] = [
    Feature::AttentionPool,
    Feature::PrefixPool,
    Feature::Rope,
    Feature::SwiGlu,
    Feature::RmsNorm,
    Feature::SubNorm,
    Feature::RelativeBias,
];

/// The shape of a tensor; `None` if there is none of this name, or it is empty, or it has another
/// number of dimensions.
pub(super) fn shape<const D: usize>(tensors: &StateDict, name: &str) -> Option<[usize; D]> {
    let shape: [usize; D] = tensors.get(name)?.shape.to_vec().try_into().ok()?;
    // Sizes of an empty tensor say nothing about memory that a file could fill.
    (!shape.contains(&0)).then_some(shape)
}

/// What the options, the configuration beside the file and the name of an architecture tell.
pub(super) fn told(path: &Path, options: &ReadOptions) -> Result<Told, InterchangeError> {
    let beside = detect::beside(path)?.unwrap_or_default();
    let named = match &options.timm {
        None => Told::default(),
        Some(name) => detect::named(name).ok_or_else(|| {
            let problem = format!("timm has no vision transformer '{name}' that spvit knows");
            InterchangeError::refused(path, problem)
        })?,
    };
    let own = Told {
        heads: options.heads.map(|heads| vec![heads]),
        pool: options.pool,
        activation: options.activation.map(Ok),
        epsilon: options.epsilon,
        prefix_tokens: options.prefix_tokens,
        ..Told::default()
    };
    // Another size than the file's is asked for where the file says its own.
    let size = Told { image_size: options.image_size, ..Told::default() };
    Ok(own.over(named).over(beside).over(size))
}

/// What the file's tensors and what is told beside them say about the model; it is one that
/// spvit's layers can be.
pub(super) fn described(
    path: &Path,
    renamed: &Renamed,
    told: &Told,
) -> Result<Described, InterchangeError> {
    let refused = |problem: String| InterchangeError::refused(path, problem);
    let described = detect(&renamed.shapes, renamed.origin, told).map_err(refused)?;
    match described.refusal(&READ) {
        Some(problem) => Err(refused(problem)),
        None => Ok(described),
    }
}

/// The model's shape and its blocks, in dense, compact or published form.
pub(super) fn infer(
    path: &Path,
    tensors: &StateDict,
    described: &Described,
    options: &ReadOptions,
) -> Result<(ModelConfig, Vec<BlockConfig>), InterchangeError> {
    let wrong = |what: &str| {
        InterchangeError::refused(path, format!("cannot tell the model's shape: {what}"))
    };
    let Some(classes) = described.classes.or(options.classes) else {
        return Err(wrong("it has no head; give the number of classes for a new one"));
    };
    let mut blocks = Vec::new();
    for (stage, shape) in described.stages.iter().enumerate() {
        for (index, &hidden) in shape.hidden.iter().enumerate() {
            let name = match described.family {
                Family::Vit => format!("blocks.{index}"),
                Family::Swin => format!("layers.{stage}.blocks.{index}"),
            };
            blocks.push(BlockConfig { operation: operation(tensors, &name), hidden, heads: None });
        }
    }
    let values: usize = tensors.values().map(|data| data.shape.num_elements()).sum();
    let dim = described.stages.iter().map(|stage| stage.dim).max().unwrap_or(0);
    let attends = blocks.iter().any(|block| block.operation == Operation::Msa);
    if attends && dim.checked_mul(dim).is_none_or(|square| square > values) {
        return Err(wrong(&format!("dim is {dim}, for which the file has too few values")));
    }
    let mut config = ModelConfig {
        family: family(described, classes, &blocks).ok_or_else(|| wrong("it has no blocks"))?,
        space: SearchSpace { kernels: kernels(tensors, &blocks), ..SearchSpace::default() },
    };
    config.space.alpha = options.alpha.unwrap_or(match &config.family {
        Shape::Vit(_) => config.space.alpha,
        Shape::Swin(_) if published::is_fine_tuned(tensors) => published::SWIN_ALPHA,
        Shape::Swin(_) => config.space.alpha,
    });
    match &mut config.family {
        Shape::Vit(vit) => vit.style.shortcut_adds_norm = options.shortcut_adds_norm,
        Shape::Swin(swin) => swin.style.shortcut_adds_norm = options.shortcut_adds_norm,
    }
    config.validate().map_err(|error| wrong(&error.to_string()))?;
    Ok((config, blocks))
}

/// The shape of a dense model that has these blocks, or could have been cut to them.
fn family(described: &Described, classes: usize, blocks: &[BlockConfig]) -> Option<Shape> {
    let first = described.stages.first()?;
    let msa = |block: &BlockConfig| block.operation == Operation::Msa;
    // FFNs of the usual width were there before, unless these are all of one width and uncut.
    let ratio = |stage: &detect::Stage| {
        let widest = stage.hidden.iter().copied().max().unwrap_or(0);
        let whole = stage.hidden.iter().all(|&hidden| hidden == widest) && widest > 0;
        (whole && blocks.iter().all(msa), widest as f64 / stage.dim as f64)
    };
    let mut style = spvit_layers::BlockStyle {
        epsilon: described.epsilon,
        activation: described.activation,
        qkv_bias: match described.qkv_bias {
            Biases::None => QkvBias::None,
            Biases::All | Biases::QueryAndValue => QkvBias::All,
        },
        qk_norm: described.qk_norm,
        layer_scale: described.layer_scale,
        norm: described.norm_kind,
        ffn: described.ffn,
        relative_position_bias: described.relative_bias,
        rope: described.rope.as_ref().map(detect::Rope::layer),
        attn_norm: described.attn_norm,
        mlp_norm: described.mlp_norm,
        ..Default::default()
    };
    // Without attention, nothing tells of its biases.
    if !blocks.iter().any(msa) {
        style.qkv_bias = QkvBias::All;
    }
    if described.family == Family::Swin {
        let (dense, ratios): (Vec<bool>, Vec<f64>) = described.stages.iter().map(ratio).unzip();
        let widest = ratios.iter().copied().fold(0.0, f64::max);
        return Some(Shape::Swin(SwinConfig {
            image_size: described.image_size,
            patch_size: described.patch_size,
            channels: described.channels,
            classes,
            dim: first.dim,
            depths: described.stages.iter().map(|stage| stage.hidden.len()).collect(),
            heads: described.stages.iter().map(|stage| stage.heads).collect(),
            window: described.stages.iter().filter_map(|stage| stage.window).max()?,
            mlp_ratio: if dense.iter().all(|&dense| dense) { widest } else { widest.max(4.0) },
            style,
        }));
    }
    let (dense, _) = ratio(first);
    let widest = first.hidden.iter().copied().max()?;
    let prefix = described.class_token || described.distilled || described.registers > 0;
    let sizes = [0, described.patch_size, described.channels, classes, first.dim];
    let [side, patch, channels, classes, dim] = sizes;
    let hidden = if dense { widest } else { widest.max(4 * dim) };
    let pool = described.attention_pool;
    let base = [side, patch, channels, classes, dim, first.hidden.len(), first.heads];
    Some(Shape::Vit(VitConfig {
        image_size: described.image_size,
        hidden,
        pool: match (described.pool, pool) {
            (_, Some(_)) => Pool::Map,
            (detect::Pool::Token, None) => Pool::Token,
            (detect::Pool::TokenAndAverage, None) => Pool::TokenAverage,
            (_, None) => Pool::Average,
        },
        pool_prefix: [detect::Pool::AverageWithPrefix, detect::Pool::AttentionWithPrefix]
            .contains(&described.pool),
        // What is as in the blocks needs no number of its own.
        pool_heads: pool.map(|pool| pool.heads).filter(|&heads| heads != first.heads),
        pool_hidden: pool.map(|pool| pool.hidden).filter(|&own| own != hidden),
        pool_qk_norm: pool.is_some_and(|pool| pool.qk_norm),
        class_token: described.class_token,
        distilled: described.distilled,
        registers: described.registers,
        position_embedding: described.positions,
        // Where there are none, all of them have rows; where the first have, zeros stand for more.
        embed_prefix: described.prefix_rows > 0 || !prefix,
        patch_bias: described.patch_bias,
        pre_norm: described.pre_norm,
        patch_norm: described.patch_norm,
        final_norm: described.norm,
        fc_norm: described.fc_norm,
        style,
        ..VitConfig::deit(base)
    }))
}

/// The operation of one block, from the names that it has.
fn operation(tensors: &StateDict, block: &str) -> Operation {
    let name = |rest: &str| format!("{block}.{rest}");
    let convolution = shape::<4>(tensors, &name("attn.bconv.0.weight")).map(|[_, _, k, _]| k);
    let kernel = convolution.or_else(|| normalised(tensors, block).first().copied());
    let attention = ["attn.qkv.weight", "attn.v.weight", "attn.proj.weight"];
    match kernel {
        Some(kernel) => Operation::BConv(kernel),
        None if attention.iter().any(|rest| tensors.contains_key(&name(rest))) => Operation::Msa,
        None => Operation::Shortcut,
    }
}

/// The kernels whose normalisation a block of the published code has (`attn.bn_3x3`).
pub(super) fn normalised(tensors: &StateDict, block: &str) -> Vec<usize> {
    let start = format!("{block}.attn.bn_");
    let names = tensors.range(start.clone()..).map(|(name, _)| name);
    let kernels = names.map_while(|name| name.strip_prefix(&start)).filter_map(|rest| {
        let (kernel, _) = rest.strip_suffix(".weight")?.split_once('x')?;
        kernel.parse().ok()
    });
    kernels.collect()
}

/// Kernels of the blocks, and the largest that the head distributions have room for.
fn kernels(tensors: &StateDict, blocks: &[BlockConfig]) -> Vec<usize> {
    let used = blocks.iter().filter_map(|block| match block.operation {
        Operation::BConv(kernel) => Some(kernel),
        _ => None,
    });
    let rooms = tensors.iter().filter_map(|(name, data)| {
        let positions = name.ends_with(".attn.head_probs").then(|| data.shape.to_vec())?;
        detect::square(*positions.get(1)?).map(|[side, _]| side)
    });
    let mut kernels: Vec<usize> = [1, 3].into_iter().chain(used).chain(rooms).collect();
    kernels.sort_unstable();
    kernels.dedup();
    kernels
}
