use burn::backend::Flex;
use burn::tensor::{Tensor, ops::FloatTensor};

use super::{AdamWParameter, AdamWStep, Clip, adamw_update, averages, plain};
use crate::fused::{
    FusedOps,
    plain::flat,
    raw,
    testing::{close, device, wave},
};

const STEP: AdamWStep = AdamWStep {
    learning_rate: 0.1,
    weight_decay: 0.05,
    betas: [0.9, 0.999],
    epsilon: 1e-8,
    count: 1,
    grad_factor: 1.0,
};

/// PyTorch's own figures for one parameter: p = 1, g = 0.5, lr = 0.1, decay 0.05 gives
/// 1·(1 - 0.005) - 0.1 after the first step.
#[test]
fn a_first_update_is_pytorchs() {
    let one = |x: f32| raw(Tensor::<Flex, 1>::from_floats([x], &Default::default()));
    let parameter = |factor: f32| AdamWParameter {
        value: one(1.0),
        first: one(0.0),
        second: one(0.0),
        grad: Some(one(0.5 * factor)),
        decays: true,
    };
    let halved = AdamWStep { grad_factor: 0.5, ..STEP };
    for (factor, step) in [(1.0, STEP), (2.0, halved)] {
        let updated = adamw_update::<Flex>(vec![parameter(factor)], step, None);
        let values = updated.into_iter().flatten().map(|x| flat::<Flex>(x).into_scalar());
        let [p, m, v]: [f32; 3] = values.collect::<Vec<_>>().try_into().unwrap();
        assert!(
            (p - 0.895).abs() < 1e-6 && (m - 0.05).abs() < 1e-7 && (v / 2.5e-4 - 1.0).abs() < 1e-4
        );
    }
}

/// More parameters than a kernel takes, of different sizes, with and without decay and a gradient.
fn parameters<B: FusedOps>() -> Vec<AdamWParameter<FloatTensor<B>>> {
    let sizes = (0..40).map(|i| [1 + i % 3, [5, 300, 1][i % 3] * (1 + i / 3)]);
    let one = |(i, shape): (usize, [usize; 2])| {
        let values = |frequency: f64| wave::<B, 2>(shape, frequency + 0.01 * i as f64);
        AdamWParameter {
            value: raw(values(0.7)),
            first: raw(values(0.4)),
            second: raw(values(0.3).square()),
            grad: (i % 4 != 1).then(|| raw(values(0.9))),
            decays: i % 5 != 2,
        }
    };
    sizes.enumerate().map(one).collect()
}

fn fused_equals_plain<B: FusedOps>() {
    let step = AdamWStep { count: 7, grad_factor: 0.6, ..STEP };
    // Gradients of a norm of 5 before they are multiplied, and of 3 after.
    for limit in [None, Some(4.0), Some(2.0)] {
        let squares = || raw(Tensor::<B, 1>::from_floats([16.0, 9.0], &device::<B>()));
        let clip = || limit.map(|limit| Clip { squares: squares(), limit });
        let fused = adamw_update::<B>(parameters::<B>(), step, clip());
        let plain = plain::adamw_update::<B>(parameters::<B>(), step, clip());
        let by_hand = match limit {
            Some(limit) if limit < 3.0 => AdamWStep { grad_factor: 0.6 * limit / 3.0, ..step },
            _ => step,
        };
        let by_hand = plain::adamw_update::<B>(parameters::<B>(), by_hand, None);
        for fused in [&fused, &by_hand] {
            equal::<B>(fused, &plain);
        }
    }
    let pairs = || parameters::<B>().into_iter().map(|own| [own.value, own.first]).collect();
    let plain = plain::averages::<B>(pairs(), 0.9);
    for (i, (fused, plain)) in averages::<B>(pairs(), 0.9).into_iter().zip(plain).enumerate() {
        close::<B>(&format!("average {i}"), fused, plain);
    }
}

/// A moment that somebody else holds keeps its values, wherever the new ones are written.
fn others_tensors_stay_as_they_are<B: FusedOps>() {
    let updated = parameters::<B>();
    let held: Vec<_> =
        updated.iter().map(|own| [&own.value, &own.first, &own.second].map(Clone::clone)).collect();
    let before: Vec<_> =
        parameters::<B>().into_iter().map(|own| [own.value, own.first, own.second]).collect();
    let updated = adamw_update::<B>(updated, STEP, None);
    equal::<B>(&updated, &plain::adamw_update::<B>(parameters::<B>(), STEP, None));
    equal::<B>(&held, &before);
}

fn equal<B: FusedOps>(fused: &[[FloatTensor<B>; 3]], plain: &[[FloatTensor<B>; 3]]) {
    assert_eq!((fused.len(), plain.len()), (40, 40));
    for (i, (fused, plain)) in fused.iter().zip(plain).enumerate() {
        for (name, (fused, plain)) in
            ["parameter", "first", "second"].iter().zip(fused.iter().zip(plain))
        {
            close::<B>(&format!("{name} {i}"), fused.clone(), plain.clone());
        }
    }
}

#[test]
fn fused_equals_plain_on_flex() {
    fused_equals_plain::<Flex>();
    others_tensors_stay_as_they_are::<Flex>();
}

#[test]
fn fused_equals_plain_on_ndarray() {
    fused_equals_plain::<burn::backend::NdArray>();
    others_tensors_stay_as_they_are::<burn::backend::NdArray>();
}

#[cfg(feature = "wgpu")]
#[test]
fn fused_equals_plain_on_wgpu() {
    crate::fused::testing::by_every_compiler(|| {
        fused_equals_plain::<burn::backend::Wgpu>();
        others_tensors_stay_as_they_are::<burn::backend::Wgpu>();
    });
}
