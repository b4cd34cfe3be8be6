//! The bottleneck convolution in its compact form.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation::relu, backend::Backend};
use spvit_core::{FusedOps, Grid, fused};

use crate::{BatchNorm, Init, Linear, Mode, VitConfig};

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
/// It works on the patches; the class token's row of its output is the input's (Eq. 10).
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
    pub fn new(config: &VitConfig, kernel: usize, init: &mut Init<B>) -> Self {
        let (dim, d) = (config.dim, config.head_dim());
        let bound = ((dim * kernel * kernel) as f32).sqrt().recip();
        Self {
            conv: Convolution {
                weight: init.uniform([d, dim, kernel, kernel], bound),
                bias: init.uniform([d], bound),
            },
            bn: BatchNorm::new(d, init),
            proj: Linear::new(d, dim, init),
            grid: config.grid(kernel),
        }
    }
}

impl<B: FusedOps> BottleneckConv<B> {
    /// # Shapes
    /// - x: `[batch, 1 + patches, dim]`, the class token first; output: the same.
    pub fn forward(&self, x: Tensor<B, 3>, mode: &Mode<B>) -> Tensor<B, 3> {
        let (weight, bias) = (self.conv.weight.val(), self.conv.bias.val());
        if let Mode::Evaluate = mode {
            let (bn_weight, bn_bias) = (self.bn.weight.val(), self.bn.bias.val());
            let [scale, shift] = self.bn.folded(bias, bn_weight, bn_bias);
            let proj = (self.proj.weight.val(), self.proj.bias.val());
            return fused::bottleneck(x, weight, [scale, shift], proj, self.grid);
        }
        let [d, dim, k, _] = weight.dims();
        // Products first, then shifts: the map of products is a head wide, not the model.
        let kernel = weight.permute([1, 3, 2, 0]).reshape([dim, k * k * d]);
        let products = fused::affine(x.clone(), kernel, None);
        let sums = fused::shift_sum(products, self.grid);
        let y = self.bn.forward(sums, bias, mode);
        with_class_token_of(x, self.proj.forward(relu(y)))
    }
}

/// The class token of `[batch, 1 + patches, dim]` before other patches `[batch, patches, dim]`.
pub(crate) fn with_class_token_of<B: Backend>(
    x: Tensor<B, 3>,
    patches: Tensor<B, 3>,
) -> Tensor<B, 3> {
    Tensor::cat(vec![x.narrow(1, 0, 1), patches], 1)
}
