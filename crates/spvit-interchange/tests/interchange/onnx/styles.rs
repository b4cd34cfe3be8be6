//! The ViTs of today: other norms, gates, places, pools, in dense and compact form.

use spvit_layers::{
    Activation, BlockStyle, FfnKind, NormKind, Pool, QkvBias, Rope, RopeKind, VitConfig,
};

use super::vit::{average, deit, styled};
use super::{check_compact, check_dense};

fn both_forms(cases: impl IntoIterator<Item = (&'static str, VitConfig)>) {
    for (what, vit) in cases {
        check_dense(what, vit.clone());
        check_compact(what, vit);
    }
}

#[test]
fn norms() {
    let style = BlockStyle { epsilon: 1e-2, ..BlockStyle::default() };
    let rms = BlockStyle { norm: NormKind::Rms, ..style };
    both_forms([
        ("RMSNorm", styled(rms)),
        (
            "RMSNorm everywhere",
            VitConfig { pre_norm: true, ..styled(BlockStyle { qk_norm: true, ..rms }) },
        ),
        ("RMSNorm after pooling", VitConfig { fc_norm: true, style: rms, ..average() }),
        ("a norm before the projection", styled(BlockStyle { attn_norm: true, ..style })),
        ("a norm before fc2", styled(BlockStyle { mlp_norm: true, ..style })),
        (
            "all of them, RMS, with LayerScale",
            styled(BlockStyle {
                attn_norm: true,
                mlp_norm: true,
                qk_norm: true,
                layer_scale: true,
                ..rms
            }),
        ),
    ]);
}

#[test]
fn gates() {
    for activation in [Activation::Silu, Activation::Gelu] {
        let style = BlockStyle { activation, ..BlockStyle::default() };
        both_forms([
            ("gate first", styled(BlockStyle { ffn: FfnKind::GateFirst, ..style })),
            ("gate last", styled(BlockStyle { ffn: FfnKind::GateLast, ..style })),
            ("gate apart", styled(BlockStyle { ffn: FfnKind::Split, ..style })),
            (
                "gate apart, with a norm",
                styled(BlockStyle { ffn: FfnKind::Split, mlp_norm: true, ..style }),
            ),
        ]);
    }
}

#[test]
fn rotary_positions() {
    let turned = |rope: Rope| BlockStyle { rope: Some(rope), ..BlockStyle::default() };
    let [eva, dino] = [RopeKind::Eva, RopeKind::DinoV3].map(Rope::new);
    // Heads of 8: two frequencies for each axis.
    let eight = |style: BlockStyle| VitConfig { heads: 2, ..styled(style) };
    let reference = Some([2, 5]);
    both_forms([
        ("EVA-02's", eight(turned(eva))),
        ("one frequency", styled(turned(eva))),
        ("of another map", eight(turned(Rope { reference, ..eva }))),
        (
            "the perception encoder's",
            eight(turned(Rope { reference, offset: 1.0, columns_first: true, ..eva })),
        ),
        ("EVA-02's, in halves", eight(turned(Rope { half: true, ..eva }))),
        ("DINOv3's", VitConfig { registers: 2, ..eight(turned(dino)) }),
        ("DINOv3's, neighbours", eight(turned(Rope { half: false, temperature: 10.0, ..dino }))),
        (
            "no prefix, QK norm, no bias",
            VitConfig {
                class_token: false,
                pool: Pool::Average,
                ..eight(BlockStyle { qk_norm: true, qkv_bias: QkvBias::None, ..turned(eva) })
            },
        ),
    ]);
}

#[test]
fn relative_positions() {
    let style = BlockStyle { relative_position_bias: true, ..BlockStyle::default() };
    both_forms([
        ("BEiT's", VitConfig { position_embedding: false, ..styled(style) }),
        (
            "with LayerScale and fc_norm",
            VitConfig {
                fc_norm: true,
                style: BlockStyle { layer_scale: true, ..style },
                ..average()
            },
        ),
    ]);
}

#[test]
fn pools() {
    let map = VitConfig { pool: Pool::Map, ..deit() };
    let rms = BlockStyle { norm: NormKind::Rms, epsilon: 1e-2, ..BlockStyle::default() };
    let tanh = BlockStyle { activation: Activation::GeluTanh, ..BlockStyle::default() };
    both_forms([
        ("SigLIP's", VitConfig { class_token: false, style: tanh, ..map.clone() }),
        ("beside a class token", map.clone()),
        ("with prefix tokens", VitConfig { pool_prefix: true, registers: 2, ..map.clone() }),
        (
            "other heads and hidden dimensions",
            VitConfig { pool_heads: Some(2), pool_hidden: Some(7), ..map.clone() },
        ),
        ("QK norm", VitConfig { pool_qk_norm: true, ..map.clone() }),
        ("RMSNorm", VitConfig { pool_qk_norm: true, style: rms, ..map.clone() }),
        ("fc_norm", VitConfig { fc_norm: true, ..map }),
        ("mean of all tokens", VitConfig { pool_prefix: true, registers: 1, ..average() }),
        (
            "mean of all tokens, fc_norm",
            VitConfig { pool_prefix: true, fc_norm: true, ..average() },
        ),
    ]);
}
