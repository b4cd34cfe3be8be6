//! The optimiser's update of a parameter.

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::{backend::Backend, ops::FloatTensor};

use super::FusedOps;

/// Added to a norm before a limit is divided by it.
const CLIP_EPSILON: f64 = 1e-6;

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
    /// What gradients are multiplied with.
    pub grad_factor: f64,
}

/// A limit of the norm of all gradients together.
#[derive(Debug, Clone)]
pub struct Clip<T> {
    /// Numbers that add up to its square, before gradients are multiplied with anything, `[numbers]`.
    pub squares: T,
    /// The largest norm that is left as it is, after that.
    pub limit: f64,
}

impl AdamWStep {
    /// Bias corrections `1 - β^count` of the two moments.
    pub fn corrections(&self) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powi(self.count))
    }

    /// The same with gradients of this squared norm multiplied so that it is at most the limit's.
    pub fn clipped(self, squared_norm: f64, limit: f64) -> Self {
        let norm = squared_norm.sqrt() * self.grad_factor.abs();
        let factor = if norm > limit { limit / (norm + CLIP_EPSILON) } else { 1.0 };
        Self { grad_factor: self.grad_factor * factor, ..self }
    }

    /// What decay leaves of a parameter.
    pub fn keep(&self, decays: bool) -> f64 {
        1.0 - if decays { self.learning_rate * self.weight_decay } else { 0.0 }
    }
}

/// A parameter in an AdamW update. The tensors have one shape, which may be any.
#[derive(Debug, Clone)]
pub struct AdamWParameter<T> {
    /// The parameter.
    pub value: T,
    /// The first moment.
    pub first: T,
    /// The second moment.
    pub second: T,
    /// The gradient; none is as one of zeros.
    pub grad: Option<T>,
    /// Whether weight decay applies.
    pub decays: bool,
}

/// Updates of parameters, outside any graph.
pub trait UpdateOps: Backend {
    /// One AdamW update of parameters and their two moments (Loshchilov and Hutter, 2019), as PyTorch
    /// computes it: decoupled decay, then the bias-corrected step. Returns them in the same order.
    fn adamw_update(
        parameters: Vec<AdamWParameter<FloatTensor<Self>>>,
        step: AdamWStep,
        clip: Option<Clip<FloatTensor<Self>>>,
    ) -> Vec<[FloatTensor<Self>; 3]> {
        plain::adamw_update::<Self>(parameters, step, clip)
    }

    /// `decay·average + (1 - decay)·now` of each pair, which has one shape.
    fn averages(pairs: Vec<[FloatTensor<Self>; 2]>, decay: f64) -> Vec<FloatTensor<Self>> {
        plain::averages::<Self>(pairs, decay)
    }
}

impl<B: UpdateOps, C: CheckpointStrategy> UpdateOps for Autodiff<B, C> {}

/// One AdamW update of parameters and their two moments (Eq. 16; Loshchilov and Hutter, 2019), as PyTorch
/// computes it: the gradients' clipped norm, decoupled decay, then the bias-corrected step. Returns the
/// parameters and moments in the same order.
///
/// # Shapes
/// - a parameter, its moments, its gradient, and the three outputs: any, all the same.
pub fn adamw_update<B: FusedOps>(
    parameters: Vec<AdamWParameter<FloatTensor<B>>>,
    step: AdamWStep,
    clip: Option<Clip<FloatTensor<B>>>,
) -> Vec<[FloatTensor<B>; 3]> {
    B::adamw_update(parameters, step, clip)
}

/// `decay·average + (1 - decay)·now` of each pair, in the same order.
///
/// # Shapes
/// - a pair and its output: any, all the same.
pub fn averages<B: FusedOps>(pairs: Vec<[FloatTensor<B>; 2]>, decay: f64) -> Vec<FloatTensor<B>> {
    B::averages(pairs, decay)
}
