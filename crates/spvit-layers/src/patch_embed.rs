//! Patch embedding.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::{Init, VitConfig};

/// The projection of patches: a convolution whose stride is its kernel size.
#[derive(Module, Debug)]
pub struct PatchProjection<B: Backend> {
    /// Weight `[dim, channels, patch, patch]`.
    pub weight: Param<Tensor<B, 4>>,
    /// Bias `[dim]`.
    pub bias: Param<Tensor<B, 1>>,
}

/// Cuts an image into patches and projects each.
#[derive(Module, Debug)]
pub struct PatchEmbed<B: Backend> {
    /// The projection.
    pub proj: PatchProjection<B>,
}

impl<B: Backend> PatchEmbed<B> {
    /// Weights uniform with bound `1/√fan_in`, as PyTorch's convolutions.
    pub fn new(config: &VitConfig, init: &mut Init<B>) -> Self {
        let (dim, p) = (config.dim, config.patch_size);
        let bound = ((config.channels * p * p) as f32).sqrt().recip();
        Self {
            proj: PatchProjection {
                weight: init.uniform([dim, config.channels, p, p], bound),
                bias: init.uniform([dim], bound),
            },
        }
    }
}

impl<B: FusedOps> PatchEmbed<B> {
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, output: `[batch, patches, dim]`, row-major.
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 3> {
        let weight = self.proj.weight.val();
        let [dim, channels, p, _] = weight.dims();
        let patches = fused::patch_rows(images, p);
        let weight = weight.reshape([dim, channels * p * p]).transpose();
        fused::affine(patches, weight, Some(self.proj.bias.val()))
    }
}
