use burn::backend::{Autodiff, Flex, NdArray};

use burn::tensor::ops::FloatTensor;

use super::{LinearOps, plain};
use crate::fused::{
    Activation, ActivationOps, FusedOps, NormOps, raw,
    testing::{check, close, wave},
    wrap,
};

/// Two maps with an activation between them, added to a residual whose sum is normalised: what a GPU makes one
/// kernel of with the product before it, and a bias whose gradient the norm's backward pass has added up. Before
/// the norm there is a row for every cube, and there are more rows than cubes.
fn what_follows_a_product_equals_plain<B: FusedOps>() {
    let chain = |x: Vec<FloatTensor<Autodiff<B>>>, affine: Affine<B>| {
        let [x, w1, b1, w2, b2, weight, bias] = x.try_into().unwrap();
        let hidden = Autodiff::<B>::activate(affine(x.clone(), w1, Some(b1)), Activation::Gelu);
        let sum = Autodiff::<B>::sum(x, affine(hidden, w2, Some(b2)));
        let normal = Autodiff::<B>::affine_layer_norm(sum.clone(), weight, bias, 1e-6);
        Autodiff::<B>::sum(sum, normal)
    };
    for rows in [6, 1500] {
        check::<B>(
            &format!("a network on {rows} rows"),
            &[&[rows, 16], &[16, 48], &[48], &[48, 16], &[16], &[16], &[16]],
            |x| chain(x, Autodiff::<B>::affine),
            |x| chain(x, plain::affine::<Autodiff<B>>),
        );
    }
}

type Affine<B> = fn(
    FloatTensor<Autodiff<B>>,
    FloatTensor<Autodiff<B>>,
    Option<FloatTensor<Autodiff<B>>>,
) -> FloatTensor<Autodiff<B>>;

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
    what_follows_a_product_equals_plain::<Flex>();
}

#[test]
fn fused_equals_plain_on_ndarray() {
    fused_equals_plain::<NdArray>();
    what_follows_a_product_equals_plain::<NdArray>();
}

#[cfg(feature = "wgpu")]
#[test]
fn fused_equals_plain_on_wgpu() {
    crate::fused::testing::by_every_compiler(|| {
        fused_equals_plain::<burn::backend::Wgpu>();
        what_follows_a_product_equals_plain::<burn::backend::Wgpu>();
    });
}
