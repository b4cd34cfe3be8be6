//! ViTs: what is around the blocks, what is in them, and what became of them.

use spvit_layers::{Activation, BlockStyle, ModelConfig, Operation, Pool, QkvBias, VitConfig};

use super::{block, check, check_dense, check_gone};

/// An oblong map of 2×3 patches.
pub(super) fn deit() -> VitConfig {
    VitConfig { image_size: [8, 12], hidden: 24, ..VitConfig::deit([8, 4, 3, 5, 16, 2, 4]) }
}

pub(super) fn average() -> VitConfig {
    VitConfig { pool: Pool::Average, ..deit() }
}

pub(super) fn styled(style: BlockStyle) -> VitConfig {
    VitConfig { style, ..deit() }
}

#[test]
fn a_deit() {
    check_dense("DeiT", deit());
}

#[test]
fn what_is_around_the_blocks() {
    let distilled = || VitConfig { distilled: true, ..deit() };
    for (what, vit) in [
        ("registers", VitConfig { registers: 3, ..deit() }),
        ("distilled", distilled()),
        ("distilled, with registers", VitConfig { registers: 2, ..distilled() }),
        ("distilled, fc_norm", VitConfig { final_norm: false, fc_norm: true, ..distilled() }),
        ("no positions", VitConfig { position_embedding: false, ..deit() }),
        ("positions of patches", VitConfig { embed_prefix: false, registers: 1, ..deit() }),
        ("no patch bias", VitConfig { patch_bias: false, ..deit() }),
        ("pre-norm", VitConfig { pre_norm: true, ..deit() }),
        ("fc_norm", VitConfig { final_norm: false, fc_norm: true, ..deit() }),
        ("average", average()),
        ("average, distilled", VitConfig { distilled: true, ..average() }),
        ("average, fc_norm", VitConfig { final_norm: false, fc_norm: true, ..average() }),
        ("class token and average", VitConfig { pool: Pool::TokenAverage, registers: 2, ..deit() }),
        ("norms before and after", VitConfig { fc_norm: true, ..average() }),
        ("no last norm", VitConfig { final_norm: false, ..average() }),
        ("norm of patches", VitConfig { patch_norm: true, ..deit() }),
        ("no class token", VitConfig { class_token: false, ..average() }),
        ("registers alone", VitConfig { class_token: false, registers: 2, ..average() }),
        (
            "nothing before the patches",
            VitConfig { class_token: false, position_embedding: false, ..average() },
        ),
        (
            "registers alone, positions of patches",
            VitConfig { class_token: false, registers: 2, embed_prefix: false, ..average() },
        ),
    ] {
        check_dense(what, vit);
    }
}

#[test]
fn what_is_in_the_blocks() {
    let style = BlockStyle::default();
    for (what, style) in [
        ("LayerScale", BlockStyle { layer_scale: true, ..style }),
        ("QK norm", BlockStyle { qk_norm: true, epsilon: 1e-2, ..style }),
        ("no qkv bias", BlockStyle { qkv_bias: QkvBias::None, ..style }),
        ("ε", BlockStyle { epsilon: 1e-1, ..style }),
    ] {
        check_dense(what, styled(style));
    }
    for activation in [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Relu,
        Activation::Silu,
        Activation::Tanh,
    ] {
        check_dense(&format!("{activation:?}"), styled(BlockStyle { activation, ..style }));
    }
}

#[test]
fn every_operation_and_empty_ffns() {
    use Operation::{BConv, Msa, Shortcut};
    let blocks = [
        block(Shortcut, 7),
        block(BConv(1), 0),
        block(BConv(3), 5),
        block(Msa, 0),
        block(Shortcut, 0),
        block(BConv(5), 24),
        block(Msa, 1),
    ];
    for (what, vit) in [
        ("a class token", deit()),
        ("registers", VitConfig { registers: 2, ..deit() }),
        ("no prefix", VitConfig { class_token: false, ..average() }),
        ("LayerScale", styled(BlockStyle { layer_scale: true, ..BlockStyle::default() })),
        ("norms added", styled(BlockStyle { shortcut_adds_norm: true, ..BlockStyle::default() })),
        (
            "norms added and scaled",
            styled(BlockStyle {
                shortcut_adds_norm: true,
                layer_scale: true,
                ..BlockStyle::default()
            }),
        ),
    ] {
        let mut config = ModelConfig::from(VitConfig { depth: blocks.len(), ..vit });
        config.space.kernels = vec![1, 3, 5];
        check(what, config, &blocks);
    }
}

#[test]
fn blocks_that_add_nothing_disappear() {
    use Operation::{Msa, Shortcut};
    let blocks = [block(Shortcut, 0), block(Msa, 9), block(Shortcut, 0), block(Shortcut, 3)];
    for layer_scale in [false, true] {
        let style = BlockStyle { layer_scale, ..BlockStyle::default() };
        check_gone(VitConfig { depth: 4, ..styled(style) }, &blocks, &["blocks.0", "blocks.2"]);
    }
}
