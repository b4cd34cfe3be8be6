use burn::backend::Flex;
use burn::tensor::Tensor;

use super::{AdamWStep, adamw_update, plain};
use crate::fused::{plain::flat, raw};

/// The update by the kernel, by plain operations, and PyTorch's own figures for one parameter:
/// p = 1, g = 0.5, lr = 0.1, decay 0.05 gives 1·(1 - 0.005) - 0.1 after the first step.
#[test]
fn adamw_updates_agree() {
    let device = Default::default();
    let step = |count| AdamWStep {
        learning_rate: 0.1,
        weight_decay: 0.05,
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        count,
    };
    let one = |x: f32| Tensor::<Flex, 1>::from_floats([x], &device);
    let [p, m, v] = adamw_update([one(1.0), one(0.0), one(0.0), one(0.5)], step(1));
    assert!((p.clone().into_scalar() - 0.895).abs() < 1e-6);
    let inputs = [p, m, v, one(-0.25)];
    let plain = plain::adamw_update::<Flex>(inputs.clone().map(raw), step(2)).map(flat::<Flex>);
    for (a, b) in adamw_update(inputs, step(2)).into_iter().zip(plain) {
        assert!((a.into_scalar() - b.into_scalar()).abs() < 1e-7);
    }
}
