//! What a model's file says about it: its tensors' names and shapes, a configuration beside it, and
//! what a person says.
//!
//! Nothing here makes a model. [`Described`] names every part of it, those that spvit's layers do
//! not have as [`Feature`]s, so that a file is refused by what it has; and everything that nobody
//! told, so that no guess is silent.

mod configuration;
mod names;
mod parts;
mod swin;
mod timm;
mod told;
mod vit;

use std::collections::{BTreeMap, BTreeSet};

use spvit_layers::{Activation, FfnKind, NormKind};

use crate::input::Input;

pub(crate) use configuration::beside;
pub(crate) use names::{Canonical, Origin};
pub use parts::AttentionPool;
pub(crate) use parts::follows_from_rope;
pub(crate) use timm::named;
pub use told::{Pool, Rope, Told, activation};

/// Shapes of tensors by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// The families that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// One resolution from the first block to the last: ViT, DeiT, CLIP, SigLIP, DINOv2, BEiT, EVA.
    Vit,
    /// Stages of shrinking maps, attention in shifted windows.
    Swin,
}

/// Which of the maps to Q, K and V have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Biases {
    /// All three.
    #[default]
    All,
    /// Q and V (BEiT's and EVA's).
    QueryAndValue,
    /// None.
    None,
}

/// Blocks of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Embedding dimension.
    pub dim: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden dimensions of each block's FFN.
    pub hidden: Vec<usize>,
    /// Side of a window (Swin's).
    pub window: Option<usize>,
}

/// A model as its file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Its family.
    pub family: Family,
    /// Height and width of an image in pixels.
    pub image_size: [usize; 2],
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Number of classes; `None` where there is no head.
    pub classes: Option<usize>,
    /// One stage for a ViT.
    pub stages: Vec<Stage>,
    /// Whether a class token comes first.
    pub class_token: bool,
    /// Whether a distillation token with a head of its own follows.
    pub distilled: bool,
    /// Register tokens after those.
    pub registers: usize,
    /// Whether there is a learned position embedding.
    pub positions: bool,
    /// Its rows for prefix tokens: for all of them, for the first alone, or none.
    pub prefix_rows: usize,
    /// What the classifier looks at.
    pub pool: Pool,
    /// The attention pool, if it looks through one.
    pub attention_pool: Option<AttentionPool>,
    /// Norm before pooling.
    pub norm: bool,
    /// Norm after pooling.
    pub fc_norm: bool,
    /// Norm after the projection of patches.
    pub patch_norm: bool,
    /// Norm before the first block.
    pub pre_norm: bool,
    /// ε of the norms.
    pub epsilon: f64,
    /// Whether they take a mean and add a shift.
    pub norm_kind: NormKind,
    /// Whether FFNs are gated, and how.
    pub ffn: FfnKind,
    /// Activation of the FFNs.
    pub activation: Activation,
    /// Whether branches are scaled before they are added.
    pub layer_scale: bool,
    /// Biases of Q, K and V.
    pub qkv_bias: Biases,
    /// Whether Q and K are normalised head by head.
    pub qk_norm: bool,
    /// Whether every block has a table of biases for relative positions, without windows.
    pub relative_bias: bool,
    /// Whether there is a norm before attention's projection.
    pub attn_norm: bool,
    /// Whether there is a norm before the FFN's last map.
    pub mlp_norm: bool,
    /// Whether the projection of patches has a bias.
    pub patch_bias: bool,
    /// Rotary positions.
    pub rope: Option<Rope>,
    /// Parts that not every vision transformer has.
    pub features: BTreeSet<Feature>,
    /// How images come to the model, and its classes' names.
    pub input: Input,
    /// What nobody told, in words; empty where all is known.
    pub assumptions: Vec<String>,
}

impl Described {
    /// One line for all assumptions, or `None` where there are none.
    pub fn warning(&self) -> Option<String> {
        (!self.assumptions.is_empty()).then(|| {
            format!(
                "the file does not say everything; assumed: {} (say otherwise with a config.json \
                 beside it, --timm, --heads, --pool, --activation, --epsilon or --image-size)",
                self.assumptions.join(", ")
            )
        })
    }

    /// Why a reader that has only `read` of the features must refuse the model.
    pub fn refusal(&self, read: &[Feature]) -> Option<String> {
        let unread: Vec<String> =
            self.features.iter().filter(|f| !read.contains(f)).map(Feature::to_string).collect();
        (!unread.is_empty())
            .then(|| format!("this model has {}, which spvit does not read", unread.join(", ")))
    }
}

macro_rules! features {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A part that not every vision transformer has.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Feature {
            $($(#[$doc])* $name,)*
        }

        impl std::fmt::Display for Feature {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

features! {
    /// Tokens come out of convolutions.
    ConvolutionalStem = "a convolutional stem",
    /// A table for every block.
    RelativeBias = "relative position bias",
    /// A table for all blocks.
    SharedRelativeBias = "relative position bias shared by all blocks",
    /// A network gives the bias.
    RelativeNetwork = "relative position bias by an MLP",
    /// Rotary positions.
    Rope = "RoPE",
    /// Rotary positions of another kind, or learned.
    OtherRope = "RoPE of another kind than EVA-02's and DINOv3's",
    /// Rotary positions that no configuration describes.
    UntoldRope = "RoPE of which no configuration tells",
    /// No position embedding at all that is known.
    Positionless = "no position embedding",
    /// A gated FFN.
    SwiGlu = "SwiGLU",
    /// Norms without a mean and a shift.
    RmsNorm = "RMSNorm",
    /// Norms of two kinds.
    MixedNorms = "norms with a shift and norms without one",
    /// Norms inside attention or FFN.
    SubNorm = "norms inside attention or FFN",
    /// Norms after attention and FFN.
    PostNorm = "post-norm blocks",
    /// Attention and FFN side by side.
    Parallel = "parallel blocks",
    /// Two softmaxes, subtracted.
    Differential = "differential attention",
    /// What attention mixes is multiplied by a gate.
    GatedAttention = "gated attention",
    /// Fewer heads of K and V than of Q.
    GroupedQuery = "grouped-query attention",
    /// Q and K normalised over all heads together.
    WideQkNorm = "QK-norm over all heads together",
    /// One of two branches is scaled.
    HalfLayerScale = "LayerScale on one branch alone",
    /// No norm where a configuration has one, or none tells.
    NoFinalNorm = "no norm after the last block, of which no configuration tells",
    /// Queries of its own.
    AttentionPool = "attention pooling",
    /// Another one than SigLIP's.
    OtherAttentionPool = "attention pooling of another form than SigLIP's",
    /// Maxima.
    MaxPool = "max pooling",
    /// The mean over prefix tokens, too.
    PrefixPool = "average pooling over prefix tokens",
    /// Cosine attention with a position network.
    SwinV2 = "Swin v2's cosine attention",
    /// Added to patches.
    SwinPositions = "absolute positions in a Swin",
    /// Not one for all stages.
    SwinWindows = "another window in every stage",
    /// Another activation than those that spvit has.
    OtherActivation = "an activation that spvit does not have",
}

/// What a file's tensors, and what is told beside them, say of the model.
///
/// # Errors
/// What was expected and found, and what to do.
pub(crate) fn detect(shapes: &Shapes, origin: Origin, told: &Told) -> Result<Described, String> {
    if let (Some(told), Ok([dim, ..])) = (told.dim, patches(shapes))
        && told != dim
    {
        return Err(format!(
            "its configuration (config.json beside it, or --timm) is of a model with dim {told}, but \
             its tensors have dim {dim}"
        ));
    }
    let staged = shapes.keys().any(|name| name.starts_with("layers.") && name.contains(".blocks."));
    match staged || shapes.keys().any(|name| name.starts_with("stages.0.blocks.")) {
        true => swin::detect(shapes, told),
        false => vit::detect(shapes, origin, told),
    }
}

/// The shape of a tensor; `None` if there is none of this name, or it is empty, or it has another
/// number of dimensions.
fn shape<const D: usize>(shapes: &Shapes, name: &str) -> Option<[usize; D]> {
    let shape: [usize; D] = shapes.get(name)?.as_slice().try_into().ok()?;
    (!shape.contains(&0)).then_some(shape)
}

/// Sides of a square of this many patches.
pub(crate) fn square(patches: usize) -> Option<[usize; 2]> {
    let side = patches.isqrt();
    (side > 0 && side * side == patches).then_some([side; 2])
}

/// The patch embedding's dim, channels and patch side.
fn patches(shapes: &Shapes) -> Result<[usize; 3], String> {
    let name = "patch_embed.proj.weight";
    match shape(shapes, name) {
        Some([dim, channels, patch, side]) if patch == side => Ok([dim, channels, patch]),
        Some([_, _, height, width]) => {
            Err(format!("its patches are {height}×{width}; spvit's are square"))
        }
        None if shapes.keys().any(|name| name.starts_with("patch_embed.backbone.")) => {
            Err(format!("this model has {}, which spvit does not read", Feature::ConvolutionalStem))
        }
        None if shapes.contains_key(name) => Err("its patches are embedded by a linear map \
            (NaFlex), which spvit does not read"
            .into()),
        None => Err(format!(
            "expected a tensor {name} [dim, channels, patch, patch], as vision transformers of \
             timm, DeiT and Hugging Face have it; check that this is such a model"
        )),
    }
}

/// The number of classes, from a head over these features.
fn classes(shapes: &Shapes, head: &str, features: usize) -> Result<Option<usize>, String> {
    let name = format!("{head}.weight");
    match (shape(shapes, &name), shapes.contains_key(&name)) {
        (Some([classes, width]), _) if width == features => Ok(Some(classes)),
        (None, false) => Ok(None),
        (found, _) => Err(format!("expected {name} [classes, {features}], found {found:?}")),
    }
}

#[cfg(test)]
mod tests;
