//! A compact model as the ONNX writer takes it.

use spvit_formats::onnx::{
    self, BlockDescription, MergeDescription, NetworkDescription, Positions, WindowDescription,
};
use spvit_layers::{
    Activation, BATCH_NORM_EPSILON, BlockConfig, BlockShape, Family, FfnKind, ModelConfig,
    NormKind, Operation, Pool, QkvBias, SwinConfig, VitConfig,
};
use spvit_search::Architecture;

/// A compact model's forward, as the ONNX writer takes it.
///
/// # Errors
/// A sentence that names what the writer does not know.
pub fn network(architecture: &Architecture) -> Result<NetworkDescription, String> {
    let config = &architecture.model;
    if let Some(part) = unknown(config) {
        return Err(format!("ONNX is not written of a model with {part} yet; write .safetensors"));
    }
    Ok(match &config.family {
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
    })
}

/// What a model has that the writer does not know.
fn unknown(config: &ModelConfig) -> Option<&'static str> {
    if config.as_vit().is_some_and(|vit| vit.pool == Pool::Map) {
        return Some("attention pooling");
    }
    if config.as_vit().is_some_and(|vit| vit.pool_prefix) {
        return Some("a mean over prefix tokens, too");
    }
    config.blocks().iter().find_map(|block| {
        let style = block.style;
        let parts = [
            (style.norm != NormKind::Layer, "RMSNorm"),
            (style.ffn != FfnKind::Plain, "gated FFNs (SwiGLU)"),
            (style.relative_position_bias, "a relative position bias over the whole sequence"),
            (style.rope.is_some(), "rotary position embedding"),
            (style.attn_norm, "a norm before attention's projection"),
            (style.mlp_norm, "a norm before the FFN's last map"),
            (style.activation == Activation::Tanh, "FFNs with tanh"),
        ];
        parts.into_iter().find(|(there, _)| *there).map(|(_, part)| part)
    })
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
        batch_norm_epsilon: BATCH_NORM_EPSILON,
        patch_bias: vit.patch_bias,
        patch_norm: false,
        class_token: vit.class_token,
        distilled: vit.distilled,
        registers: vit.registers,
        positions: match (vit.position_embedding, vit.embed_prefix) {
            (false, _) => Positions::None,
            (true, false) => Positions::Patches,
            (true, true) => Positions::All,
        },
        pre_norm: vit.pre_norm,
        norm: !vit.fc_norm,
        fc_norm: vit.fc_norm,
        pool: match vit.pool {
            Pool::Token => onnx::Pool::Token,
            // Attention pooling is refused above.
            Pool::Average | Pool::Map => onnx::Pool::Average,
        },
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
        hidden: block.hidden,
        map: shape.map,
        prefix_tokens: shape.prefix_tokens,
        window: shape
            .window
            .map(|window| WindowDescription { size: window.size, shift: window.shift }),
        epsilon: style.epsilon,
        activation: match style.activation {
            // tanh is refused above.
            Activation::Gelu | Activation::Tanh => onnx::Activation::Gelu,
            Activation::GeluTanh => onnx::Activation::GeluTanh,
            Activation::QuickGelu => onnx::Activation::QuickGelu,
            Activation::Relu => onnx::Activation::Relu,
            Activation::Silu => onnx::Activation::Silu,
        },
        qkv_bias: style.qkv_bias == QkvBias::All,
        qk_norm: style.qk_norm,
        layer_scale: style.layer_scale,
        shortcut_adds_norm: style.shortcut_adds_norm,
    }
}
