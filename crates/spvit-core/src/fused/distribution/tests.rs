use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::{Tensor, ops::FloatTensor};

use super::{DistributionOps, plain};
use crate::fused::{FusedOps, raw, testing::check, wrap};

fn fused_equals_plain<B: FusedOps>() {
    for alpha in [1.0, 0.3] {
        check::<B>(
            "head distribution",
            &[&[5, 49]],
            |x| Autodiff::<B>::head_distribution(x[0].clone(), alpha),
            |x| plain::head_distribution::<Autodiff<B>>(x[0].clone(), alpha),
        );
    }
    for [n, heads, d, positions] in [[1, 3, 700, 9], [17, 4, 5, 1]] {
        check::<B>(
            "sum over heads",
            &[&[n, heads * d], &[heads, positions]],
            |x| Autodiff::<B>::head_sum(x[0].clone(), x[1].clone()),
            |x| plain::head_sum::<Autodiff<B>>(x[0].clone(), x[1].clone()),
        );
    }
    let both = |sum: fn(_, _) -> FloatTensor<Autodiff<B>>, x: Vec<FloatTensor<Autodiff<B>>>| {
        let sums = [&x[1], &x[2]].map(|w| wrap::<Autodiff<B>, 2>(sum(w.clone(), x[0].clone())));
        raw(Tensor::cat(sums.into(), 0))
    };
    check::<B>(
        "two sums by one distribution",
        &[&[3, 4], &[2, 15], &[7, 15]],
        |x| both(Autodiff::<B>::head_sum, x),
        |x| both(plain::head_sum::<Autodiff<B>>, x),
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

#[cfg(feature = "wgpu")]
#[test]
fn fused_equals_plain_on_wgpu() {
    crate::fused::testing::by_every_compiler(fused_equals_plain::<burn::backend::Wgpu>);
}
