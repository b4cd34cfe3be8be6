//! What one block looks like, and what a search may make of it.

use serde::{Deserialize, Serialize};
use spvit_core::Grid;

use crate::{Activation, Operation, Rope};

/// Windows that a block's attention looks at instead of the whole map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns of a window.
    pub size: [usize; 2],
    /// Rows and columns by which the windows are shifted; 0 where they are not.
    pub shift: [usize; 2],
}

/// Which parts of Q, K and V have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QkvBias {
    /// All three.
    #[default]
    All,
    /// None.
    None,
}

/// How tokens are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormKind {
    /// By mean and variance, with a bias.
    #[default]
    Layer,
    /// By the root mean square, without a bias.
    Rms,
}

/// Whether an FFN's activation gates a second map, `a(g) ⊙ x` (GLU; SwiGLU with SiLU), and where
/// the weights of both are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FfnKind {
    /// One map, no gate.
    #[default]
    Plain,
    /// In one map, those of g first (timm's `SwiGLUPacked`, DINOv2's `w12`).
    GateFirst,
    /// In one map, those of g last (timm's `GluMlp`).
    GateLast,
    /// In two maps, `fc1_g` and `fc1_x` (timm's `SwiGLU`, EVA-02).
    Split,
}

/// What differs between blocks of one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockStyle {
    /// ε of the normalisations.
    pub epsilon: f64,
    /// Their kind: of every norm of tokens and heads.
    pub norm: NormKind,
    /// The FFN's maps.
    pub ffn: FfnKind,
    /// Between the two maps of the FFN.
    pub activation: Activation,
    /// Bias of Q, K and V.
    pub qkv_bias: QkvBias,
    /// Whether Q and K of every head are normalised before their product.
    pub qk_norm: bool,
    /// Whether attention over the whole sequence, a class token and a map, adds a learned bias for
    /// every relative position (BEiT's).
    pub relative_position_bias: bool,
    /// Rotary position embedding of Q and K.
    pub rope: Option<Rope>,
    /// Whether what attention mixes is normalised before its projection (timm's `scale_attn_norm`).
    pub attn_norm: bool,
    /// Whether an FFN's hidden dimensions are normalised before its last map (`scale_mlp_norm`).
    pub mlp_norm: bool,
    /// Whether both branches are scaled by a learned vector (LayerScale).
    pub layer_scale: bool,
    /// Whether a shortcut adds norm1(x), as the published fine-tuning code does, instead of 0.
    pub shortcut_adds_norm: bool,
}

impl Default for BlockStyle {
    /// DeiT's.
    fn default() -> Self {
        Self {
            epsilon: 1e-6,
            norm: NormKind::Layer,
            ffn: FfnKind::Plain,
            activation: Activation::Gelu,
            qkv_bias: QkvBias::All,
            qk_norm: false,
            relative_position_bias: false,
            rope: None,
            attn_norm: false,
            mlp_norm: false,
            layer_scale: false,
            shortcut_adds_norm: false,
        }
    }
}

impl BlockStyle {
    /// Maps to an FFN's hidden dimensions.
    pub fn ffn_maps(&self) -> usize {
        match self.ffn {
            FfnKind::Plain => 1,
            FfnKind::GateFirst | FfnKind::GateLast | FfnKind::Split => 2,
        }
    }

    /// Trained values of a norm, as a multiple of the dimensions that it normalises.
    pub fn norm_values(&self) -> usize {
        match self.norm {
            NormKind::Layer => 2,
            NormKind::Rms => 1,
        }
    }
}

/// Shape of one block: all that a layer needs to know of the model around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockShape {
    /// Embedding dimension D, a multiple of `heads`.
    pub dim: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden dimensions of the FFN before pruning.
    pub hidden: usize,
    /// Rows and columns of the map of tokens.
    pub map: [usize; 2],
    /// Tokens before the map's: class token, registers.
    pub prefix_tokens: usize,
    /// Windows of the attention; `None`: the whole sequence.
    pub window: Option<Window>,
    /// The rest.
    pub style: BlockStyle,
}

impl BlockShape {
    /// A DeiT block: one class token, no windows, an FFN of four times the dimension.
    pub fn new(dim: usize, heads: usize, map: [usize; 2]) -> Self {
        let style = BlockStyle::default();
        Self { dim, heads, hidden: 4 * dim, map, prefix_tokens: 1, window: None, style }
    }

    /// Number of tokens of the map, N.
    pub fn patches(&self) -> usize {
        self.map.iter().product()
    }

    /// Number of tokens of a sequence.
    pub fn tokens(&self) -> usize {
        self.patches() + self.prefix_tokens
    }

    /// Dimensions of one head, d = D/h.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// Rows of the table of relative position biases: `(2h - 1)(2w - 1)` for windows or a map of h
    /// rows and w columns, and three for a class token; 0 without biases.
    pub fn bias_table_rows(&self) -> usize {
        let rows = |size: [usize; 2]| size.iter().map(|side| 2 * side - 1).product::<usize>();
        match self.window {
            Some(window) => rows(window.size),
            None if self.style.relative_position_bias => rows(self.map) + 3,
            None => 0,
        }
    }

    /// The map with a kernel of side `kernel` over it.
    pub fn grid(&self, kernel: usize) -> Grid {
        let [height, width] = self.map;
        Grid { height, width, kernel }
    }

    /// Whether a search may put another operation in attention's place. A norm before the
    /// projection depends on all tokens' mixed values, and no convolution's weights follow.
    pub fn searches_attention(&self) -> bool {
        !self.style.attn_norm
    }

    /// Whether a search may cut the FFN. A norm over its hidden dimensions couples them: without
    /// one, the others have other values.
    pub fn searches_ffn(&self) -> bool {
        !self.style.mlp_norm
    }

    /// The largest tensor that training makes of an image in this block: what it is, and how many numbers. A
    /// `kernel` is the side of the largest one that a search may choose.
    pub fn largest_tensor(&self, kernel: Option<usize>) -> (&'static str, usize) {
        let tokens = self.tokens();
        let (sequences, length) = match self.window {
            Some(Window { size, .. }) => {
                let along = |axis: usize| self.map[axis].div_ceil(size[axis]);
                (along(0) * along(1), size[0] * size[1])
            }
            None => (1, tokens),
        };
        let positions = kernel.map_or(0, |side| side * side);
        let all = [
            ("the hidden dimensions of an FFN", tokens * self.hidden * self.style.ffn_maps()),
            ("Q, K and V", 3 * sequences * length * self.dim),
            ("attention's probabilities", sequences * self.heads * length * length),
            ("a convolution's products", (self.patches() * positions + 1) * self.head_dim()),
        ];
        all.into_iter().max_by_key(|(_, numbers)| *numbers).unwrap_or_default()
    }

    /// The block of the dense model: attention and the whole FFN.
    pub fn dense(&self) -> BlockConfig {
        BlockConfig { operation: Operation::Msa, hidden: self.hidden, heads: None }
    }
}

/// What a searched attention layer may become besides attention and a shortcut.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSpace {
    /// Sides of the kernels, odd and ascending.
    pub kernels: Vec<usize>,
    /// Temperature α of the head distribution (Eq. 5).
    pub alpha: f64,
    /// Whether every convolution has weights of its own, the multi-path network that the paper compares
    /// with, in place of attention's.
    pub separate: bool,
}

impl Default for SearchSpace {
    /// The paper's for DeiT.
    fn default() -> Self {
        Self { kernels: vec![1, 3], alpha: 0.01, separate: false }
    }
}

impl SearchSpace {
    /// Side of the largest kernel.
    pub fn largest_kernel(&self) -> usize {
        self.kernels.iter().copied().max().unwrap_or(1)
    }

    /// The gated operations of an attention layer: every kernel, then MSA. The shortcut has no
    /// gate.
    pub fn operations(&self) -> Vec<Operation> {
        let kernels = self.kernels.iter().map(|&k| Operation::BConv(k));
        kernels.chain([Operation::Msa]).collect()
    }
}

/// One block of a compact model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockConfig {
    /// What stands in place of the attention layer.
    pub operation: Operation,
    /// Hidden dimensions of the FFN; 0 where nothing is left of it.
    pub hidden: usize,
    /// Heads of attention; `None` for all.
    pub heads: Option<usize>,
}
