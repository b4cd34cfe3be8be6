//! The blocks of a vision transformer, in compact and in search form.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::{
    BlockConfig, BlockShape, BottleneckConv, Ffn, Init, LayerScale, Mode, Msa, Norm, Operation,
    OperationGates, RowGates, SearchSpace, Umsa, attention::rows,
};

/// What stands in place of an attention layer.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Mixer<B: Backend> {
    /// Nothing is added (or norm1(x), by [`BlockStyle::shortcut_adds_norm`](crate::BlockStyle)).
    Shortcut(Shortcut),
    /// A bottleneck convolution.
    Bconv(BottleneckConv<B>),
    /// Multi-head self-attention.
    Msa(Msa<B>),
}

/// The operation without weights.
#[derive(Module, Clone, Debug)]
pub struct Shortcut {
    /// Whether the block adds its normalised input.
    pub adds_norm: bool,
}

/// `x + γ1 ⊙ mixer(norm1 x)`, then `x + γ2 ⊙ FFN(norm2 x)`; without LayerScale γ is 1.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    /// Before the mixer.
    pub norm1: Norm<B>,
    /// In place of attention.
    pub attn: Mixer<B>,
    /// Scales the mixer's branch.
    pub ls1: Option<LayerScale<B>>,
    /// Before the FFN.
    pub norm2: Norm<B>,
    /// The FFN.
    pub mlp: Ffn<B>,
    /// Scales the FFN's branch.
    pub ls2: Option<LayerScale<B>>,
}

/// `x + γ1 ⊙ UMSA(norm1 x)`, then `x + γ2 ⊙ UFFN(norm2 x)`.
#[derive(Module, Debug)]
pub struct SearchBlock<B: Backend> {
    /// Before the attention layer.
    pub norm1: Norm<B>,
    /// The searched attention layer.
    pub attn: Umsa<B>,
    /// Scales the attention layer's branch.
    pub ls1: Option<LayerScale<B>>,
    /// Before the FFN.
    pub norm2: Norm<B>,
    /// The searched FFN.
    pub mlp: Ffn<B>,
    /// Scales the FFN's branch.
    pub ls2: Option<LayerScale<B>>,
}

/// Gates of one block in one step.
#[derive(Debug, Clone)]
pub struct BlockGates<B: Backend> {
    /// Gates of the attention layer.
    pub operation: OperationGates<B>,
    /// Gates of attention's heads; `None` if all are open.
    pub heads: Option<RowGates<B>>,
    /// Gates of the FFN's hidden dimensions; `None` if all are open.
    pub ffn: Option<RowGates<B>>,
}

impl<B: Backend> BlockGates<B> {
    /// A given operation and a whole FFN.
    pub fn fixed(operation: Operation) -> Self {
        Self { operation: OperationGates::Fixed(operation), heads: None, ffn: None }
    }
}

/// Fresh norms and scales of a block.
struct Around<'a, B: Backend> {
    shape: &'a BlockShape,
    init: &'a mut Init<B>,
}

impl<B: Backend> Around<'_, B> {
    fn norm(&mut self) -> Norm<B> {
        Norm::new(self.shape.dim, &self.shape.style, self.init)
    }

    fn scale(&mut self) -> Option<LayerScale<B>> {
        self.shape.style.layer_scale.then(|| LayerScale::new(self.shape.dim, self.init))
    }

    fn ffn(&mut self, hidden: usize) -> Ffn<B> {
        Ffn::of_shape(self.shape, hidden, self.init)
    }
}

impl<B: Backend> Block<B> {
    /// A block with fresh weights.
    pub fn new(shape: &BlockShape, block: &BlockConfig, init: &mut Init<B>) -> Self {
        let attn = match block.operation {
            Operation::Shortcut => {
                Mixer::Shortcut(Shortcut { adds_norm: shape.style.shortcut_adds_norm })
            }
            Operation::BConv(k) => Mixer::Bconv(BottleneckConv::new(shape, k, init)),
            Operation::Msa => {
                Mixer::Msa(Msa::with_heads(shape, block.heads.unwrap_or(shape.heads), init))
            }
        };
        let mut around = Around { shape, init };
        Self {
            norm1: around.norm(),
            attn,
            ls1: around.scale(),
            norm2: around.norm(),
            mlp: around.ffn(block.hidden),
            ls2: around.scale(),
        }
    }

    /// Whether the block passes its input on unchanged.
    pub fn is_identity(&self) -> bool {
        let unmixed = matches!(&self.attn, Mixer::Shortcut(Shortcut { adds_norm: false }));
        let zero = |bias: &Param<Tensor<B, 1>>| {
            bias.val().into_data().iter::<f32>().all(|value| value == 0.0)
        };
        unmixed && self.mlp.hidden() == 0 && self.mlp.bias.as_ref().is_none_or(zero)
    }
}

impl<B: Backend> SearchBlock<B> {
    /// A block with fresh weights whose FFN has this width.
    pub fn new(shape: &BlockShape, space: &SearchSpace, hidden: usize, init: &mut Init<B>) -> Self {
        let attn = Umsa::new(shape, space, init);
        let mut around = Around { shape, init };
        Self {
            norm1: around.norm(),
            attn,
            ls1: around.scale(),
            norm2: around.norm(),
            mlp: around.ffn(hidden),
            ls2: around.scale(),
        }
    }
}

/// `x + γ ⊙ branch`, both `[batch·tokens, dim]`, the branch scaled by its drop-path factors, too.
///
/// What scales it is there before it is computed: on a GPU its last product, scales and sum can be one kernel then.
fn add<B: FusedOps>(
    x: Tensor<B, 2>,
    scale: &Option<LayerScale<B>>,
    factors: Option<Tensor<B, 2>>,
    branch: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>,
) -> Tensor<B, 2> {
    let scales = [scale.as_ref().map(LayerScale::row), factors];
    let branch = branch(x.clone());
    fused::sum(x, scales.into_iter().flatten().fold(branch, |branch, scale| branch * scale))
}

impl<B: FusedOps> Block<B> {
    /// Computes the block, the `index`-th of its model.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, output: the same.
    pub fn forward(&self, x: Tensor<B, 3>, index: usize, mode: &Mode<B>) -> Tensor<B, 3> {
        let shape = x.dims();
        self.forward_rows(rows(x), shape, index, mode).reshape(shape)
    }

    /// [`Block::forward`] of tokens one after the other, `[batch·tokens, dim]`.
    pub(crate) fn forward_rows(
        &self,
        x: Tensor<B, 2>,
        shape: [usize; 3],
        index: usize,
        mode: &Mode<B>,
    ) -> Tensor<B, 2> {
        self.feed_rows(self.mix_rows(x, shape, index, mode), shape, index, mode)
    }

    /// The first half, `x + γ1 ⊙ mixer(norm1 x)`.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, output: the same.
    pub fn mix(&self, x: Tensor<B, 3>, index: usize, mode: &Mode<B>) -> Tensor<B, 3> {
        let shape = x.dims();
        self.mix_rows(rows(x), shape, index, mode).reshape(shape)
    }

    fn mix_rows(
        &self,
        x: Tensor<B, 2>,
        shape: [usize; 3],
        index: usize,
        mode: &Mode<B>,
    ) -> Tensor<B, 2> {
        if let Mixer::Shortcut(Shortcut { adds_norm: false }) = &self.attn {
            return x;
        }
        add(x, &self.ls1, mode.branch_factors(2 * index, shape[1]), |x| {
            let normal = self.norm1.forward(x);
            match &self.attn {
                Mixer::Shortcut(_) => normal,
                Mixer::Bconv(bconv) => rows(bconv.forward(normal.reshape(shape), mode)),
                Mixer::Msa(msa) => msa.rows(normal.reshape(shape)),
            }
        })
    }

    /// The second half, `x + γ2 ⊙ FFN(norm2 x)`.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, output: the same.
    pub fn feed(&self, x: Tensor<B, 3>, index: usize, mode: &Mode<B>) -> Tensor<B, 3> {
        let shape = x.dims();
        self.feed_rows(rows(x), shape, index, mode).reshape(shape)
    }

    fn feed_rows(
        &self,
        x: Tensor<B, 2>,
        shape: [usize; 3],
        index: usize,
        mode: &Mode<B>,
    ) -> Tensor<B, 2> {
        add(x, &self.ls2, mode.branch_factors(2 * index + 1, shape[1]), |x| {
            match self.mlp.hidden() {
                0 => self.mlp.forward(x, None),
                _ => self.mlp.forward(self.norm2.forward(x), None),
            }
        })
    }
}

impl<B: FusedOps> SearchBlock<B> {
    /// Computes the block, the `index`-th of its model, with these gates.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, output: the same.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        gates: &BlockGates<B>,
        index: usize,
        mode: &Mode<B>,
    ) -> Tensor<B, 3> {
        let shape = x.dims();
        self.forward_rows(rows(x), shape, gates, (index, mode)).reshape(shape)
    }

    /// [`SearchBlock::forward`] of tokens one after the other, `[batch·tokens, dim]`.
    pub(crate) fn forward_rows(
        &self,
        x: Tensor<B, 2>,
        shape: [usize; 3],
        gates: &BlockGates<B>,
        (index, mode): (usize, &Mode<B>),
    ) -> Tensor<B, 2> {
        let factors = |row| mode.branch_factors(row, shape[1]);
        let x = add(x, &self.ls1, factors(2 * index), |x| {
            let (normal, heads) = (self.norm1.forward(x).reshape(shape), gates.heads.as_ref());
            rows(self.attn.forward_heads(normal, &gates.operation, heads, mode))
        });
        add(x, &self.ls2, factors(2 * index + 1), |x| {
            self.mlp.forward(self.norm2.forward(x), gates.ffn.as_ref())
        })
    }
}
