use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::{Tensor, activation::sigmoid, ops::FloatTensor};

use super::{GateOps, largest_threshold, plain};
use crate::fused::{
    FusedOps, raw,
    testing::{check, close, device, wave},
    wrap,
};

/// A soft gate as autodiff differentiates it, with the values of a hard one.
fn straight<B: FusedOps>(
    hard: FloatTensor<B>,
    soft: Tensor<Autodiff<B>, 1>,
) -> FloatTensor<Autodiff<B>> {
    raw(Tensor::from_inner(wrap::<B, 1>(hard)) + (soft.clone() - soft.detach()))
}

fn fused_equals_plain<B: FusedOps>() {
    let uniform = || wave::<B, 1>([500], 0.7) * 0.49 + 0.5;
    let inner = |x: &FloatTensor<Autodiff<B>>| x.primitive.clone();
    check::<B>(
        "sampled gates",
        &[&[500]],
        |x| {
            Autodiff::<B>::sampled_gates(
                x[0].clone(),
                raw(Tensor::<Autodiff<B>, 1>::from_inner(uniform())),
            )
        },
        |x| {
            let [hard, _] = plain::sampled::<B>(inner(&x[0]), raw(uniform()));
            let drawn = uniform().log() - (-uniform() + 1.0).log();
            straight(hard, sigmoid(wrap(x[0].clone()) + Tensor::from_inner(drawn)))
        },
    );
    check::<B>(
        "expected gates",
        &[&[500]],
        |x| Autodiff::<B>::expected_gates(x[0].clone()),
        |x| {
            let [hard, _, _] = plain::expected::<B>(inner(&x[0]));
            straight(hard, sigmoid(sigmoid(wrap(x[0].clone())) - 0.5))
        },
    );
    for shape in [[12, 3], [1, 1], [300, 5]] {
        check::<B>(
            &format!("single paths {shape:?}"),
            &[&shape],
            |x| Autodiff::<B>::single_path(x[0].clone()),
            |x| plain::single_path::<Autodiff<B>>(x[0].clone()),
        );
    }
    // At the ends, where a threshold has no gradient and a draw no logarithm.
    let most = largest_threshold();
    let thetas = [-20.0, -most, 0.0, most, 20.0];
    let of = |values: [f32; 5]| raw(Tensor::<B, 1>::from_floats(values, &device::<B>()));
    for u in [0.0, 0.5, 1.0] {
        let ([hard, soft], [plain_hard, plain_soft]) =
            (B::sampled(of(thetas), of([u; 5])), plain::sampled::<B>(of(thetas), of([u; 5])));
        close::<B>("hard gates at the ends", hard, plain_hard);
        close::<B>("soft gates at the ends", soft.clone(), plain_soft);
        let grads = wrap::<B, 1>(B::sampled_backward(of(thetas), soft, of([1.0; 5]))).into_data();
        let grads: Vec<f32> = grads.iter().collect();
        assert_eq!([grads[0], grads[4]], [0.0; 2], "beyond the ends");
    }
}

#[test]
fn fused_equals_plain_on_flex() {
    fused_equals_plain::<Flex>();
}

#[test]
fn fused_equals_plain_on_ndarray() {
    fused_equals_plain::<NdArray>();
}

#[cfg(feature = "wgpu")]
#[test]
fn fused_equals_plain_on_wgpu() {
    crate::fused::testing::by_every_compiler(fused_equals_plain::<burn::backend::Wgpu>);
}
