//! The bottleneck convolution in its compact form.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, Grid, fused};

use crate::{BatchNorm, BlockShape, Init, Linear, Mode};

/// A convolution's weight and bias.
#[derive(Module, Debug)]
pub struct Convolution<B: Backend> {
    /// Weight `[output, input, k, k]`.
    pub weight: Param<Tensor<B, 4>>,
    /// Bias `[output]`.
    pub bias: Param<Tensor<B, 1>>,
}

/// BConv (Eqs. 8, 9 and 17): convolution to one head's width, BN, ReLU, 1×1 convolution back.
///
/// It works on the map; the prefix tokens' rows of its output are the input's (Eq. 10).
#[derive(Module, Debug)]
pub struct BottleneckConv<B: Backend> {
    /// `[dim/heads, dim, k, k]`, padding `k/2`.
    pub conv: Convolution<B>,
    /// Over the patches of the batch.
    pub bn: BatchNorm<B>,
    /// `[dim/heads, dim]`.
    pub proj: Linear<B>,
    #[module(skip)]
    grid: Grid,
}

impl<B: Backend> BottleneckConv<B> {
    /// A convolution with fresh weights and a square kernel of side `kernel`.
    pub fn new(shape: &BlockShape, kernel: usize, init: &mut Init<B>) -> Self {
        let (dim, d) = (shape.dim, shape.head_dim());
        let bound = ((dim * kernel * kernel) as f32).sqrt().recip();
        Self {
            conv: Convolution {
                weight: init.uniform([d, dim, kernel, kernel], bound),
                bias: init.uniform([d], bound),
            },
            bn: BatchNorm::new(d, init),
            proj: Linear::new(d, dim, init),
            grid: shape.grid(kernel),
        }
    }
}

impl<B: FusedOps> BottleneckConv<B> {
    /// Convolves the map.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, the prefix tokens first; output: the same.
    pub fn forward(&self, x: Tensor<B, 3>, mode: &Mode<B>) -> Tensor<B, 3> {
        let (weight, bias) = (self.conv.weight.val(), self.conv.bias.val());
        if let Mode::Evaluate = mode {
            let (bn_weight, bn_bias) = (self.bn.weight.val(), self.bn.bias.val());
            let [scale, shift] = self.bn.folded(bias, bn_weight, bn_bias);
            let bias = self
                .proj
                .bias
                .as_ref()
                .map_or_else(|| Tensor::zeros([weight.dims()[1]], &x.device()), Param::val);
            let proj = (self.proj.weight.val(), bias);
            return fused::bottleneck(x, weight, [scale, shift], proj, self.grid);
        }
        let y = self.bn.relu(self.sums(x.clone()), bias, mode);
        fused::with_prefix(x, self.proj.forward(y))
    }

    /// The convolution without its bias.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, the prefix tokens first; output: `[batch, patches, dim/heads]`.
    pub fn sums(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let weight = self.conv.weight.val();
        let [d, dim, k, _] = weight.dims();
        // Products first, then shifts: the map of products is a head wide, not the model.
        let kernel = weight.permute([1, 3, 2, 0]).reshape([dim, k * k * d]);
        fused::shift_sum(fused::affine(x, kernel, None), self.grid)
    }

    /// What the 1×1 convolution maps in evaluation.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, the prefix tokens first; output: `[batch, patches, dim/heads]`.
    pub fn features(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.bn.relu(self.sums(x), self.conv.bias.val(), &Mode::Evaluate)
    }
}
