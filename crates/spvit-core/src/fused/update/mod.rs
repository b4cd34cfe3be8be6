//! The optimiser's update of a parameter.

#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{FusedOps, raw, wrap};

/// Scalars of one AdamW update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Number of this step, from 1.
    pub count: i32,
}

impl AdamWStep {
    /// Bias corrections `1 - β^count` of the two moments.
    pub fn corrections(&self) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powi(self.count))
    }
}

/// Updates of parameters, outside any graph.
pub trait UpdateOps: Backend {
    /// One AdamW update of a parameter of any shape and its two moments (Loshchilov and Hutter, 2019), as
    /// PyTorch computes it: decoupled decay, then the bias-corrected step.
    fn adamw_update(
        [parameter, first, second, grad]: [FloatTensor<Self>; 4],
        step: AdamWStep,
    ) -> [FloatTensor<Self>; 3] {
        plain::adamw_update::<Self>([parameter, first, second, grad], step)
    }
}

impl<B: UpdateOps, C: CheckpointStrategy> UpdateOps for Autodiff<B, C> {}

/// One AdamW update of a parameter and its two moments (Eq. 16; Loshchilov and Hutter, 2019), as
/// PyTorch computes it: decoupled decay, then the bias-corrected step.
///
/// # Shapes
/// - parameter, first and second moment, gradient, and the three outputs: any, all the same.
pub fn adamw_update<B: FusedOps, const D: usize>(
    [parameter, first, second, grad]: [Tensor<B, D>; 4],
    step: AdamWStep,
) -> [Tensor<B, D>; 3] {
    let inputs = [raw(parameter), raw(first), raw(second), raw(grad)];
    B::adamw_update(inputs, step).map(wrap)
}
