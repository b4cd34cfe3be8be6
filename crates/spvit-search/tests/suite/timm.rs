//! Logits of timm's own models, with weights made from their names: every style that the published
//! code does not have, in timm 1.0's definitions.

use burn::tensor::{Tensor, TensorData};
use spvit_core::FusedOps;
use spvit_layers::{
    Activation, BlockStyle, FfnKind, Init, Mode, ModelConfig, NormKind, Pool, QkvBias, Rope,
    RopeKind, Vit, VitConfig, state,
};

use crate::support::{Errors, Scale, device, host};

on_all_backends!(logits_are_timms);

/// Values on (-1, 1) that vary with a tensor's name.
fn noise(name: &str, count: usize) -> Vec<f64> {
    let letters = name.bytes().enumerate();
    let seed: usize = letters.map(|(i, letter)| (i + 1) * usize::from(letter)).sum();
    let value = |j: usize| {
        let x = (seed as f64 + 12.9898 * j as f64).sin() * 43758.5453;
        2.0 * (x - x.floor()) - 1.0
    };
    (0..count).map(value).collect()
}

/// The values of a tensor of a model.
fn weight(name: &str, shape: Vec<usize>) -> TensorData {
    let size = match shape.len() {
        _ if ["token", "pos_embed", "latent", "table"].iter().any(|end| name.ends_with(end)) => 0.5,
        1 => 0.3,
        _ => 1.7 / (shape[1..].iter().product::<usize>() as f64).sqrt(),
    };
    let centre = f64::from(u8::from(shape.len() == 1 && name.ends_with("weight")));
    let values = noise(name, shape.iter().product());
    let values: Vec<f32> = values.into_iter().map(|x| (centre + size * x) as f32).collect();
    TensorData::new(values, shape)
}

struct Case {
    name: &'static str,
    vit: VitConfig,
    /// Whether K has no bias, as in EVA and BEiT.
    no_k_bias: bool,
    logits: [f32; 10],
}

fn cases() -> Vec<Case> {
    let default = BlockStyle::default();
    let deit =
        VitConfig { image_size: [24, 32], hidden: 20, ..VitConfig::deit([24, 8, 2, 5, 24, 2, 3]) };
    let average =
        VitConfig { pool: Pool::Average, final_norm: false, fc_norm: true, ..deit.clone() };
    let eva = Rope { reference: Some([2, 2]), ..Rope::new(RopeKind::Eva) };
    let perception = Rope { reference: Some([2, 5]), offset: 1.0, columns_first: true, ..eva };
    let silu = BlockStyle { activation: Activation::Silu, ..default };
    let case = |name, vit, no_k_bias, logits| Case { name, vit, no_k_bias, logits };
    vec![
        case(
            "eva02",
            VitConfig {
                style: BlockStyle {
                    ffn: FfnKind::Split,
                    rope: Some(eva),
                    attn_norm: true,
                    mlp_norm: true,
                    ..silu
                },
                ..average.clone()
            },
            true,
            [
                -1.783413, -0.8183123, -0.6567397, 0.4303446, -0.1907563, -0.3936228, 1.046811,
                0.612441, 1.459641, -1.60844,
            ],
        ),
        case(
            "eva02, packed",
            VitConfig {
                style: BlockStyle { ffn: FfnKind::GateFirst, rope: Some(eva), ..silu },
                ..deit.clone()
            },
            true,
            [
                -0.5043005,
                0.8509463,
                1.572418,
                -0.2490941,
                -0.4074379,
                -0.05975059,
                1.364846,
                0.3080805,
                0.5661649,
                0.4069251,
            ],
        ),
        case(
            "dinov3",
            VitConfig {
                final_norm: true,
                fc_norm: false,
                position_embedding: false,
                registers: 2,
                style: BlockStyle {
                    epsilon: 1e-5,
                    qkv_bias: QkvBias::None,
                    layer_scale: true,
                    rope: Some(Rope::new(RopeKind::DinoV3)),
                    ..default
                },
                ..average.clone()
            },
            false,
            [
                -0.2602441,
                -0.2932262,
                0.492805,
                -0.1842719,
                -0.0452733,
                -0.1412618,
                -0.01401642,
                0.804367,
                -0.01096714,
                0.2300489,
            ],
        ),
        case(
            "perception encoder",
            VitConfig {
                pool: Pool::Map,
                pool_prefix: true,
                pool_heads: Some(4),
                pre_norm: true,
                patch_bias: false,
                style: BlockStyle { epsilon: 1e-5, rope: Some(perception), ..default },
                ..deit.clone()
            },
            false,
            [
                0.5195456, -0.1457347, 0.24842, -0.2925791, 0.2444685, 0.3909703, -0.583534,
                -0.8071792, 0.2886029, -0.4357486,
            ],
        ),
        case(
            "clip, classified without its last norm",
            VitConfig { fc_norm: false, pre_norm: true, patch_bias: false, ..average.clone() },
            false,
            [
                0.04258434,
                -0.6022147,
                -0.8143525,
                -0.0762651,
                -0.06260952,
                0.2550486,
                1.027163,
                0.6012365,
                0.03366663,
                -1.609597,
            ],
        ),
        case(
            "aimv2",
            VitConfig {
                patch_norm: true,
                style: BlockStyle { norm: NormKind::Rms, epsilon: 1e-5, ..default },
                ..deit.clone()
            },
            false,
            [
                -0.6798757, -1.689887, -1.385646, -0.1233743, -0.213229, -1.051795, -0.3087748,
                0.7730684, -0.1597769, -1.185679,
            ],
        ),
        case(
            "dinov2 with registers",
            VitConfig { pool: Pool::TokenAverage, registers: 2, ..deit.clone() },
            false,
            [
                -1.306971, -1.691808, 0.460335, -0.5749444, -0.9102192, -0.2187835, 0.08917648,
                0.3635753, 0.07972342, -0.5735188,
            ],
        ),
        case(
            "beit",
            VitConfig {
                position_embedding: false,
                style: BlockStyle { relative_position_bias: true, layer_scale: true, ..default },
                ..average.clone()
            },
            true,
            [
                -0.4444258, -0.8337694, 1.108456, -0.4692864, 0.1444069, -0.2751861, -0.5965951,
                1.788054, -0.1507285, 0.7233353,
            ],
        ),
        case(
            "siglip",
            VitConfig { pool: Pool::Map, class_token: false, ..deit.clone() },
            false,
            [
                1.564939, 0.3209291, 1.36978, -0.6878179, 0.3766585, 1.085024, -0.4179365,
                -0.2091992, 0.02278867, -0.2594709,
            ],
        ),
        case(
            "norms",
            VitConfig {
                registers: 1,
                style: BlockStyle {
                    norm: NormKind::Rms,
                    qkv_bias: QkvBias::All,
                    qk_norm: true,
                    attn_norm: true,
                    mlp_norm: true,
                    ..default
                },
                ..deit.clone()
            },
            false,
            [
                -0.9947028,
                -2.041279,
                -1.774081,
                -0.03793901,
                1.17731,
                -1.074705,
                -0.0313798,
                0.9507464,
                -0.4177639,
                -0.8849871,
            ],
        ),
        case(
            "glu",
            VitConfig { style: BlockStyle { ffn: FfnKind::GateLast, ..silu }, ..deit },
            false,
            [
                -2.332166, -0.1209189, -0.8300262, 0.7281309, 0.5696685, -1.202399, 1.767706,
                0.3441849, -0.1295337, -0.3543155,
            ],
        ),
    ]
}

fn logits_are_timms<B: FusedOps>() {
    let mut errors = Errors::new::<B>("timm");
    let device = device::<B>();
    let pixels = noise("images", 2 * 2 * 24 * 32).into_iter().map(|x| (1.5 * x) as f32);
    let pixels = TensorData::new(pixels.collect::<Vec<f32>>(), [2, 2, 24, 32]);
    for Case { name, vit, no_k_bias, logits } in cases() {
        let config = ModelConfig::from(vit);
        config.validate().unwrap();
        let fresh = Vit::<B>::new(&config, &config.dense_blocks(), &mut Init::new(0, &device));
        let mut weights = state::export(&fresh);
        for (own, data) in &mut weights {
            *data = weight(own, data.shape.to_vec());
            if no_k_bias && own.ends_with("qkv.bias") {
                let mut values: Vec<f32> = data.iter::<f32>().collect();
                values[24..48].fill(0.0);
                *data = TensorData::new(values, [72]);
            }
        }
        let model = state::import(fresh, &weights).unwrap();
        let images = Tensor::from_data(pixels.clone(), &device);
        let found = host(model.forward(images, &Mode::Evaluate));
        errors.check("logits", name, &found, &logits, (1e-5, Scale::AtLeastOne));
    }
}
