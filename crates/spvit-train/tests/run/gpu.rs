//! A run on a GPU, or on software that stands in for one.

use std::fs;

use burn::backend::{Flex, Wgpu};

use crate::{finish, losses, support::short, teachers::model};

/// Twenty steps of search, ten of fine-tuning and what both choose by are a processor's but for rounding.
#[test]
fn a_run_is_that_of_a_processor_on_wgpu() {
    let folder = tempfile::tempdir().unwrap();
    let dense = folder.path().join("dense.safetensors");
    model(&dense, [28, 7, 1, 10, 32, 2, 2], 0);
    let mut config = short(&[
        "model.patch_size=7",
        "model.dim=32",
        "model.depth=2",
        "model.heads=2",
        "model.hidden=128",
        "search.epochs=4",
    ]);
    config.dense.weights = dense;
    let [here, there] = ["flex", "wgpu"].map(|name| folder.path().join(name));
    let processor = finish::<Flex>(&config, &here);
    let gpu = finish::<Wgpu>(&config, &there);
    let [ours, theirs] = [&here, &there].map(|root| losses(root));
    assert_eq!((ours.len(), theirs.len()), (6, 6));
    for (a, b) in ours.into_iter().zip(theirs) {
        assert!((a - b).abs() < 1e-4 * a, "losses {a} and {b}");
    }
    let architectures =
        [&here, &there].map(|root| fs::read(root.join("architecture.json")).unwrap());
    assert!(architectures[0] == architectures[1], "the searches end apart");
    for (a, b) in processor.models.iter().zip(&gpu.models) {
        assert_eq!((&a.name, a.accuracy, a.flops), (&b.name, b.accuracy, b.flops));
    }
}
