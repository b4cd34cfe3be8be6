use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::{Tensor, activation::log_softmax};

use super::cross_entropy;
use crate::fused::{
    FusedOps, raw,
    testing::{check, wave},
    wrap,
};

/// Value and gradient against those that autodiff derives of the definition, of rows of more values than a cube
/// has units, and of targets that add up to more than 1.
fn fused_equals_its_definition<B: FusedOps>() {
    for [count, classes] in [[4, 3], [70, 10], [3, 1000]] {
        let targets = || wave::<B, 2>([count, classes], 0.3).square();
        let of = |x: Tensor<Autodiff<B>, 2>| {
            -(log_softmax(x, 1) * Tensor::from_inner(targets())).sum() / 8.0
        };
        check::<B>(
            &format!("cross-entropy of {count} times {classes}"),
            &[&[count, classes]],
            |x| {
                raw(cross_entropy::<Autodiff<B>>(
                    wrap(x[0].clone()),
                    Tensor::from_inner(targets()),
                    8,
                ))
            },
            |x| raw(of(wrap(x[0].clone()))),
        );
    }
}

#[test]
fn fused_equals_its_definition_on_flex() {
    fused_equals_its_definition::<Flex>();
}

#[test]
fn fused_equals_its_definition_on_ndarray() {
    fused_equals_its_definition::<NdArray>();
}

#[cfg(feature = "wgpu")]
#[test]
fn fused_equals_its_definition_on_wgpu() {
    crate::fused::testing::by_every_compiler(fused_equals_its_definition::<burn::backend::Wgpu>);
}
