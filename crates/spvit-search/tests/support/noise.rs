//! Numbers to test with.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use spvit_layers::state::{self, Named};

/// Reproducible numbers without a crate: the values matter to no test, only that they vary.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform on (0, 1) (SplitMix64).
    pub fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((z ^ (z >> 31)) >> 41) as f32 + 0.5) / (1u32 << 23) as f32
    }

    /// Uniform on (-size, size).
    pub fn around_zero(&mut self, size: f32) -> f32 {
        (2.0 * self.uniform() - 1.0) * size
    }

    /// A tensor of [`Noise::around_zero`].
    pub fn tensor<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        size: f32,
    ) -> Tensor<B, D> {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| self.around_zero(size)).collect();
        Tensor::from_data(TensorData::new(values, shape), &super::device::<B>())
    }

    /// A model whose every tensor, biases and running statistics too, has other values than at its
    /// start, so that no test passes because something is 0 or 1.
    pub fn fill<B: Backend, M: Named<B>>(&mut self, model: M) -> M {
        let mut state = state::export(&model);
        for (name, data) in &mut state {
            let shape = data.shape.to_vec();
            // Maps keep the size of what passes through them.
            let size = match shape.len() {
                2 if !name.contains("head_probs") => 1.7 / (shape[1] as f32).sqrt(),
                4 => 1.7 / (shape[1..].iter().product::<usize>() as f32).sqrt(),
                _ => 0.3,
            };
            let centre = match name {
                _ if name.contains("running_var") => 0.8,
                _ if name.ends_with("weight") && shape.len() == 1 => 1.0,
                _ => 0.0,
            };
            // Over α = 0.01, these logits give head distributions that are neither flat nor sharp.
            let size = if name.contains("head_probs") { 0.02 } else { size };
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|_| centre + self.around_zero(size)).collect();
            *data = TensorData::new(values, shape);
        }
        state::import(model, &state).unwrap()
    }
}
