//! From dense to search weights, and from search weights and an architecture to compact ones.

use burn::module::Param;
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use spvit_core::FusedOps;
use spvit_layers::{
    BottleneckConv, Ffn, Init, LayerScale, Linear, Mixer, ModelConfig, Msa, Operation, SearchVit,
    Umsa, Vit,
};

use crate::{Architecture, BlockArchitecture};

/// A trained tensor outside any graph, laid out in memory as its shape says.
fn param<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Param<Tensor<B, D>> {
    let device = tensor.device();
    Param::from_data(tensor.into_data(), &device)
}

/// The search form of a dense model: the same function with all gates open. Head distributions and
/// batch normalisations start fresh.
pub fn expand<B: Backend>(
    dense: &Vit<B>,
    config: &ModelConfig,
    init: &mut Init<B>,
) -> SearchVit<B> {
    let mut search = SearchVit::new(config, init);
    search.take_surroundings(dense);
    for (to, from) in search.blocks.iter_mut().zip(&dense.blocks) {
        to.norm1 = from.norm1.clone();
        to.ls1 = from.ls1.clone();
        to.norm2 = from.norm2.clone();
        to.mlp = from.mlp.clone();
        to.ls2 = from.ls2.clone();
        if let Mixer::Msa(msa) = &from.attn {
            to.attn.msa = msa.clone();
        }
    }
    search
}

/// The compact form of an architecture with the weights of a search model of the same shape: equal
/// to the search form in evaluation with the architecture's gates (Eqs. 17 and 18).
pub fn prune<B: FusedOps>(search: &SearchVit<B>, architecture: &Architecture) -> Vit<B> {
    let device = search.device();
    let config = &architecture.model;
    let mut compact = Vit::new(config, &architecture.block_configs(), &mut Init::new(0, &device));
    compact.take_surroundings(search);
    let blocks = compact.blocks.iter_mut().zip(&search.blocks).zip(&architecture.blocks);
    for ((to, from), BlockArchitecture { operation, kept, heads }) in blocks {
        to.norm1 = from.norm1.clone();
        to.ls1 = from.ls1.clone();
        to.norm2 = from.norm2.clone();
        to.mlp = cut(&from.mlp, kept);
        to.ls2 = from.ls2.clone();
        match (&mut to.attn, operation) {
            (Mixer::Bconv(bconv), Operation::BConv(kernel)) => {
                if let Some(index) = from.attn.kernels().position(|k| k == *kernel) {
                    match from.attn.separate.get(index) {
                        Some(own) => *bconv = own.clone(),
                        None => fill(bconv, &from.attn, index, *kernel),
                    }
                }
            }
            (Mixer::Msa(msa), _) => take_heads(msa, &from.attn.msa, heads),
            _ => {}
        }
    }
    fold_biases(&mut compact, config);
    compact
}

/// Eq. 18: the kept columns of the maps before the activation and rows of fc2 (of the transposed
/// weights here). Of an FFN without dimensions the bias is left. With a norm before fc2, all are
/// kept ([`BlockShape::searches_ffn`](spvit_layers::BlockShape::searches_ffn)).
fn cut<B: Backend>(ffn: &Ffn<B>, kept: &[usize]) -> Ffn<B> {
    let mut cut = ffn.clone();
    let Some(fc2) = &ffn.fc2 else { return cut };
    if ffn.norm.is_some() && kept.len() == ffn.hidden() {
        return cut;
    }
    if kept.is_empty() {
        let dim = fc2.weight.dims()[1];
        let bias = match &fc2.bias {
            Some(bias) => param(bias.val()),
            None => param(Tensor::zeros([dim], &fc2.weight.device())),
        };
        (cut.fc1, cut.fc1_g, cut.fc1_x) = (None, None, None);
        (cut.norm, cut.fc2, cut.bias) = (None, None, Some(bias));
        return cut;
    }
    let device = fc2.weight.device();
    let index = |starts: &[usize]| {
        let kept = starts.iter().flat_map(|start| kept.iter().map(move |&i| (start + i) as i64));
        let kept: Vec<i64> = kept.collect();
        let count = kept.len();
        Tensor::<B, 1, Int>::from_data(TensorData::new(kept, [count]), &device)
    };
    let before = |map: &Option<Linear<B>>, starts: &[usize]| {
        let index = index(starts);
        map.as_ref().map(|map| Linear {
            weight: param(map.weight.val().select(1, index.clone())),
            bias: map.bias.as_ref().map(|bias| param(bias.val().select(0, index))),
        })
    };
    cut.fc1 = before(&ffn.fc1, &ffn.halves());
    cut.fc1_g = before(&ffn.fc1_g, &[0]);
    cut.fc1_x = before(&ffn.fc1_x, &[0]);
    cut.fc2 = Some(Linear {
        weight: param(fc2.weight.val().select(0, index(&[0]))),
        bias: fc2.bias.as_ref().map(|bias| param(bias.val())),
    });
    cut
}

/// Attention with these heads of another, or with all where none is named: their columns of Q, K and
/// V, their rows of the projection, and their columns of the relative positions' biases.
fn take_heads<B: Backend>(to: &mut Msa<B>, from: &Msa<B>, heads: &[usize]) {
    if heads.is_empty() {
        *to = from.clone();
        return;
    }
    let (device, all) = (from.proj.weight.device(), from.heads());
    let width = from.proj.weight.dims()[0];
    let d = width / all;
    let index = |starts: &[usize], d: usize| {
        let columns = starts.iter().flat_map(|start| {
            heads.iter().flat_map(move |head| (0..d).map(move |i| start + head * d + i))
        });
        let columns: Vec<i64> = columns.map(|i| i as i64).collect();
        let count = columns.len();
        Tensor::<B, 1, Int>::from_data(TensorData::new(columns, [count]), &device)
    };
    let qkv = index(&[0, width, 2 * width], d);
    to.qkv = Linear {
        weight: param(from.qkv.weight.val().select(1, qkv.clone())),
        bias: from.qkv.bias.as_ref().map(|bias| param(bias.val().select(0, qkv))),
    };
    to.proj = Linear {
        weight: param(from.proj.weight.val().select(0, index(&[0], d))),
        bias: from.proj.bias.as_ref().map(|bias| param(bias.val())),
    };
    let table = from.relative_position_bias_table.as_ref();
    to.relative_position_bias_table =
        table.map(|table| param(table.val().select(1, index(&[0], 1))));
    (to.q_norm, to.k_norm) = (from.q_norm.clone(), from.k_norm.clone());
}

/// Moves what is left of an FFN without dimensions, a constant, into the bias that is added to the
/// same tokens just before it, so that nothing is left of the FFN. Where there is no such bias (a
/// convolution leaves prefix tokens alone; LayerScale may be 0; a merging comes first), it stays.
fn fold_biases<B: Backend>(model: &mut Vit<B>, config: &ModelConfig) {
    let shapes = config.blocks();
    for index in 0..model.blocks.len() {
        let block = &mut model.blocks[index];
        if block.mlp.hidden() > 0 {
            continue;
        }
        let Some(own) = block.mlp.bias.clone() else { continue };
        let constant = scaled(own.val(), &block.ls2);
        let merged = model.merges_after().to_vec();
        let mut to = index;
        let folded = loop {
            let block = &mut model.blocks[to];
            let movable = block.ls1.is_none();
            match &mut block.attn {
                Mixer::Msa(msa) if movable => break add_bias(&mut msa.proj, &constant),
                Mixer::Bconv(bconv) if movable && shapes[to].prefix_tokens == 0 => {
                    break add_bias(&mut bconv.proj, &constant);
                }
                Mixer::Shortcut(shortcut) if !shortcut.adds_norm => {}
                _ => break false,
            }
            // Nothing comes between this block's input and its FFN.
            if to == 0 {
                break match &mut model.pos_embed {
                    Some(positions)
                        if model.norm_pre.is_none() && embeds_all(positions, &shapes) =>
                    {
                        let sum = positions.val() + constant.clone().unsqueeze();
                        *positions = param(sum);
                        true
                    }
                    _ => false,
                };
            }
            to -= 1;
            let before = &mut model.blocks[to];
            if merged.contains(&to) {
                break false;
            }
            if let (Some(fc2), None) = (&mut before.mlp.fc2, &before.ls2) {
                break add_bias(fc2, &constant);
            }
            if before.mlp.hidden() > 0 {
                break false;
            }
        };
        if folded {
            let bias = model.blocks[index].mlp.bias.as_mut();
            if let Some(bias) = bias {
                *bias = param(own.val().zeros_like());
            }
        }
    }
}

fn embeds_all<B: Backend>(
    positions: &Param<Tensor<B, 3>>,
    shapes: &[spvit_layers::BlockShape],
) -> bool {
    shapes.first().is_some_and(|shape| positions.dims()[1] == shape.tokens())
}

fn scaled<B: Backend>(bias: Tensor<B, 1>, scale: &Option<LayerScale<B>>) -> Tensor<B, 1> {
    match scale {
        Some(scale) => bias * scale.gamma.val(),
        None => bias,
    }
}

/// Adds a constant to a map's output, if it has a bias.
fn add_bias<B: Backend>(linear: &mut Linear<B>, constant: &Tensor<B, 1>) -> bool {
    if let Some(bias) = &mut linear.bias {
        *bias = param(bias.val() + constant.clone());
    }
    linear.bias.is_some()
}

/// Eq. 17: the kernel and bias from the heads of V, the 1×1 convolution from those of the output
/// projection.
fn fill<B: FusedOps>(bconv: &mut BottleneckConv<B>, umsa: &Umsa<B>, index: usize, kernel: usize) {
    let p = umsa.kernel_distribution(index).detach();
    let [heads, positions] = p.dims();
    let msa = &umsa.msa;
    let dim = msa.proj.weight.dims()[1];
    let d = dim / heads;
    let share = p.clone().sum_dim(1);

    // [dim, heads·d] to [dim·d, heads], mixed to [dim·d, positions].
    let value = msa.qkv.weight.val().detach().narrow(1, 2 * dim, dim);
    let value = value.reshape([dim, heads, d]).swap_dims(1, 2).reshape([dim * d, heads]);
    let mixed = value.matmul(p).reshape([dim, d, positions]);
    // Position k of the mixture is row k mod kernel, column k div kernel.
    let weight = mixed.reshape([dim, d, kernel, kernel]).permute([1, 0, 3, 2]);
    bconv.conv.weight = param(weight);
    bconv.conv.bias = param(match &msa.qkv.bias {
        Some(bias) => {
            let bias = bias.val().detach().narrow(0, 2 * dim, dim).reshape([heads, d]);
            (bias * share.clone()).sum_dim(0).squeeze_dim::<1>(0)
        }
        None => Tensor::zeros([d], &msa.qkv.weight.device()),
    });
    bconv.bn = umsa.bn[index].clone();

    let out = msa.proj.weight.val().detach().reshape([heads, d, dim]);
    let out = (out * share.reshape([heads, 1, 1])).sum_dim(0).squeeze_dim::<2>(0);
    let bias = msa.proj.bias.as_ref().map(|bias| param(bias.val()));
    bconv.proj = Linear { weight: param(out), bias };
}
