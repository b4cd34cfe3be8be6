//! FLOPs of Swin-shaped models, whose stages halve the map and double the dimensions.

use spvit_layers::Operation;

use super::{BlockCost, CostTable};

/// Shape of a Swin transformer with square images and maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwinShape {
    /// Side of an image in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Dimensions of the first stage; every further one has twice as many.
    pub embed_dim: usize,
    /// Blocks of every stage.
    pub depths: Vec<usize>,
    /// Heads of every stage.
    pub heads: Vec<usize>,
    /// Side of a window, which divides the side of every stage's map.
    pub window: usize,
    /// Number of classes.
    pub classes: usize,
}

impl SwinShape {
    /// Swin-T on images of 224×224 pixels, with 1000 classes.
    pub fn tiny() -> Self {
        Self {
            image_size: 224,
            patch_size: 4,
            embed_dim: 96,
            depths: vec![2, 2, 6, 2],
            heads: vec![3, 6, 12, 24],
            window: 7,
            classes: 1000,
        }
    }
}

impl CostTable {
    /// Eq. 15, the counterpart of [`CostModel::Paper`](super::CostModel::Paper) for Swin, with
    /// kernels 1 and 3. Its blocks are those of all stages in order.
    ///
    /// # Panics
    /// If the patch, the window or a stage's heads are 0.
    pub fn swin(shape: &SwinShape) -> Self {
        let [patch, embed, classes, window] =
            [shape.patch_size, shape.embed_dim, shape.classes, shape.window].map(|x| x as u64);
        let side = (shape.image_size / shape.patch_size) as u64;
        let mut fixed = side * side * embed * (3 * patch * patch + 1);
        let mut blocks = Vec::new();
        let stages = shape.depths.len();
        for (stage, (&depth, &heads)) in shape.depths.iter().zip(&shape.heads).enumerate() {
            let (r, d) = (side >> stage, embed << stage);
            let (n, h) = (r * r, d / heads as u64);
            let [c1, c3] = [2, 10].map(|products| products * d * h * n);
            let msa = n / (window * window) * (4 * window.pow(2) * d * d + 2 * window.pow(4) * d);
            let block = BlockCost { operations: vec![0, c1, c3, msa], hidden_dimension: 2 * n * d };
            fixed += depth as u64 * 2 * d * n;
            blocks.extend(std::iter::repeat_n(block, depth));
            if stage + 1 < stages {
                fixed += n * d + (r / 2).pow(2) * 8 * d * d;
            }
        }
        let features = embed << (stages.max(1) - 1);
        fixed += features * side * side / (1 << stages) + features * classes;
        let choices = vec![Operation::BConv(1), Operation::BConv(3), Operation::Msa];
        Self { fixed, blocks, choices }
    }
}
