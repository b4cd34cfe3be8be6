//! Batch normalisation of tokens.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation::relu, backend::Backend};
use spvit_core::{FusedOps, fused};

use crate::{BatchStatistics, Init, Mode};

/// ε added to a variance, as in the published code.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Batch normalisation over batch and positions, with running statistics for evaluation.
#[derive(Module, Debug)]
pub struct BatchNorm<B: Backend> {
    /// Scale `[dim]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Shift `[dim]`.
    pub bias: Param<Tensor<B, 1>>,
    /// Running mean `[dim]`, used in evaluation; no optimiser touches it.
    pub running_mean: Param<Tensor<B, 1>>,
    /// Running unbiased variance `[dim]`.
    pub running_var: Param<Tensor<B, 1>>,
}

impl<B: Backend> BatchNorm<B> {
    /// The identity, with running mean 0 and variance 1.
    pub fn new(dim: usize, init: &mut Init<B>) -> Self {
        Self {
            weight: init.constant([dim], 1.0),
            bias: init.constant([dim], 0.0),
            running_mean: init.buffer([dim], 0.0),
            running_var: init.buffer([dim], 1.0),
        }
    }

    /// Scale and shift `[dim]` of every channel in evaluation, the offset included.
    pub(crate) fn folded(
        &self,
        offset: Tensor<B, 1>,
        weight: Tensor<B, 1>,
        bias: Tensor<B, 1>,
    ) -> [Tensor<B, 1>; 2] {
        // Not a root and a reciprocal, which Burn's ndarray backend approximates to 12 to 14 bits.
        let scale = (self.running_var.val() + BATCH_NORM_EPSILON).powf_scalar(-0.5) * weight;
        let shift = (offset - self.running_mean.val()) * scale.clone() + bias;
        [scale, shift]
    }
}

impl<B: FusedOps> BatchNorm<B> {
    /// ReLU of the normalised `x + offset`: in training by the batch's own statistics, which it hands to the
    /// context, to move the running ones once the step is done; in evaluation by the running ones.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, offset: `[dim]`, output: as x.
    pub fn relu(&self, x: Tensor<B, 3>, offset: Tensor<B, 1>, mode: &Mode<B>) -> Tensor<B, 3> {
        self.relu_with(x, [offset, self.weight.val(), self.bias.val()], mode)
    }

    /// [`BatchNorm::relu`] with this offset, weight and bias.
    pub(crate) fn relu_with(
        &self,
        x: Tensor<B, 3>,
        [offset, weight, bias]: [Tensor<B, 1>; 3],
        mode: &Mode<B>,
    ) -> Tensor<B, 3> {
        match mode {
            Mode::Evaluate => {
                let [scale, shift] = self.folded(offset, weight, bias);
                relu(x * scale.unsqueeze() + shift.unsqueeze())
            }
            Mode::Train(context) => {
                let (y, [mean, variance]) =
                    fused::batch_norm_relu(x, [offset, weight, bias], BATCH_NORM_EPSILON);
                context.record(BatchStatistics {
                    mean_id: self.running_mean.id,
                    variance_id: self.running_var.id,
                    mean,
                    variance,
                });
                y
            }
        }
    }
}
