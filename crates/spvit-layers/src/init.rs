//! Initial weights, drawn on the host so that one seed gives one model on every backend.

use burn::module::Param;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

/// Source of initial weights on one device.
#[derive(Debug)]
pub struct Init<B: Backend> {
    rng: ChaCha8Rng,
    device: B::Device,
}

impl<B: Backend> Init<B> {
    /// A source that gives the same weights for the same seed.
    pub fn new(seed: u64, device: &B::Device) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), device: device.clone() }
    }

    fn param<const D: usize>(
        &mut self,
        shape: [usize; D],
        values: Vec<f32>,
    ) -> Param<Tensor<B, D>> {
        Param::from_data(TensorData::new(values, shape), &self.device)
    }

    /// A normal distribution of mean 0, cut at two standard deviations.
    pub fn truncated_normal<const D: usize>(
        &mut self,
        shape: [usize; D],
        std: f32,
    ) -> Param<Tensor<B, D>> {
        let mut draw = || loop {
            let x: f32 = self.rng.sample(StandardNormal);
            if x.abs() <= 2.0 {
                return x * std;
            }
        };
        let values = (0..shape.iter().product()).map(|_| draw()).collect();
        self.param(shape, values)
    }

    /// A uniform distribution on `[-bound, bound]`.
    pub fn uniform<const D: usize>(
        &mut self,
        shape: [usize; D],
        bound: f32,
    ) -> Param<Tensor<B, D>> {
        let count = shape.iter().product();
        let values = (0..count).map(|_| self.rng.random_range(-bound..=bound)).collect();
        self.param(shape, values)
    }

    /// One value everywhere.
    pub fn constant<const D: usize>(
        &mut self,
        shape: [usize; D],
        value: f32,
    ) -> Param<Tensor<B, D>> {
        let values = vec![value; shape.iter().product()];
        self.param(shape, values)
    }

    /// One value everywhere, in a tensor that no optimiser touches.
    pub fn buffer<const D: usize>(&mut self, shape: [usize; D], value: f32) -> Param<Tensor<B, D>> {
        self.constant(shape, value).set_require_grad(false)
    }
}
