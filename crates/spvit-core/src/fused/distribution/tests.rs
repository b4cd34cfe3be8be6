use burn::backend::{Autodiff, Flex, NdArray};

use super::{DistributionOps, plain};
use crate::fused::{FusedOps, testing::check};

fn fused_equals_plain<B: FusedOps>() {
    for alpha in [1.0, 0.3] {
        check::<B>(
            "head distribution",
            &[&[5, 49]],
            |x| Autodiff::<B>::head_distribution(x[0].clone(), alpha),
            |x| plain::head_distribution::<Autodiff<B>>(x[0].clone(), alpha),
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
    fused_equals_plain::<burn::backend::Wgpu>();
}
