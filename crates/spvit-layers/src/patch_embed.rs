//! From pixels to tokens, and from a map of tokens to one of half its sides.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, TokenMap, fused};

use crate::{BlockShape, Init, Linear, Norm};

/// The projection of patches: a convolution whose stride is its kernel size.
#[derive(Module, Debug)]
pub struct PatchProjection<B: Backend> {
    /// Weight `[dim, channels, patch, patch]`.
    pub weight: Param<Tensor<B, 4>>,
    /// Bias `[dim]`, or none.
    pub bias: Option<Param<Tensor<B, 1>>>,
}

/// Cuts an image into patches and projects each.
#[derive(Module, Debug)]
pub struct PatchEmbed<B: Backend> {
    /// The projection.
    pub proj: PatchProjection<B>,
    /// After it (Swin's).
    pub norm: Option<Norm<B>>,
}

impl<B: Backend> PatchEmbed<B> {
    /// Weights uniform with bound `1/√fan_in`, as PyTorch's convolutions. `channels` and `patch`
    /// are an image's channels and a patch's side, `dim` the tokens' dimensions.
    pub fn new([channels, patch, dim]: [usize; 3], bias: bool, init: &mut Init<B>) -> Self {
        let bound = ((channels * patch * patch) as f32).sqrt().recip();
        let weight = init.uniform([dim, channels, patch, patch], bound);
        let bias = bias.then(|| init.uniform([dim], bound));
        Self { proj: PatchProjection { weight, bias }, norm: None }
    }
}

impl<B: FusedOps> PatchEmbed<B> {
    /// Embeds images.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, output: `[batch, patches, dim]`, row-major.
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 3> {
        let weight = self.proj.weight.val();
        let [dim, channels, p, _] = weight.dims();
        let patches = fused::patch_rows(images, p);
        let weight = weight.reshape([dim, channels * p * p]).transpose();
        let tokens = fused::affine(patches, weight, self.proj.bias.as_ref().map(Param::val));
        match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }
}

/// Patch merging: four neighbouring tokens become one of twice the dimensions.
///
/// `reduction(norm([x(0,0), x(1,0), x(0,1), x(1,1)]))` over the cells of 2×2 tokens; an odd map is
/// padded with zeros.
#[derive(Module, Debug)]
pub struct PatchMerging<B: Backend> {
    /// Over the four tokens, `[4·dim]`.
    pub norm: Norm<B>,
    /// `[4·dim, 2·dim]`, without a bias.
    pub reduction: Linear<B>,
    #[module(skip)]
    cells: TokenMap,
}

impl<B: Backend> PatchMerging<B> {
    /// A merging of fresh weights, after a block of this shape.
    pub fn new(shape: &BlockShape, init: &mut Init<B>) -> Self {
        let (dim, [rows, columns]) = (shape.dim, shape.map);
        let cells = [rows, columns].map(|side| side.div_ceil(2));
        let sources = (0..cells[0] * cells[1]).flat_map(|cell| {
            let (row, column) = (2 * (cell / cells[1]), 2 * (cell % cells[1]));
            [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(down, right)| {
                let (row, column) = (row + down, column + right);
                (row < rows && column < columns).then_some((row * columns + column) as u32)
            })
        });
        Self {
            norm: Norm::new(4 * dim, &shape.style, init),
            reduction: Linear::without_bias(4 * dim, 2 * dim, init),
            cells: TokenMap::new(sources.collect(), rows * columns),
        }
    }
}

impl<B: FusedOps> PatchMerging<B> {
    /// Merges tokens.
    ///
    /// # Shapes
    /// - x: `[batch, rows·columns, dim]`, output: `[batch, ⌈rows/2⌉·⌈columns/2⌉, 2·dim]`.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, _, dim] = x.dims();
        let cells = fused::gather_tokens(x, &self.cells);
        let [_, tokens, _] = cells.dims();
        self.reduction.forward(self.norm.forward(cells.reshape([batch, tokens / 4, 4 * dim])))
    }
}
