//! A vision transformer as plain data: what a compact or dense model's forward does.

use serde::{Deserialize, Serialize};

use crate::error::Fault;

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
    pub in_chans: usize,
    /// Length of the output.
    pub num_classes: usize,
    /// D, the length of a token; a multiple of `num_heads`.
    pub embed_dim: usize,
    /// Attention heads; a head, and the inside of a bottleneck convolution, is D / heads wide.
    pub num_heads: usize,
    /// Added to the variance in layer norms (timm: 1e-6).
    pub layer_norm_eps: f64,
    /// Added to the variance in batch norms (PyTorch: 1e-5).
    pub bn_eps: f64,
    /// The blocks, first to last.
    pub blocks: Vec<BlockDescription>,
    /// What the attention of a shortcut block adds: nothing, or, where this is set, norm1(x), as
    /// checkpoints of the published code need it.
    pub shortcut_adds_norm1: bool,
}

/// One block: what stands in the place of attention, and the width of the FFN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDescription {
    /// What stands in the place of attention.
    pub operation: Operation,
    /// Hidden dimensions that the FFN kept; with 0 of them only the bias of `fc2` is left.
    pub hidden: usize,
}

/// What stands in the place of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Nothing.
    Shortcut,
    /// A bottleneck convolution over the patches; the class token passes by.
    BConv {
        /// Side of the square kernel, odd; the padding is half of it.
        kernel: usize,
    },
    /// Multi-head self-attention.
    Msa,
}

impl NetworkDescription {
    /// Rows and columns of patches.
    pub(super) fn grid(&self) -> [usize; 2] {
        self.image_size.map(|n| n / self.patch_size)
    }

    pub(super) fn patches(&self) -> usize {
        self.grid().iter().product()
    }

    pub(super) fn head_dim(&self) -> usize {
        self.embed_dim / self.num_heads
    }

    /// Checks what the other functions rely on.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let sizes = [
            ("image_size[0]", self.image_size[0]),
            ("image_size[1]", self.image_size[1]),
            ("patch_size", self.patch_size),
            ("in_chans", self.in_chans),
            ("num_classes", self.num_classes),
            ("embed_dim", self.embed_dim),
            ("num_heads", self.num_heads),
        ];
        for (name, size) in sizes {
            // Larger ones cannot be weights in one file, and their products could overflow.
            if !(1..=1 << 20).contains(&size) {
                return Err(wrong(format!("{name} from 1 to {}", 1 << 20), size));
            }
        }
        if self.image_size.iter().any(|n| n % self.patch_size != 0) {
            return Err(wrong(
                format!("an image_size in multiples of patch_size {}", self.patch_size),
                format!("{:?}", self.image_size),
            ));
        }
        if !self.embed_dim.is_multiple_of(self.num_heads) {
            return Err(wrong(
                format!("an embed_dim in multiples of num_heads {}", self.num_heads),
                self.embed_dim,
            ));
        }
        for (name, eps) in [("layer_norm_eps", self.layer_norm_eps), ("bn_eps", self.bn_eps)] {
            if !(eps > 0.0 && eps < 1.0) {
                return Err(wrong(format!("{name} between 0 and 1"), eps));
            }
        }
        for (i, block) in self.blocks.iter().enumerate() {
            if let Operation::BConv { kernel } = block.operation
                && (kernel % 2 == 0 || kernel > 1 << 10)
            {
                return Err(wrong(format!("an odd kernel in block {i}"), kernel));
            }
        }
        Ok(())
    }
}

fn wrong(expected: impl Into<String>, found: impl ToString) -> Fault {
    Fault::invalid(expected, found.to_string(), "Correct the description of the network.")
}
