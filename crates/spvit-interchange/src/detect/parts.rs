//! What parts a vision transformer has, under timm's names.

use spvit_layers::{Activation, FfnKind, NormKind};

use super::{Described, Feature, Origin, Pool, Rope, Shapes, shape, vit::Vit};

/// Tensors that follow from a rotary embedding's kind and the map.
const ROPE_BUFFERS: [&str; 6] = [
    "rope.bands",
    "rope.freqs_cos",
    "rope.freqs_sin",
    "rope.periods",
    "rope.pos_embed",
    "rope.pos_embed_cached",
];

/// Whether a tensor follows from the rotary embedding that is told.
pub(crate) fn follows_from_rope(described: &Described, name: &str) -> bool {
    described.rope.is_some() && ROPE_BUFFERS.contains(&name)
}

/// A learned query's attention to the last block's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionPool {
    /// Its heads.
    pub heads: usize,
    /// Hidden dimensions of its FFN.
    pub hidden: usize,
    /// Whether q and K are normalised head by head.
    pub qk_norm: bool,
}

impl Vit<'_> {
    /// What names alone tell.
    pub fn look(&mut self) {
        let any = |part: &str| self.shapes.keys().any(|name| name.contains(part));
        let inside = |rest: &str| self.in_a_block(rest);
        let halves = [("ls1.gamma", "ls2.gamma"), ("ls2.gamma", "ls1.gamma")];
        let found = [
            (Feature::ConvolutionalStem, any("patch_embed.backbone.")),
            (Feature::RelativeBias, inside("attn.relative_position_bias_table")),
            (Feature::SharedRelativeBias, self.has("rel_pos_bias.relative_position_bias_table")),
            (Feature::RelativeNetwork, any("rel_pos.mlp.")),
            (Feature::SwiGlu, self.ffn() != FfnKind::Plain),
            (Feature::SubNorm, ["attn.norm.", "mlp.norm."].iter().any(|part| any(part))),
            (Feature::HalfLayerScale, halves.iter().any(|(a, b)| inside(a) && !inside(b))),
            (Feature::PostNorm, self.told.post_norm == Some(true)),
            (Feature::Differential, any(".lambda_q1")),
            (Feature::GatedAttention, inside("attn.gate.weight")),
        ];
        let found = found.into_iter().filter(|(_, found)| *found).map(|(feature, _)| feature);
        self.features.extend(found.collect::<Vec<_>>());
    }

    /// Blocks of another form, whose tensors tell nothing more here.
    pub fn other_blocks(&self) -> Option<String> {
        let forms = [
            (Feature::Parallel, ["attns.0.norm.weight", "in_proj.weight"]),
            (Feature::ConvolutionalStem, ["conv1.weight", "conv.weight"]),
        ];
        let form =
            forms.iter().find(|(_, names)| names.iter().any(|name| self.in_a_block(name)))?;
        Some(format!("this model has {}, which spvit does not read", form.0))
    }

    /// The kind of all norms; those of two kinds are a feature.
    pub fn norm_kind(&mut self) -> NormKind {
        const NORMS: [&str; 10] = [
            "norm1",
            "norm2",
            "norm_pre",
            "norm",
            "fc_norm",
            "q_norm",
            "k_norm",
            "attn_pool.norm",
            "attn.norm",
            "mlp.norm",
        ];
        let norms = self.shapes.keys().filter_map(|name| {
            let norm = name.strip_suffix(".weight")?;
            let own = NORMS.iter().any(|own| norm == *own || norm.ends_with(&format!(".{own}")));
            (own && !norm.starts_with("patch_embed.backbone.")).then_some(norm)
        });
        let (shifted, bare): (Vec<_>, Vec<_>) =
            norms.partition(|norm| self.has(&format!("{norm}.bias")));
        match (shifted.is_empty(), bare.is_empty()) {
            (_, true) => NormKind::Layer,
            (true, false) => {
                self.features.insert(Feature::RmsNorm);
                // Of the architectures that have a name, those without a shift are all of this kind.
                if self.told.post_norm.is_none() {
                    self.assumptions.push("RMSNorm, as norms have no shift".into());
                }
                NormKind::Rms
            }
            (false, false) => {
                self.features.insert(Feature::MixedNorms);
                NormKind::Layer
            }
        }
    }

    /// The FFN's form: two maps of one width, or one of twice the width.
    pub fn ffn(&self) -> FfnKind {
        let [into, out] = ["mlp.fc1.weight", "mlp.fc2.weight"].map(|name| self.first::<2>(name));
        let twice = into.zip(out).is_some_and(|([rows, _], [_, columns])| rows == 2 * columns);
        match self.in_a_block("mlp.fc1_g.weight") {
            true => FfnKind::Split,
            // timm's `SwiGLUPacked` and DINOv2's `w12` alike.
            false if twice => FfnKind::GateFirst,
            false => FfnKind::Plain,
        }
    }

    pub fn activation(&mut self, origin: Origin) -> Activation {
        let ffn = self.ffn();
        // transformers' gated FFNs have this one, whatever the configuration says.
        if ffn != FfnKind::Plain && origin == Origin::HuggingFace {
            return Activation::Silu;
        }
        match &self.told.activation {
            Some(Ok(activation)) => *activation,
            Some(Err(_)) => {
                self.features.insert(Feature::OtherActivation);
                Activation::Gelu
            }
            None if ffn != FfnKind::Plain => {
                let place = if ffn == FfnKind::GateFirst { ", the gate first" } else { "" };
                self.assumptions.push(format!("SiLU{place}"));
                Activation::Silu
            }
            None => {
                self.assumptions.push("GELU (exact)".into());
                Activation::Gelu
            }
        }
    }

    /// The rotary embedding that is told.
    pub fn rope(&mut self, origin: Origin) -> Option<Rope> {
        let rope = self.told.rope.clone().flatten();
        let tensors: Vec<&str> = self
            .shapes
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with("rope."))
            .collect();
        match &rope {
            Some(rope) => {
                let known = ["cat", "dinov3"].contains(&rope.kind.as_str());
                let own = tensors.iter().any(|name| !ROPE_BUFFERS.contains(name));
                self.features.insert(match known && !own {
                    true => Feature::Rope,
                    false => Feature::OtherRope,
                });
            }
            None if !tensors.is_empty() => {
                self.features.insert(Feature::UntoldRope);
            }
            None if self.told.rope.is_none() && origin == Origin::Timm => {
                self.assumptions.push("no RoPE".into());
            }
            None => {}
        }
        rope
    }

    pub fn pool(&mut self, class_token: bool) -> Pool {
        let attention = self.shapes.keys().any(|name| name.starts_with("attn_pool."));
        let pool = match self.told.pool {
            Some(pool) => pool,
            None if attention => {
                self.assumptions.push("attention pooling without prefix tokens".into());
                Pool::Attention
            }
            None => {
                let average = !class_token || self.has("fc_norm.weight");
                let pool = if average { Pool::Average } else { Pool::Token };
                self.assumptions.push(match average {
                    true => "pooling by average".into(),
                    false => "pooling by class token".into(),
                });
                pool
            }
        };
        let feature = match pool {
            Pool::Token | Pool::Average | Pool::TokenAndAverage => None,
            Pool::AverageWithPrefix => Some(Feature::PrefixPool),
            Pool::Max | Pool::AverageMax => Some(Feature::MaxPool),
            Pool::Attention | Pool::AttentionWithPrefix => Some(Feature::AttentionPool),
            Pool::Residual => Some(Feature::OtherAttentionPool),
        };
        self.features.extend(feature);
        pool
    }

    /// The attention pool, where the classifier has one; another form is a feature.
    pub fn attention_pool(&mut self, pool: Pool, heads: usize) -> Option<AttentionPool> {
        if ![Pool::Attention, Pool::AttentionWithPrefix].contains(&pool) {
            return None;
        }
        let (shapes, dim) = (self.shapes, self.dim);
        let of = |name: &str| shapes.get(&format!("attn_pool.{name}")).map(Vec::as_slice);
        let hidden = shape::<2>(shapes, "attn_pool.mlp.fc1.weight").map(|[hidden, _]| hidden);
        let maps = [
            ("latent", vec![1, 1, dim]),
            ("q.weight", vec![dim, dim]),
            ("q.bias", vec![dim]),
            ("kv.weight", vec![2 * dim, dim]),
            ("kv.bias", vec![2 * dim]),
            ("proj.weight", vec![dim, dim]),
            ("norm.weight", vec![dim]),
            ("mlp.fc2.weight", vec![dim, hidden.unwrap_or(0)]),
        ];
        let usual = maps.iter().all(|(name, shape)| of(name) == Some(shape));
        // timm's pool has a GELU of its own where the blocks' FFNs are gated.
        if !usual || of("pos_embed").is_some() || self.ffn() != FfnKind::Plain {
            self.features.insert(Feature::OtherAttentionPool);
        }
        let normed = shape::<1>(shapes, "attn_pool.q_norm.weight").map(|[width]| width);
        let told = self.told.pool_heads.or(normed.map(|width| dim / width));
        if told.is_none() && self.told.post_norm.is_none() {
            self.assumptions.push(format!("{heads} heads of the attention pool"));
        }
        let heads = told.unwrap_or(heads);
        Some(AttentionPool { heads, hidden: hidden.unwrap_or(0), qk_norm: normed.is_some() })
    }
}

/// Number of blocks.
pub(super) fn blocks(shapes: &Shapes) -> usize {
    (0..)
        .take_while(|index| {
            let start = format!("blocks.{index}.");
            shapes.range(start.clone()..).next().is_some_and(|(name, _)| name.starts_with(&start))
        })
        .count()
}
