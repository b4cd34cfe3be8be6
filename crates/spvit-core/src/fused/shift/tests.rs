use burn::backend::{Autodiff, Flex, NdArray};

use super::{Grid, ShiftOps, plain};
use crate::fused::{
    FusedOps, raw,
    testing::{check, close, wave},
};

fn fused_equals_plain<B: FusedOps>() {
    // Kernels of both sizes, with tokens before the map and without.
    for (kernel, skipped) in [(3, 0), (5, 0), (3, 1), (3, 4)] {
        let grid = Grid { height: 4, width: 5, kernel };
        let (tokens, positions) = (skipped + grid.tokens(), grid.positions());
        check::<B>(
            &format!("mix_shift, kernel {kernel} after {skipped} tokens"),
            &[&[2, tokens, 3 * 4], &[3, positions]],
            |x| Autodiff::<B>::mix_shift(x[0].clone(), x[1].clone(), grid),
            |x| plain::mix_shift::<Autodiff<B>>(x[0].clone(), x[1].clone(), grid),
        );
        check::<B>(
            &format!("shift_sum, kernel {kernel} after {skipped} tokens"),
            &[&[2, tokens, positions * 4]],
            |x| Autodiff::<B>::shift_sum(x[0].clone(), grid),
            |x| plain::shift_sum::<Autodiff<B>>(x[0].clone(), grid),
        );
        let v = raw(wave::<B, 3>([2, tokens, 3 * 4], 0.4));
        let p = raw(wave::<B, 2>([3, positions], 0.7));
        let grad = raw(wave::<B, 3>([2, grid.tokens(), 4], 0.3));
        let expected = plain::mix_shift_backward::<B>(v.clone(), p.clone(), grad.clone(), grid);
        for (a, b) in expected.into_iter().zip(B::mix_shift_backward(v, p, grad.clone(), grid)) {
            close::<B>("plain backward of mix_shift", a, b);
        }
        close::<B>(
            "plain backward of shift_sum",
            plain::shift_sum_backward::<B>(grad.clone(), skipped, grid),
            B::shift_sum_backward(grad, skipped, grid),
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
