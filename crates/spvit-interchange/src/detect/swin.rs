//! Swin transformers, under timm's names.

use std::collections::BTreeSet;

use spvit_layers::{Activation, FfnKind, NormKind};

use super::{
    Biases, Described, Family, Feature, Pool, Shapes, Stage, Told, classes, patches, shape, square,
};

pub(super) fn detect(shapes: &Shapes, told: &Told) -> Result<Described, String> {
    let [dim, channels, patch_size] = patches(shapes)?;
    let any = |part: &str| shapes.keys().any(|name| name.contains(part));
    let mut features = BTreeSet::new();
    let v2 = ["logit_scale", "cpb_mlp.", "meta_mlp.", "continuous_position_bias_mlp."];
    if v2.iter().any(|part| any(part)) {
        features.insert(Feature::SwinV2);
        // Their names are their own: nothing else can be told of it.
        return Err(format!("this model has {}, which spvit does not read", Feature::SwinV2));
    }
    if any("absolute_pos_embed") || shapes.contains_key("pos_embed") {
        features.insert(Feature::SwinPositions);
    }
    if !shapes.contains_key("patch_embed.norm.weight") {
        return Err("expected a tensor patch_embed.norm.weight, as Swin has it".into());
    }

    let mut stages: Vec<Stage> = Vec::new();
    loop {
        let index = stages.len();
        let at = |block: usize, rest: &str| format!("layers.{index}.blocks.{block}.{rest}");
        let Some([width]) = shape(shapes, &at(0, "norm1.weight")) else { break };
        if width != dim << index {
            return Err(format!("stage {index} has {width} dimensions; expected {}", dim << index));
        }
        // A search result's blocks may lack the table, or most of the FFN.
        let blocks = (0..).take_while(|&b| shapes.contains_key(&at(b, "norm1.weight")));
        let hidden: Vec<usize> = blocks
            .map(|b| shape(shapes, &at(b, "mlp.fc1.weight")).map_or(0, |[hidden, _]| hidden))
            .collect();
        let table = (0..hidden.len())
            .find_map(|b| shape::<2>(shapes, &at(b, "attn.relative_position_bias_table")));
        let (window, heads) = match table {
            Some([rows, heads]) => {
                let side = square(rows).map(|[side, _]| side.div_ceil(2));
                (Some(side.ok_or("its windows are not square; spvit's are")?), Some(heads))
            }
            None => (None, None),
        };
        let known = told.heads.as_ref().and_then(|heads| heads.get(index).copied());
        // Where no attention is left they are of no consequence, and double from stage to stage.
        let gone = (0..hidden.len()).all(|b| {
            let part = |name: &str| shapes.contains_key(&at(b, &format!("attn.{name}.weight")));
            !["qkv", "qk", "q", "v", "bconv.0"].iter().any(|name| part(name))
        });
        let doubled = stages.last().filter(|_| gone).map(|stage: &Stage| 2 * stage.heads);
        // Convolutions have a distribution over heads, or a head's dimensions.
        let blocks = 0..hidden.len();
        let distribution =
            blocks.clone().find_map(|b| shape::<2>(shapes, &at(b, "attn.head_probs")));
        let convolution =
            blocks.clone().find_map(|b| shape::<4>(shapes, &at(b, "attn.bconv.0.weight")));
        let mixed = distribution
            .map(|[heads, _]| heads)
            .or(convolution.map(|[dimensions, ..]| width / dimensions.max(1)));
        let heads = heads.or(known).or(mixed).or(doubled).ok_or_else(|| {
            format!("cannot tell the attention heads of stage {index}; give a config.json")
        })?;
        stages.push(Stage { dim: width, heads, hidden, window });
    }
    let Some(last) = stages.last() else {
        return Err("expected a tensor layers.0.blocks.0.norm1.weight, as Swin has it".into());
    };

    let mut assumptions = Vec::new();
    let window = stages.iter().filter_map(|stage| stage.window).max();
    let window = window.or(told.windows.as_ref().and_then(|windows| windows.iter().max().copied()));
    let window = window.ok_or("cannot tell the windows' side; give a config.json")?;
    let image_size = told.image_size.unwrap_or_else(|| {
        // The last stage's map is one window in all published sizes.
        let factor = u32::try_from(stages.len() - 1).ok().and_then(|n| 1usize.checked_shl(n));
        let side = patch_size.saturating_mul(window);
        let side = side.saturating_mul(factor.unwrap_or(usize::MAX));
        assumptions.push(format!("images of {side}×{side}"));
        [side; 2]
    });
    let maps = |stage: usize| {
        let halve = |side: usize| (0..stage).fold(side, |side, _| side.div_ceil(2));
        image_size.map(|side| halve(side / patch_size))
    };
    let clipped = |(index, stage): (usize, &Stage)| {
        let least = maps(index).into_iter().min().unwrap_or(0);
        stage.window.is_none_or(|own| own == window.min(least) || own == window)
    };
    if !stages.iter().enumerate().all(clipped) {
        features.insert(Feature::SwinWindows);
    }
    for (told, what) in [
        (told.activation.is_some(), "GELU (exact)"),
        (told.epsilon.is_some(), "ε 1e-5"),
        (told.pool.is_some(), "average pooling"),
    ] {
        if !told {
            assumptions.push(what.to_string());
        }
    }
    let activation = match &told.activation {
        None => Activation::Gelu,
        Some(Ok(activation)) => *activation,
        Some(Err(_)) => {
            features.insert(Feature::OtherActivation);
            Activation::Gelu
        }
    };
    match told.pool {
        Some(Pool::Average) | None => {}
        Some(_) => {
            features.insert(Feature::MaxPool);
        }
    }
    // The published code has Q and K in one, and none of them where attention is gone.
    let qkv = [".attn.qkv.bias", ".attn.q.bias", ".attn.qk.bias"];
    let biased = shapes.keys().any(|name| qkv.iter().any(|end| name.ends_with(end)));
    Ok(Described {
        family: Family::Swin,
        image_size,
        patch_size,
        channels,
        classes: classes(shapes, "head.fc", last.dim)?,
        stages,
        class_token: false,
        distilled: false,
        registers: 0,
        positions: false,
        prefix_rows: 0,
        pool: told.pool.unwrap_or(Pool::Average),
        attention_pool: None,
        norm: shapes.contains_key("norm.weight"),
        fc_norm: false,
        patch_norm: true,
        pre_norm: false,
        epsilon: told.epsilon.unwrap_or(1e-5),
        norm_kind: NormKind::Layer,
        ffn: FfnKind::Plain,
        activation,
        layer_scale: false,
        qkv_bias: if biased { Biases::All } else { Biases::None },
        qk_norm: false,
        relative_bias: false,
        attn_norm: false,
        mlp_norm: false,
        patch_bias: shapes.contains_key("patch_embed.proj.bias"),
        rope: None,
        features,
        input: told.input.clone(),
        assumptions,
    })
}
