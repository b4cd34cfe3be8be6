//! What attention in search and in compact form share.

use burn::module::Param;
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::{
    BlockShape, RowGates, norm::NormWeights, relative::RelativePositions, rope::RopeTable,
    windows::Windows,
};

/// Everything of an attention layer that is not a parameter.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub heads: usize,
    windows: Option<Windows>,
    /// Of the whole sequence.
    relative: Option<RelativePositions>,
    rope: Option<RopeTable>,
}

/// An affine map's weight `[input, output]` and bias `[output]`.
pub(crate) type Map<B> = (Tensor<B, 2>, Option<Tensor<B, 1>>);

/// The tensors that an attention layer computes with, in a graph or outside it.
#[derive(Debug, Clone)]
pub(crate) struct AttentionWeights<B: Backend> {
    pub qkv: Map<B>,
    pub proj: Map<B>,
    /// Of relative positions, `[rows, heads]`.
    pub table: Option<Tensor<B, 2>>,
    /// The norms of Q and of K.
    pub qk_norm: Option<[NormWeights<B>; 2]>,
    /// The norm before the projection.
    pub norm: Option<NormWeights<B>>,
}

impl<B: FusedOps> AttentionWeights<B> {
    /// The same with these gates over the heads, laid over the rows of the projection.
    pub fn gated(mut self, gates: Option<&RowGates<B>>) -> Self {
        if let Some(gates) = gates {
            let (weight, bias) = self.proj;
            let ([width, dim], heads) = (weight.dims(), gates.count());
            // A head's rows lie together: to its gate they are one.
            let rows = gates.over(weight.reshape([heads, width / heads * dim]));
            self.proj = (rows.reshape([width, dim]), bias);
        }
        self
    }
}

/// A parameter in the graph, or outside it.
pub(crate) fn free<B: FusedOps, const D: usize>(
    x: &Param<Tensor<B, D>>,
    in_graph: bool,
) -> Tensor<B, D> {
    match in_graph {
        true => x.val(),
        false => fused::constant(x.val()),
    }
}

/// Tokens `[batch, tokens, dim]` one after the other, `[batch·tokens, dim]`: what is computed for each by itself
/// can be one kernel with the product before it.
pub(crate) fn rows<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 2> {
    x.flatten(0, 1)
}

impl Attention {
    /// Of so many of the shape's heads.
    pub fn new(shape: &BlockShape, heads: usize) -> Self {
        let windows = shape.window.map(|window| Windows::new(shape, window));
        let whole = shape.style.relative_position_bias && windows.is_none();
        let relative = whole.then(|| RelativePositions::after_class_token(shape.map));
        let rope = shape.style.rope.as_ref().map(|rope| RopeTable::new(shape, rope));
        Self { heads, windows, relative, rope }
    }

    /// Eq. 4 for `x` `[batch, tokens, dim]`, its rows `[batch·tokens, dim]`; also returns Q, K and V
    /// `[items, tokens, 3·dim]`, the items being images or windows.
    pub fn forward<B: FusedOps>(
        &self,
        x: Tensor<B, 3>,
        weights: &AttentionWeights<B>,
    ) -> (Tensor<B, 2>, Tensor<B, 3>) {
        let (mixed, qkv) = self.mixed(x, weights);
        let (w, b) = weights.proj.clone();
        let out = match &self.windows {
            Some(windows) => rows(windows.join(fused::affine(mixed, w, b))),
            None => fused::affine(rows(mixed), w, b),
        };
        (out, qkv)
    }

    /// Tokens of windows `[items, tokens, dim]` back in the images' order `[batch, tokens, dim]`.
    pub fn join<B: FusedOps>(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        match &self.windows {
            Some(windows) => windows.join(x),
            None => x,
        }
    }

    /// What the projection maps, and Q, K and V: both `[items, tokens, ..]`.
    pub fn mixed<B: FusedOps>(
        &self,
        x: Tensor<B, 3>,
        weights: &AttentionWeights<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let x = match &self.windows {
            Some(windows) => windows.cut(x),
            None => x,
        };
        let (w, b) = weights.qkv.clone();
        let qkv = fused::affine(x, w, b);
        let normal = match &weights.qk_norm {
            Some(norms) => self.normalise(qkv.clone(), norms),
            None => qkv.clone(),
        };
        let normal = match &self.rope {
            Some(rope) => rope.turn(normal),
            None => normal,
        };
        let bias = match (weights.table.clone(), &self.windows, &self.relative) {
            (Some(table), Some(windows), _) => Some(windows.bias(table)),
            (Some(table), None, Some(relative)) => Some(relative.bias(table)),
            _ => None,
        };
        let mixed = fused::self_attention(normal, self.heads, bias);
        let mixed = match &weights.norm {
            Some(norm) => norm.clone().apply(mixed),
            None => mixed,
        };
        (mixed, qkv)
    }

    /// V' of Eq. 6, the map's values without their bias, from Q, K and V of
    /// [`Attention::forward`].
    pub fn values<B: FusedOps>(
        &self,
        qkv: Tensor<B, 3>,
        bias: Option<Tensor<B, 1>>,
        prefix_tokens: usize,
    ) -> Tensor<B, 3> {
        self.join(fused::value_part(qkv, bias, prefix_tokens))
    }

    /// Normalises Q and K head by head.
    fn normalise<B: FusedOps>(
        &self,
        qkv: Tensor<B, 3>,
        norms: &[NormWeights<B>; 2],
    ) -> Tensor<B, 3> {
        let [items, tokens, width] = qkv.dims();
        let dim = width / 3;
        let part = |i: usize| qkv.clone().narrow(2, i * dim, dim);
        let normal = |i: usize| {
            let heads = part(i).reshape([items, tokens, self.heads, dim / self.heads]);
            norms[i].clone().apply(heads).reshape([items, tokens, dim])
        };
        Tensor::cat(vec![normal(0), normal(1), part(2)], 2)
    }
}
