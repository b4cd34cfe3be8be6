use burn::backend::{Autodiff, Flex, NdArray};

use super::{TokenMap, TokenOps, plain};
use crate::fused::{
    FusedOps, raw,
    testing::{check, close, wave},
};

/// A 5×3 map in 2×2 windows after a cyclic shift, padded to 6×4.
fn windows() -> TokenMap {
    let (height, width) = (5, 3);
    let source = |j: usize| {
        let (window, within) = (j / 4, j % 4);
        let y = (window / 2 * 2 + within / 2 + 1) % 6;
        let x = (window % 2 * 2 + within % 2 + 1) % 4;
        (y < height && x < width).then_some((y * width + x) as u32)
    };
    TokenMap::new((0..24).map(source).collect(), height * width)
}

fn fused_equals_plain<B: FusedOps>() {
    for prefix in [1, 3] {
        check::<B>(
            &format!("tokens after {prefix}"),
            &[&[3, 4, 5], &[1, prefix, 5], &[1, prefix + 4, 5]],
            |x| Autodiff::<B>::tokens(x[0].clone(), x[1].clone(), x[2].clone()),
            |x| plain::tokens::<Autodiff<B>>(x[0].clone(), x[1].clone(), x[2].clone()),
        );
        let grad = raw(wave::<B, 3>([3, 7, 5], 0.3));
        let expected = plain::tokens_backward::<B>(grad.clone(), prefix);
        for (a, b) in expected.into_iter().zip(B::tokens_backward(grad, prefix)) {
            close::<B>("plain backward", a, b);
        }
    }
    for prefix in [1, 3] {
        let shapes: [&[usize]; 2] = [&[3, prefix + 4, 5], &[3, 4, 5]];
        check::<B>(
            &format!("after a prefix of {prefix}"),
            &shapes,
            |x| Autodiff::<B>::with_prefix(x[0].clone(), x[1].clone()),
            |x| plain::with_prefix::<Autodiff<B>>(x[0].clone(), x[1].clone()),
        );
        for earlier in [None, Some(raw(wave::<B, 3>([3, 7, 5], 0.8)))] {
            let grad = raw(wave::<B, 3>([3, 7, 5], 0.3));
            let expected = plain::with_prefix_backward::<B>(grad.clone(), earlier.clone(), prefix);
            let found = B::with_prefix_backward(grad, earlier, prefix);
            for (a, b) in expected.into_iter().zip(found) {
                close::<B>("after a prefix, backward", a, b);
            }
        }
    }
    check::<B>(
        "patch_rows of images that want a gradient",
        &[&[2, 3, 6, 8]],
        |x| Autodiff::<B>::patch_rows(x[0].clone(), 2),
        |x| plain::patch_rows::<Autodiff<B>>(x[0].clone(), 2),
    );
    let images = raw(wave::<B, 4>([2, 3, 6, 8], 0.4));
    close::<B>("patch_rows", B::patch_rows(images.clone(), 2), plain::patch_rows::<B>(images, 2));
    let turned = TokenMap::new((0..15).rev().map(Some).collect(), 15);
    for map in [windows(), windows().inverse(), turned] {
        check::<B>(
            "gather_tokens",
            &[&[3, map.inputs(), 7]],
            |x| Autodiff::<B>::gather_tokens(x[0].clone(), &map),
            |x| plain::gather_tokens::<Autodiff<B>>(x[0].clone(), &map),
        );
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

#[test]
fn there_and_back_is_the_same() {
    let x = wave::<Flex, 3>([2, 15, 4], 0.7);
    let map = windows();
    let there = crate::fused::gather_tokens(x.clone(), &map);
    assert_eq!(there.dims(), [2, 24, 4]);
    let back = crate::fused::gather_tokens(there, &map.inverse());
    assert_eq!(back.into_data(), x.into_data());
}
