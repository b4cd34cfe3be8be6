//! A vision transformer as plain data: what a compact or dense model's forward does.

use serde::{Deserialize, Serialize};

/// The shape of a compact or dense vision transformer, as [`write`](super::write) needs it.
///
/// A dense one has [`Operation::Msa`] in every block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkDescription {
    /// Height and width of the input in pixels; multiples of `patch_size`.
    pub image_size: [usize; 2],
    /// Side of a square patch in pixels.
    pub patch_size: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Length of the output.
    pub classes: usize,
    /// Length of a token before the first block.
    pub dim: usize,
    /// Added to the variance in the norms around the blocks.
    pub epsilon: f64,
    /// The kind of these norms.
    pub norm_kind: NormKind,
    /// Added to the variance in batch norms (PyTorch: 1e-5).
    pub batch_norm_epsilon: f64,
    /// Whether the projection of patches has a bias.
    pub patch_bias: bool,
    /// Whether a norm follows it, `patch_embed.norm` (Swin's).
    pub patch_norm: bool,
    /// Whether a class token comes first, `cls_token`.
    pub class_token: bool,
    /// Whether a distillation token follows, `dist_token`, and there is a classifier on it,
    /// `head_dist`; the logits are the mean of both.
    pub distilled: bool,
    /// Register tokens after those, `reg_token`.
    pub registers: usize,
    /// What the position embedding, `pos_embed`, covers.
    pub positions: Positions,
    /// Whether the tokens are normalised before the first block, `norm_pre`.
    pub pre_norm: bool,
    /// Whether they are normalised after the last, `norm`.
    pub norm: bool,
    /// Whether a norm follows pooling, `fc_norm`.
    pub fc_norm: bool,
    /// What the classifier looks at.
    pub pool: Pool,
    /// Whether a mean or attention over the patches is over the prefix tokens, too.
    pub pool_prefix: bool,
    /// Name of the classifier's tensors: `head` or `head.fc`.
    pub head: String,
    /// The blocks, first to last.
    pub blocks: Vec<BlockDescription>,
    /// The mergings of patches, first to last.
    pub merges: Vec<MergeDescription>,
}

/// What a position embedding covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// There is none.
    None,
    /// The patches alone.
    Patches,
    /// The prefix tokens (class, distillation, registers), too.
    All,
}

/// What the classifier looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// The first prefix token, and the second if there is a classifier on it.
    Token,
    /// The mean of the patches.
    Average,
    /// The first prefix token and the mean of the patches, one after the other.
    TokenAverage,
    /// Attention of one learned query to the patches, `attn_pool`: `y + FFN(norm y)`, with y the
    /// projection of what it mixes.
    Attention {
        /// Its heads; they divide the length of a token.
        heads: usize,
        /// Hidden dimensions of its FFN, which is a plain one.
        hidden: usize,
        /// Between the two maps of its FFN.
        activation: Activation,
        /// Whether q and K of every head are normalised, `attn_pool.q_norm` and `.k_norm`.
        qk_norm: bool,
    },
}

/// How tokens are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormKind {
    /// By mean and variance, with a bias.
    Layer,
    /// By the root mean square, without a bias.
    Rms,
}

/// One block: `x + γ1 ⊙ operation(norm1 x)`, then `x + γ2 ⊙ FFN(norm2 x)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockDescription {
    /// What the names of its tensors begin with, such as `blocks.0` or `layers.1.blocks.0`.
    pub name: String,
    /// What stands in the place of attention.
    pub operation: Operation,
    /// D, the length of a token; a multiple of `heads`.
    pub dim: usize,
    /// Attention heads; a head, and the inside of a bottleneck convolution, is D / heads wide.
    pub heads: usize,
    /// Heads that attention kept, 1 to `heads`.
    pub kept_heads: usize,
    /// Hidden dimensions that the FFN kept; with 0 of them only `mlp.bias` of D values is left.
    pub hidden: usize,
    /// Rows and columns of the map of patches.
    pub map: [usize; 2],
    /// Tokens before the map's.
    pub prefix_tokens: usize,
    /// Windows of the attention; without, it sees the whole sequence.
    pub window: Option<WindowDescription>,
    /// Added to the variance in its norms, and in that of the merging after it.
    pub epsilon: f64,
    /// The kind of these norms.
    pub norm_kind: NormKind,
    /// The maps of the FFN.
    pub ffn: Ffn,
    /// Between the two maps of the FFN.
    pub activation: Activation,
    /// Whether Q, K and V have a bias.
    pub qkv_bias: bool,
    /// Whether Q and K of every head are normalised, `attn.q_norm` and `attn.k_norm`.
    pub qk_norm: bool,
    /// Whether attention over the whole sequence, a class token and the map, has a bias for every
    /// relative position, `attn.relative_position_bias_table`: those of the map, then the class
    /// token looking at the map, the map looking at it, and itself.
    pub relative_positions: bool,
    /// How Q and K turn by their tokens' places.
    pub rope: Option<RopeDescription>,
    /// Whether what attention mixes is normalised before its projection, `attn.norm`.
    pub attn_norm: bool,
    /// Whether the FFN's hidden dimensions are normalised before `mlp.fc2`, `mlp.norm`.
    pub mlp_norm: bool,
    /// Whether both branches are scaled by a vector, `ls1.gamma` and `ls2.gamma`; otherwise γ is 1.
    pub layer_scale: bool,
    /// What a shortcut adds: nothing, or, where this is set, norm1(x), as checkpoints of the
    /// published code need it.
    pub shortcut_adds_norm: bool,
}

/// What stands in the place of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Nothing.
    Shortcut,
    /// A bottleneck convolution over the patches; the prefix tokens pass by.
    BConv {
        /// Side of the square kernel, odd; the padding is half of it.
        kernel: usize,
    },
    /// Multi-head self-attention.
    Msa,
}

/// An FFN's activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x·Φ(x)`, by the error function.
    Gelu,
    /// Its approximation by tanh.
    GeluTanh,
    /// `x·σ(1.702·x)`.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `x·σ(x)`.
    Silu,
    /// `tanh(x)`.
    Tanh,
}

/// Whether an FFN's activation gates a second map, `a(g) ⊙ x`, and where the weights of both are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ffn {
    /// One map, `mlp.fc1` of shape [hidden, D]; no gate.
    Plain,
    /// Both in `mlp.fc1` of shape [2·hidden, D], g first.
    GateFirst,
    /// The same with x first.
    GateLast,
    /// `mlp.fc1_g` and `mlp.fc1_x`, each of shape [hidden, D].
    Split,
}

/// Rotary position embedding: in every head, pairs of values of Q and of K turn by the token's
/// place times a frequency. Prefix tokens do not turn.
///
/// With d values in a head, the first d/4 pairs turn by the row and the others by the column; the
/// k-th pair of each has the frequency `temperature^(-4k/d)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RopeDescription {
    /// What a place is.
    pub places: Places,
    /// Ratio of the frequencies.
    pub temperature: f64,
    /// Added to row and column.
    pub offset: f64,
    /// Whether the first pairs turn by the column.
    pub columns_first: bool,
    /// Whether pair i is the values i and i + d/2 instead of 2i and 2i + 1.
    pub half: bool,
}

/// How a token's row and column become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Places {
    /// They are counted from 0.
    Counted,
    /// They are counted, and scaled to a map of so many rows and columns.
    Scaled([usize; 2]),
    /// `2π·(2·(row + 0.5)/rows - 1)`, and so the column.
    Centred,
}

/// Windows of a map: it is rolled by the shift, padded at its lower and right end to whole windows,
/// and cut row-major. Every head has a bias for every relative position in a window,
/// `attn.relative_position_bias_table`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowDescription {
    /// Rows and columns of a window.
    pub size: [usize; 2],
    /// Rows and columns by which the windows are shifted.
    pub shift: [usize; 2],
}

/// Four neighbouring tokens become one of twice the length:
/// `reduction(norm([x(0,0), x(1,0), x(0,1), x(1,1)]))`; an odd map is padded with zeros.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeDescription {
    /// What the names of its tensors begin with, such as `layers.1.downsample`.
    pub name: String,
    /// Index of the block that it follows.
    pub after: usize,
}

impl NetworkDescription {
    /// Rows and columns of the first map.
    pub(super) fn map(&self) -> [usize; 2] {
        self.image_size.map(|n| n / self.patch_size)
    }

    /// Class token, distillation token and registers.
    pub(super) fn prefix_tokens(&self) -> usize {
        usize::from(self.class_token) + usize::from(self.distilled) + self.registers
    }

    /// Length of a token after the last block.
    pub(super) fn last_dim(&self) -> usize {
        match self.blocks.last() {
            Some(block) if self.merge_after(self.blocks.len() - 1).is_some() => 2 * block.dim,
            Some(block) => block.dim,
            None => self.dim,
        }
    }

    /// How the norms around the blocks normalise.
    pub(super) fn normalisation(&self) -> Normalisation {
        Normalisation { kind: self.norm_kind, epsilon: self.epsilon }
    }

    /// The merging after a block.
    pub(super) fn merge_after(&self, block: usize) -> Option<&MergeDescription> {
        self.merges.iter().find(|merge| merge.after == block)
    }
}

/// A norm's kind and what it adds to the variance or mean square.
#[derive(Clone, Copy)]
pub(super) struct Normalisation {
    pub(super) kind: NormKind,
    pub(super) epsilon: f64,
}

impl BlockDescription {
    /// How its norms normalise.
    pub(super) fn normalisation(&self) -> Normalisation {
        Normalisation { kind: self.norm_kind, epsilon: self.epsilon }
    }

    pub(super) fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// Values of all kept heads side by side.
    pub(super) fn heads_width(&self) -> usize {
        self.kept_heads * self.head_dim()
    }

    pub(super) fn patches(&self) -> usize {
        self.map.iter().product()
    }

    /// Tokens of a sequence.
    pub(super) fn tokens(&self) -> usize {
        self.prefix_tokens + self.patches()
    }
}
