//! Batch normalisation of tokens.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};

use crate::{BatchStatistics, Init, Mode};

/// ε added to a variance, as in the published code.
const EPSILON: f64 = 1e-5;

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

    /// In training, normalises by the batch's own statistics and hands them to the context, which
    /// moves the running ones once the step is done; in evaluation, by the running ones.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, output: the same.
    pub fn forward(&self, x: Tensor<B, 3>, mode: &Mode<B>) -> Tensor<B, 3> {
        self.normalise(x, self.weight.val(), self.bias.val(), mode)
    }

    /// Scale and shift `[dim]` of every channel in evaluation, after a bias was added to it.
    pub(crate) fn folded(&self, bias: Tensor<B, 1>) -> [Tensor<B, 1>; 2] {
        let scale = (self.running_var.val() + EPSILON).powf_scalar(-0.5) * self.weight.val();
        let shift = (bias - self.running_mean.val()) * scale.clone() + self.bias.val();
        [scale, shift]
    }

    /// [`BatchNorm::forward`] with these weights.
    pub(crate) fn normalise(
        &self,
        x: Tensor<B, 3>,
        weight: Tensor<B, 1>,
        bias: Tensor<B, 1>,
        mode: &Mode<B>,
    ) -> Tensor<B, 3> {
        let [batch, tokens, dim] = x.dims();
        let rows = x.reshape([batch * tokens, dim]);
        let (centred, variance) = match mode {
            Mode::Evaluate => {
                let mean = self.running_mean.val().unsqueeze::<2>();
                (rows - mean, self.running_var.val().unsqueeze::<2>())
            }
            Mode::Train(context) => {
                let mean = rows.clone().mean_dim(0);
                let centred = rows - mean.clone();
                let variance = centred.clone().square().mean_dim(0);
                let count = (batch * tokens) as f64;
                context.record(BatchStatistics {
                    mean_id: self.running_mean.id,
                    variance_id: self.running_var.id,
                    mean: mean.detach().squeeze_dim(0),
                    variance: variance.clone().detach().squeeze_dim(0) * (count / (count - 1.0)),
                });
                (centred, variance)
            }
        };
        // Not a root and a reciprocal, which Burn's ndarray backend approximates to 12 to 14 bits.
        let scale = (variance + EPSILON).powf_scalar(-0.5) * weight.unsqueeze::<2>();
        (centred * scale + bias.unsqueeze::<2>()).reshape([batch, tokens, dim])
    }
}
