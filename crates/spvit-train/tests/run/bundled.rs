//! The run that `cargo xtask search` does.

use burn::backend::Flex;

use crate::{config, finish};

/// `cargo xtask search` printed 92.20 % (dense 92.30 %, cut 92.40 %); processors with other
/// vector units round differently, which moves a run by a few test images in 2,000.
#[test]
fn the_bundled_search_keeps_its_accuracy_at_its_budget() {
    let folder = tempfile::tempdir().unwrap();
    let summary = finish::<Flex>(&config("demo.toml", &[]), folder.path());
    let [dense, searched, compact] = &summary.models[..] else {
        panic!("expected three models, found {:?}", summary.models);
    };
    assert!((dense.accuracy - 0.923).abs() < 0.002, "dense: {}", dense.accuracy);
    assert!(compact.accuracy > 0.915, "compact: {}", compact.accuracy);
    assert!(searched.accuracy > 0.915, "cut and fitted, not tuned: {}", searched.accuracy);
    let target = summary.target_flops.unwrap() as f64;
    assert!(compact.flops as f64 <= target, "{} FLOPs for {target}", compact.flops);
    assert!(compact.flops as f64 > 0.995 * target, "{} FLOPs for {target}", compact.flops);
    assert!((dense.flops as f64 * 0.6 - target).abs() <= 1.0);
}
