use burn::backend::{Flex, NdArray};

use super::{Bottleneck, plain};
use crate::fused::{
    FusedOps, Grid, raw,
    testing::{close, wave},
};

/// One image and several, maps of one band and of many, every kernel, with tokens before the map
/// and without.
fn fused_equals_plain<B: FusedOps>() {
    let (d, dim) = (16, 24);
    for (batch, skipped) in [(1, 1), (3, 0), (2, 5)] {
        for (kernel, [height, width]) in
            [(1, [4, 5]), (3, [4, 5]), (3, [5, 4]), (5, [7, 3]), (3, [30, 60])]
        {
            let grid = Grid { height, width, kernel };
            let x = raw(wave::<B, 3>([batch, skipped + grid.tokens(), dim], 0.9));
            let weights = Bottleneck::<B> {
                kernel: raw(wave::<B, 4>([d, dim, kernel, kernel], 0.7)),
                scale: raw(wave::<B, 1>([d], 1.1)),
                shift: raw(wave::<B, 1>([d], 0.3)),
                w: raw(wave::<B, 2>([d, dim], 0.5)),
                b: raw(wave::<B, 1>([dim], 0.2)),
            };
            close::<B>(
                &format!("bottleneck {batch}x{skipped}+{height}x{width}, kernel {kernel}"),
                B::bottleneck(x.clone(), weights.clone(), grid),
                plain::bottleneck::<B>(x, weights, grid),
            );
        }
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
