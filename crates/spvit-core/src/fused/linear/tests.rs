use burn::backend::{Autodiff, Flex, NdArray};

use super::{LinearOps, plain};
use crate::fused::{
    FusedOps, raw,
    testing::{check, close, wave},
    wrap,
};

fn fused_equals_plain<B: FusedOps>() {
    check::<B>(
        "affine",
        &[&[3, 7, 11], &[11, 5], &[5]],
        |x| Autodiff::<B>::affine(x[0].clone(), x[1].clone(), Some(x[2].clone())),
        |x| plain::affine::<Autodiff<B>>(x[0].clone(), x[1].clone(), Some(x[2].clone())),
    );
    check::<B>(
        "affine without bias",
        &[&[3, 7, 11], &[11, 5]],
        |x| Autodiff::<B>::affine(x[0].clone(), x[1].clone(), None),
        |x| plain::affine::<Autodiff<B>>(x[0].clone(), x[1].clone(), None),
    );
    check::<B>(
        "sum",
        &[&[3, 7, 19], &[3, 7, 19]],
        |x| Autodiff::<B>::sum(x[0].clone(), x[1].clone()),
        |x| raw(wrap::<Autodiff<B>, 3>(x[0].clone()) + wrap(x[1].clone())),
    );
    let (x, w) = (raw(wave::<B, 3>([3, 7, 11], 0.4)), raw(wave::<B, 2>([11, 5], 0.3)));
    let grad = raw(wave::<B, 3>([3, 7, 5], 0.7));
    close::<B>(
        "plain backward, x",
        plain::affine_x_backward::<B>(w.clone(), grad.clone()),
        B::affine_x_backward(w, grad.clone()),
    );
    close::<B>(
        "plain backward, w",
        plain::affine_w_backward::<B>(x.clone(), grad.clone()),
        B::affine_w_backward(x, grad.clone()),
    );
    close::<B>(
        "plain backward, b",
        plain::affine_b_backward::<B>(grad.clone()),
        B::affine_b_backward(grad),
    );
}

#[test]
fn fused_equals_plain_on_flex() {
    fused_equals_plain::<Flex>();
}

#[test]
fn fused_equals_plain_on_ndarray() {
    fused_equals_plain::<NdArray>();
}
