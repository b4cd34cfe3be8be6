//! What is known beside the tensors.

use std::str::FromStr;

use spvit_layers::{Activation, RopeKind};

use crate::input::Input;

/// What the classifier looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The class token.
    Token,
    /// The mean of the patches' tokens.
    Average,
    /// The mean of all tokens.
    AverageWithPrefix,
    /// The largest value of the patches' tokens.
    Max,
    /// The mean of these two.
    AverageMax,
    /// Attention of a learned query to the patches' tokens.
    Attention,
    /// Attention of a learned query to all tokens.
    AttentionWithPrefix,
    /// Attention with residuals (timm's `prr`).
    Residual,
    /// The class token and the mean, one after the other.
    TokenAndAverage,
}

const POOLS: [(&str, Pool); 10] = [
    ("token", Pool::Token),
    ("average", Pool::Average),
    ("avg", Pool::Average),
    ("avg+prefix", Pool::AverageWithPrefix),
    ("max", Pool::Max),
    ("avgmax", Pool::AverageMax),
    ("map", Pool::Attention),
    ("map+prefix", Pool::AttentionWithPrefix),
    ("prr", Pool::Residual),
    ("token+average", Pool::TokenAndAverage),
];

/// In timm's and Hugging Face's words, and in ours.
const ACTIVATIONS: [(&str, Activation); 10] = [
    ("gelu", Activation::Gelu),
    ("gelu_tanh", Activation::GeluTanh),
    ("gelu-tanh", Activation::GeluTanh),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("quick_gelu", Activation::QuickGelu),
    ("quick-gelu", Activation::QuickGelu),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
];

impl FromStr for Pool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = POOLS.iter().find(|(name, _)| *name == text);
        found.map(|(_, pool)| *pool).ok_or_else(|| "expected token, average or max".into())
    }
}

/// The activation of this name, in timm's, Hugging Face's or our words.
///
/// # Errors
/// The names that there are.
pub fn activation(name: &str) -> Result<Activation, String> {
    let found = ACTIVATIONS.iter().find(|(known, _)| *known == name);
    let known = "expected gelu, gelu_tanh, quick_gelu, relu or silu";
    found.map(|(_, activation)| *activation).ok_or_else(|| known.into())
}

/// Rotary positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// `cat` (EVA-02's), `dinov3` or `mixed` (learned).
    pub kind: String,
    /// Base of the frequencies.
    pub theta: f64,
    /// Map on which positions count as pixels; `None`: the model's own.
    pub reference: Option<[usize; 2]>,
    /// Whether x comes before y.
    pub x_first: bool,
    /// Added to every position.
    pub offset: f64,
    /// Whether halves rotate against each other, not neighbours.
    pub halves: bool,
}

impl Rope {
    /// As the layers have it; a kind that they do not have is refused before.
    pub(crate) fn layer(&self) -> spvit_layers::Rope {
        let kind = match self.kind.as_str() {
            "dinov3" => RopeKind::DinoV3,
            _ => RopeKind::Eva,
        };
        spvit_layers::Rope {
            kind,
            temperature: self.theta,
            offset: self.offset,
            reference: self.reference,
            columns_first: self.x_first,
            half: self.halves,
        }
    }
}

impl From<spvit_layers::Rope> for Rope {
    fn from(rope: spvit_layers::Rope) -> Self {
        let kind = match rope.kind {
            RopeKind::Eva => "cat",
            RopeKind::DinoV3 => "dinov3",
        };
        Self {
            kind: kind.into(),
            theta: rope.temperature,
            reference: rope.reference,
            x_first: rope.columns_first,
            offset: rope.offset,
            halves: rope.half,
        }
    }
}

/// What is known beside the tensors; `None` where nobody tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// Embedding dimension (of the first stage), to check that this belongs to the tensors.
    pub dim: Option<usize>,
    /// Attention heads, one number for each stage.
    pub heads: Option<Vec<usize>>,
    /// Height and width of an image in pixels.
    pub image_size: Option<[usize; 2]>,
    /// Side of a window, one for all stages or for each.
    pub windows: Option<Vec<usize>>,
    /// What the classifier looks at.
    pub pool: Option<Pool>,
    /// Heads of an attention pool; otherwise those of the blocks.
    pub pool_heads: Option<usize>,
    /// Activation of the FFNs; `Err` has the name of one that nobody knows here.
    pub activation: Option<Result<Activation, String>>,
    /// ε of the norms.
    pub epsilon: Option<f64>,
    /// Whether norms come after attention and FFN.
    pub post_norm: Option<bool>,
    /// Whether there is a norm between the last block and the classifier, before or after pooling.
    pub final_norm: Option<bool>,
    /// Rotary positions, or that there are none.
    pub rope: Option<Option<Rope>>,
    /// Rows of the position embedding that belong to prefix tokens.
    pub prefix_tokens: Option<usize>,
    /// How images come to the model, and its classes' names.
    pub input: Input,
}

impl Told {
    /// This, and what it leaves open from `base`.
    pub fn over(self, base: Self) -> Self {
        Self {
            dim: self.dim.or(base.dim),
            heads: self.heads.or(base.heads),
            image_size: self.image_size.or(base.image_size),
            windows: self.windows.or(base.windows),
            pool: self.pool.or(base.pool),
            pool_heads: self.pool_heads.or(base.pool_heads),
            activation: self.activation.or(base.activation),
            epsilon: self.epsilon.or(base.epsilon),
            post_norm: self.post_norm.or(base.post_norm),
            final_norm: self.final_norm.or(base.final_norm),
            rope: self.rope.or(base.rope),
            prefix_tokens: self.prefix_tokens.or(base.prefix_tokens),
            input: self.input.over(base.input),
        }
    }
}
