use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::ops::{FloatTensor, FloatTensorOps};

use super::{NormOps, plain};
use crate::fused::{
    FusedOps, raw,
    testing::{check, close, wave},
};

/// More rows than a kernel has partial sums.
const MANY: usize = 2600;

/// Narrow rows, wide ones, and many; ndarray's plain reciprocals of 32 or more values are too inexact to
/// be held to.
fn fused_equals_plain<B: FusedOps>(many: usize) {
    for [rows, width] in [[21, 19], [5, 1100], [many, 7]] {
        check::<B>(
            "layer norm",
            &[&[rows, width], &[width], &[width]],
            |x| Autodiff::<B>::affine_layer_norm(x[0].clone(), x[1].clone(), x[2].clone(), 1e-6),
            |x| plain::layer_norm::<Autodiff<B>>(x[0].clone(), x[1].clone(), x[2].clone(), 1e-6),
        );
    }
    // A residual, whose gradient the norm's is added to, that is used after the norm.
    let residual = |x: FloatTensor<Autodiff<B>>, normal: FloatTensor<Autodiff<B>>| {
        Autodiff::<B>::float_add(x, normal)
    };
    check::<B>(
        "layer norm of a residual",
        &[&[2, 5, 19], &[19], &[19]],
        |x| {
            let own = x[0].clone();
            let [own, w, b] =
                [Autodiff::<B>::float_mul_scalar(own, 0.5.into()), x[1].clone(), x[2].clone()];
            residual(own.clone(), Autodiff::<B>::affine_layer_norm(own, w, b, 1e-6))
        },
        |x| {
            let own = x[0].clone();
            let [own, w, b] =
                [Autodiff::<B>::float_mul_scalar(own, 0.5.into()), x[1].clone(), x[2].clone()];
            residual(own.clone(), plain::layer_norm::<Autodiff<B>>(own, w, b, 1e-6))
        },
    );
    check::<B>(
        "root mean square norm",
        &[&[3, 7, 19], &[19]],
        |x| Autodiff::<B>::rms_norm(x[0].clone(), x[1].clone(), 1e-6),
        |x| plain::rms_norm::<Autodiff<B>>(x[0].clone(), x[1].clone(), 1e-6),
    );
}

#[test]
fn fused_equals_plain_on_flex() {
    fused_equals_plain::<Flex>(MANY);
}

#[test]
fn fused_equals_plain_on_ndarray() {
    fused_equals_plain::<NdArray>(31);
}

#[cfg(feature = "wgpu")]
#[test]
fn fused_equals_plain_on_wgpu() {
    crate::fused::testing::by_every_compiler(|| fused_equals_plain::<burn::backend::Wgpu>(MANY));
}

#[test]
fn plain_backward_passes_equal_the_kernels() {
    let (x, grad) = (wave::<Flex, 3>([2, 150, 6], 0.4), wave::<Flex, 3>([2, 150, 6], 0.3));
    let weight = wave::<Flex, 1>([6], 0.9);
    let inputs = || (raw(x.clone()), raw(weight.clone()), raw(grad.clone()));
    let (x, w, g) = inputs();
    let earlier = || Some(raw(wave::<Flex, 3>([2, 150, 6], 0.7)));
    let expected = plain::layer_norm_backward::<Flex>(x, w, g, earlier(), 1e-6);
    let (x, w, g) = inputs();
    let found = Flex::affine_layer_norm_backward(x, w, g, earlier(), 1e-6);
    for (a, b) in expected.into_iter().zip(found) {
        close::<Flex>("layer norm", a, b);
    }
    let (x, w, g) = inputs();
    let expected = plain::rms_norm_backward::<Flex>(x, w, g, 1e-6);
    let (x, w, g) = inputs();
    for (a, b) in expected.into_iter().zip(Flex::rms_norm_backward(x, w, g, 1e-6)) {
        close::<Flex>("root mean square norm", a, b);
    }
}
