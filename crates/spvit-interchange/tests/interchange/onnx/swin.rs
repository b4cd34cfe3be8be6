//! Swins: windows with shift and padding, odd maps, and every operation.

use spvit_layers::{BlockStyle, ModelConfig, Operation, SwinConfig};

use super::{block, check, check_dense, check_gone};

/// Maps of 5×7, 3×4 and 2×2 patches: windows of 3×3 with shift and padding along both sides, then
/// along one, then a single window; both first maps are padded before they are halved.
fn swin() -> SwinConfig {
    SwinConfig {
        image_size: [10, 14],
        patch_size: 2,
        channels: 3,
        classes: 5,
        dim: 8,
        depths: vec![2, 2, 1],
        heads: vec![2, 2, 4],
        window: 3,
        mlp_ratio: 2.0,
        style: BlockStyle { epsilon: 1e-5, ..BlockStyle::default() },
    }
}

#[test]
fn shifts_padding_and_odd_maps() {
    for (what, config) in [
        ("odd maps", swin()),
        ("whole windows", SwinConfig { image_size: [24, 24], ..swin() }),
        ("windows of one side", SwinConfig { image_size: [6, 40], window: 4, ..swin() }),
        ("a window larger than the map", SwinConfig { window: 12, ..swin() }),
        ("one stage", SwinConfig { depths: vec![2], heads: vec![2], ..swin() }),
    ] {
        check_dense(what, config);
    }
}

#[test]
fn what_is_in_the_blocks() {
    let style = BlockStyle { layer_scale: true, qk_norm: true, epsilon: 1e-3, ..swin().style };
    check_dense("LayerScale and QK norm", SwinConfig { style, ..swin() });
}

#[test]
fn every_operation_and_empty_ffns() {
    use Operation::{BConv, Msa, Shortcut};
    let blocks =
        [block(BConv(3), 5), block(Msa, 0), block(Shortcut, 0), block(BConv(1), 3), block(Msa, 7)];
    for shortcut_adds_norm in [false, true] {
        let style = BlockStyle { shortcut_adds_norm, ..swin().style };
        check("operations", ModelConfig::from(SwinConfig { style, ..swin() }), &blocks);
    }
}

#[test]
fn blocks_that_add_nothing_disappear() {
    use Operation::{Msa, Shortcut};
    // The second and fourth are those before a merging.
    let blocks =
        [block(Msa, 5), block(Shortcut, 0), block(Msa, 3), block(Shortcut, 0), block(Shortcut, 2)];
    check_gone(swin(), &blocks, &["layers.0.blocks.1", "layers.1.blocks.1"]);
}
