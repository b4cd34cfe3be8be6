//! A model's shape, from the shapes of its tensors.

use std::path::Path;

use spvit_layers::{
    BlockConfig, Family as Shape, ModelConfig, Operation, SearchSpace, VitConfig, state::StateDict,
};

use crate::{InterchangeError, ReadOptions, names::Family};

/// Width of a head that ViTs and DeiTs of all sizes have.
const HEAD: usize = 64;

/// The shape of a tensor; `None` if there is none of this name, or it is empty, or it has another
/// number of dimensions.
pub(super) fn shape<const D: usize>(tensors: &StateDict, name: &str) -> Option<[usize; D]> {
    let shape: [usize; D] = tensors.get(name)?.shape.to_vec().try_into().ok()?;
    // Sizes of an empty tensor say nothing about memory that a file could fill.
    (!shape.contains(&0)).then_some(shape)
}

/// What a file's tensors say about their model, in compact or published form.
///
/// What they leave open comes from the options or from what is usual, and is said in `notes`.
pub(super) fn infer(
    path: &Path,
    tensors: &StateDict,
    family: Family,
    options: &ReadOptions,
    notes: &mut Vec<String>,
) -> Result<(ModelConfig, Vec<BlockConfig>), InterchangeError> {
    let wrong = |what: &str| {
        InterchangeError::refused(path, format!("cannot tell the model's shape: {what}"))
    };
    let Some([dim, channels, patch_size, side]) = shape(tensors, "patch_embed.proj.weight") else {
        return Err(wrong(
            "expected a tensor patch_embed.proj.weight [dim, channels, patch, patch], as vision \
             transformers of timm, DeiT and Hugging Face have it; check that this is such a model",
        ));
    };
    if patch_size != side {
        return Err(wrong(&format!("its patches are {patch_size}×{side}; spvit's are square")));
    }
    let Some([_, tokens, _]) = shape(tensors, "pos_embed").filter(|[_, _, width]| *width == dim)
    else {
        return Err(wrong(&format!("expected a tensor pos_embed [1, 1 + patches, {dim}]")));
    };
    let patches = tokens.saturating_sub(1);
    let map = match options.image_size {
        Some(size) if (size[0] / patch_size) * (size[1] / patch_size) == patches => {
            [size[0] / patch_size, size[1] / patch_size]
        }
        _ => square(patches).ok_or_else(|| {
            wrong(&format!(
                "pos_embed has {tokens} tokens, which are no square of patches and a class token; \
                 give the image's height and width"
            ))
        })?,
    };
    let classes = match (shape(tensors, "head.weight"), options.classes) {
        (Some([classes, width]), _) if width == dim => classes,
        (Some(found), _) => {
            return Err(wrong(&format!("expected head.weight [classes, {dim}], found {found:?}")));
        }
        (None, Some(classes)) => classes,
        (None, None) => {
            return Err(wrong("it has no head; give the number of classes for a new one"));
        }
    };
    let mut blocks = Vec::new();
    while let Some(block) = block(tensors, dim, blocks.len()) {
        blocks.push(block);
    }
    if blocks.is_empty() {
        let text = format!("expected a tensor blocks.0.mlp.fc1.weight [hidden, {dim}], and so on");
        return Err(wrong(&text));
    }
    let values: usize = tensors.values().map(|data| data.shape.num_elements()).sum();
    let attends = blocks.iter().any(|block| block.operation == Operation::Msa);
    if attends && dim.checked_mul(dim).is_none_or(|square| square > values) {
        return Err(wrong(&format!("dim is {dim}, for which the file has too few values")));
    }
    let heads = heads(path, tensors, dim, blocks.len(), options, notes)?;
    let widest = blocks.iter().map(|block| block.hidden).max().unwrap_or(0);
    let dense = blocks.iter().all(|b| b.operation == Operation::Msa && b.hidden == widest);
    if let Family::HuggingFace(_) = family {
        notes.push("layer norms have ε 1e-12, the default of Hugging Face's ViTs".into());
    }
    let mut vit = VitConfig::deit([0, patch_size, channels, classes, dim, blocks.len(), heads]);
    vit.image_size = map.map(|n| n * patch_size);
    vit.hidden = if dense { widest } else { widest.max(4 * dim) };
    vit.style.epsilon = family.epsilon();
    vit.style.shortcut_adds_norm = options.shortcut_adds_norm;
    let space = SearchSpace { kernels: kernels(tensors, &blocks), ..SearchSpace::default() };
    let config = ModelConfig { family: Shape::Vit(vit), space };
    config.validate().map_err(|error| wrong(&error.to_string()))?;
    Ok((config, blocks))
}

/// Sides of a square of this many patches.
pub(super) fn square(patches: usize) -> Option<[usize; 2]> {
    let side = patches.isqrt();
    (side > 0 && side * side == patches).then_some([side; 2])
}

/// The operation and the width of one block, from the names that it has.
fn block(tensors: &StateDict, dim: usize, index: usize) -> Option<BlockConfig> {
    let name = |rest: &str| format!("blocks.{index}.{rest}");
    let [hidden, _] = shape(tensors, &name("mlp.fc1.weight")).filter(|[_, width]| *width == dim)?;
    let convolution = shape::<4>(tensors, &name("attn.bconv.0.weight")).map(|[_, _, k, _]| k);
    let kernel = convolution.or_else(|| normalised(tensors, index).first().copied());
    let attention = ["attn.qkv.weight", "attn.v.weight", "attn.proj.weight"];
    let operation = match kernel {
        Some(kernel) => Operation::BConv(kernel),
        None if attention.iter().any(|rest| tensors.contains_key(&name(rest))) => Operation::Msa,
        None => Operation::Shortcut,
    };
    Some(BlockConfig { operation, hidden })
}

/// The kernels whose normalisation a block of the published code has (`attn.bn_3x3`).
pub(super) fn normalised(tensors: &StateDict, index: usize) -> Vec<usize> {
    let start = format!("blocks.{index}.attn.bn_");
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
    let rooms = (0..blocks.len()).filter_map(|index| {
        let [_, positions] = shape(tensors, &format!("blocks.{index}.attn.head_probs"))?;
        square(positions).map(|[side, _]| side)
    });
    let mut kernels: Vec<usize> = [1, 3].into_iter().chain(used).chain(rooms).collect();
    kernels.sort_unstable();
    kernels.dedup();
    kernels
}

/// The number of heads: given, or known from a convolution, or from the usual width of a head.
fn heads(
    path: &Path,
    tensors: &StateDict,
    dim: usize,
    depth: usize,
    options: &ReadOptions,
    notes: &mut Vec<String>,
) -> Result<usize, InterchangeError> {
    let known = (0..depth).find_map(|index| {
        let name = |rest: &str| format!("blocks.{index}.attn.{rest}");
        let distribution = shape::<2>(tensors, &name("head_probs")).map(|[heads, _]| heads);
        let convolution = shape::<4>(tensors, &name("bconv.0.weight"))
            .and_then(|[width, ..]| dim.checked_div(width));
        distribution.or(convolution)
    });
    match options.heads.or(known) {
        Some(heads) => Ok(heads),
        None if dim.is_multiple_of(HEAD) => {
            let heads = dim / HEAD;
            notes.push(format!("{heads} attention heads are taken, {HEAD} dimensions each"));
            Ok(heads)
        }
        None => Err(InterchangeError::refused(
            path,
            format!(
                "cannot tell the number of attention heads: dim is {dim}, no multiple of the usual \
                 {HEAD} dimensions; give the number of heads"
            ),
        )),
    }
}
