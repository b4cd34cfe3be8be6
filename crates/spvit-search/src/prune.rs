//! From dense to search weights, and from search weights and an architecture to compact ones.

use burn::module::Param;
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use spvit_layers::{
    BottleneckConv, Ffn, Init, Linear, Mixer, Msa, Operation, SearchVit, Uffn, Umsa, Vit, VitConfig,
};

use crate::{Architecture, BlockArchitecture};

/// A trained tensor outside any graph, laid out in memory as its shape says.
fn param<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Param<Tensor<B, D>> {
    let device = tensor.device();
    Param::from_data(tensor.into_data(), &device)
}

fn copy<B: Backend>(linear: &Linear<B>) -> Linear<B> {
    Linear { weight: param(linear.weight.val()), bias: param(linear.bias.val()) }
}

/// The search form of a dense model: the same function with all gates open. Head distributions and
/// batch normalisations start fresh.
pub fn expand<B: Backend>(dense: &Vit<B>, config: &VitConfig, init: &mut Init<B>) -> SearchVit<B> {
    let mut search = SearchVit::new(config, init);
    search.patch_embed = dense.patch_embed.clone();
    search.cls_token = dense.cls_token.clone();
    search.pos_embed = dense.pos_embed.clone();
    search.norm = dense.norm.clone();
    search.head = dense.head.clone();
    for (to, from) in search.blocks.iter_mut().zip(&dense.blocks) {
        to.norm1 = from.norm1.clone();
        to.norm2 = from.norm2.clone();
        to.mlp = Uffn { fc1: from.mlp.fc1.clone(), fc2: from.mlp.fc2.clone() };
        if let Mixer::Msa(msa) = &from.attn {
            to.attn.qkv = msa.qkv.clone();
            to.attn.proj = msa.proj.clone();
        }
    }
    search
}

/// The compact form of an architecture with the weights of a search model of the same shape: equal
/// to the search form in evaluation with the architecture's gates (Eqs. 17 and 18).
pub fn prune<B: Backend>(search: &SearchVit<B>, architecture: &Architecture) -> Vit<B> {
    let device = search.pos_embed.device();
    let config = &architecture.model;
    let mut compact = Vit::new(config, &architecture.block_configs(), &mut Init::new(0, &device));
    compact.patch_embed = search.patch_embed.clone();
    compact.cls_token = search.cls_token.clone();
    compact.pos_embed = search.pos_embed.clone();
    compact.norm = search.norm.clone();
    compact.head = search.head.clone();
    let blocks = compact.blocks.iter_mut().zip(&search.blocks).zip(&architecture.blocks);
    for ((to, from), BlockArchitecture { operation, kept }) in blocks {
        to.norm1 = from.norm1.clone();
        to.norm2 = from.norm2.clone();
        to.mlp = cut(&from.mlp, kept);
        match (&mut to.attn, operation) {
            (Mixer::Bconv(bconv), Operation::BConv(kernel)) => {
                let index = search.kernels.iter().position(|k| k == kernel);
                if let Some(index) = index {
                    fill(bconv, &from.attn, index, *kernel);
                }
            }
            (Mixer::Msa(msa), _) => {
                *msa = Msa {
                    qkv: copy(&from.attn.qkv),
                    proj: copy(&from.attn.proj),
                    heads: from.attn.heads,
                };
            }
            _ => {}
        }
    }
    compact
}

/// Eq. 18: the kept columns of fc1 and rows of fc2 (of the transposed weights here).
fn cut<B: Backend>(ffn: &Uffn<B>, kept: &[usize]) -> Ffn<B> {
    let device = ffn.fc1.weight.device();
    let kept: Vec<i64> = kept.iter().map(|&i| i as i64).collect();
    let count = kept.len();
    let index = Tensor::<B, 1, Int>::from_data(TensorData::new(kept, [count]), &device);
    let (fc1, fc2) = (&ffn.fc1, &ffn.fc2);
    Ffn {
        fc1: Linear {
            weight: param(fc1.weight.val().select(1, index.clone())),
            bias: param(fc1.bias.val().select(0, index.clone())),
        },
        fc2: Linear {
            weight: param(fc2.weight.val().select(0, index)),
            bias: param(fc2.bias.val()),
        },
    }
}

/// Eq. 17: the kernel and bias from the heads of V, the 1×1 convolution from those of the output
/// projection.
fn fill<B: Backend>(bconv: &mut BottleneckConv<B>, umsa: &Umsa<B>, index: usize, kernel: usize) {
    let p = umsa.kernel_distribution(index).detach();
    let [heads, positions] = p.dims();
    let dim = umsa.proj.bias.dims()[0];
    let d = dim / heads;
    let share = p.clone().sum_dim(1);

    // [dim, heads·d] to [dim·d, heads], mixed to [dim·d, positions].
    let value = umsa.qkv.weight.val().detach().narrow(1, 2 * dim, dim);
    let value = value.reshape([dim, heads, d]).swap_dims(1, 2).reshape([dim * d, heads]);
    let mixed = value.matmul(p).reshape([dim, d, positions]);
    // Position k of the mixture is row k mod kernel, column k div kernel.
    let weight = mixed.reshape([dim, d, kernel, kernel]).permute([1, 0, 3, 2]);
    let bias = umsa.qkv.bias.val().detach().narrow(0, 2 * dim, dim).reshape([heads, d]);
    bconv.conv.weight = param(weight);
    bconv.conv.bias = param((bias * share.clone()).sum_dim(0).squeeze_dim::<1>(0));
    bconv.bn = umsa.bn[index].clone();

    let out = umsa.proj.weight.val().detach().reshape([heads, d, dim]);
    let out = (out * share.reshape([heads, 1, 1])).sum_dim(0).squeeze_dim::<2>(0);
    bconv.proj = Linear { weight: param(out), bias: param(umsa.proj.bias.val()) };
}
