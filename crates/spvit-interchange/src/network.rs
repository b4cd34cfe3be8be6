//! A compact model as the ONNX writer takes it.

use spvit_formats::onnx::{
    self, BlockDescription, MergeDescription, NetworkDescription, Places, Positions,
    RopeDescription, WindowDescription,
};
use spvit_layers::{
    Activation, BATCH_NORM_EPSILON, BlockConfig, BlockShape, Family, FfnKind, ModelConfig,
    NormKind, Operation, Pool, QkvBias, Rope, RopeKind, SwinConfig, VitConfig,
};
use spvit_search::Architecture;

/// A compact model's forward, as the ONNX writer takes it.
pub fn network(architecture: &Architecture) -> NetworkDescription {
    let config = &architecture.model;
    match &config.family {
        Family::Vit(vit) => NetworkDescription {
            blocks: blocks(architecture, |block| format!("blocks.{block}")),
            ..of_vit(config, vit)
        },
        Family::Swin(swin) => {
            let places = swin.places();
            let name = |block: usize| {
                let (stage, place) = places.get(block).copied().unwrap_or_default();
                format!("layers.{stage}.blocks.{place}")
            };
            NetworkDescription { blocks: blocks(architecture, name), ..of_swin(config, swin) }
        }
    }
}

/// What is around a ViT's blocks.
fn of_vit(config: &ModelConfig, vit: &VitConfig) -> NetworkDescription {
    NetworkDescription {
        image_size: vit.image_size,
        patch_size: vit.patch_size,
        channels: vit.channels,
        classes: vit.classes,
        dim: vit.dim,
        epsilon: config.layer_norm_epsilon(),
        norm_kind: norm_kind(config.style().norm),
        batch_norm_epsilon: BATCH_NORM_EPSILON,
        patch_bias: vit.patch_bias,
        patch_norm: vit.patch_norm,
        class_token: vit.class_token,
        distilled: vit.distilled,
        registers: vit.registers,
        positions: match (vit.position_embedding, vit.embed_prefix) {
            (false, _) => Positions::None,
            (true, false) => Positions::Patches,
            (true, true) => Positions::All,
        },
        pre_norm: vit.pre_norm,
        norm: vit.final_norm,
        fc_norm: vit.fc_norm,
        pool: match vit.pool {
            Pool::Token => onnx::Pool::Token,
            Pool::Average => onnx::Pool::Average,
            Pool::TokenAverage => onnx::Pool::TokenAverage,
            Pool::Map => onnx::Pool::Attention {
                heads: vit.pool_heads(),
                hidden: vit.pool_hidden(),
                activation: activation(vit.style.activation),
                qk_norm: vit.pool_qk_norm,
            },
        },
        pool_prefix: vit.pool_prefix,
        head: "head".into(),
        blocks: Vec::new(),
        merges: Vec::new(),
    }
}

/// What is around a Swin's blocks.
fn of_swin(config: &ModelConfig, swin: &SwinConfig) -> NetworkDescription {
    let merge = |(stage, after): (usize, usize)| {
        let name = format!("layers.{}.downsample", stage + 1);
        MergeDescription { name, after }
    };
    NetworkDescription {
        image_size: swin.image_size,
        patch_size: swin.patch_size,
        channels: swin.channels,
        classes: swin.classes,
        dim: swin.dim,
        epsilon: config.layer_norm_epsilon(),
        norm_kind: norm_kind(config.style().norm),
        batch_norm_epsilon: BATCH_NORM_EPSILON,
        patch_bias: true,
        patch_norm: true,
        class_token: false,
        distilled: false,
        registers: 0,
        positions: Positions::None,
        pre_norm: false,
        norm: true,
        fc_norm: false,
        pool: onnx::Pool::Average,
        pool_prefix: false,
        head: "head.fc".into(),
        blocks: Vec::new(),
        merges: config.merges().into_iter().enumerate().map(merge).collect(),
    }
}

fn blocks(architecture: &Architecture, name: impl Fn(usize) -> String) -> Vec<BlockDescription> {
    let shapes = architecture.model.blocks();
    let pairs = shapes.iter().zip(architecture.block_configs()).enumerate();
    pairs.map(|(index, (shape, block))| describe(name(index), shape, &block)).collect()
}

fn describe(name: String, shape: &BlockShape, block: &BlockConfig) -> BlockDescription {
    let style = shape.style;
    BlockDescription {
        name,
        operation: match block.operation {
            Operation::Shortcut => onnx::Operation::Shortcut,
            Operation::BConv(kernel) => onnx::Operation::BConv { kernel },
            Operation::Msa => onnx::Operation::Msa,
        },
        dim: shape.dim,
        heads: shape.heads,
        kept_heads: block.heads.unwrap_or(shape.heads),
        hidden: block.hidden,
        map: shape.map,
        prefix_tokens: shape.prefix_tokens,
        window: shape
            .window
            .map(|window| WindowDescription { size: window.size, shift: window.shift }),
        epsilon: style.epsilon,
        norm_kind: norm_kind(style.norm),
        ffn: match style.ffn {
            FfnKind::Plain => onnx::Ffn::Plain,
            FfnKind::GateFirst => onnx::Ffn::GateFirst,
            FfnKind::GateLast => onnx::Ffn::GateLast,
            FfnKind::Split => onnx::Ffn::Split,
        },
        activation: activation(style.activation),
        qkv_bias: style.qkv_bias == QkvBias::All,
        qk_norm: style.qk_norm,
        // Windows always have one, of their own.
        relative_positions: style.relative_position_bias && shape.window.is_none(),
        rope: style.rope.as_ref().map(rope),
        attn_norm: style.attn_norm,
        mlp_norm: style.mlp_norm,
        layer_scale: style.layer_scale,
        shortcut_adds_norm: style.shortcut_adds_norm,
    }
}

fn norm_kind(kind: NormKind) -> onnx::NormKind {
    match kind {
        NormKind::Layer => onnx::NormKind::Layer,
        NormKind::Rms => onnx::NormKind::Rms,
    }
}

fn activation(activation: Activation) -> onnx::Activation {
    match activation {
        Activation::Gelu => onnx::Activation::Gelu,
        Activation::GeluTanh => onnx::Activation::GeluTanh,
        Activation::QuickGelu => onnx::Activation::QuickGelu,
        Activation::Relu => onnx::Activation::Relu,
        Activation::Silu => onnx::Activation::Silu,
        Activation::Tanh => onnx::Activation::Tanh,
    }
}

fn rope(rope: &Rope) -> RopeDescription {
    let Rope { kind, temperature, offset, reference, columns_first, half } = *rope;
    let places = match (kind, reference) {
        (RopeKind::Eva, None) => Places::Counted,
        (RopeKind::Eva, Some(map)) => Places::Scaled(map),
        (RopeKind::DinoV3, _) => Places::Centred,
    };
    RopeDescription { places, temperature, offset, columns_first, half }
}
