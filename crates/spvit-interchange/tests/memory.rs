//! Loading weights into a model never holds them three times.

#![allow(missing_docs)]

#[path = "../../spvit-formats/tests/support/memory.rs"]
mod memory;

use std::path::{Path, PathBuf};

use burn::backend::Flex;
use spvit_interchange::{ReadOptions, read, read_dense, weights};
use spvit_layers::{Init, ModelConfig, Vit, VitConfig, state};

/// Peak memory of loading a dense model, the loaded model included, in lengths of its file.
#[track_caller]
fn check(path: &Path, config: &ModelConfig) {
    let length = path.metadata().unwrap().len() as f64;
    let (dense, peak) =
        memory::peak(|| read_dense::<Flex>(path, config, 0, &Default::default()).unwrap());
    drop(dense);
    let options = ReadOptions { heads: Some(config.blocks()[0].heads), ..ReadOptions::default() };
    let (bare, bare_peak) =
        memory::peak(|| read::<Flex>(path, &options, 0, &Default::default()).unwrap());
    drop(bare);
    for (how, peak) in [("shape given", peak), ("shape of the file", bare_peak)] {
        let times = peak as f64 / length;
        println!("{}, {how}: {times:.2} times {length} bytes", path.display());
        assert!(times < 3.0, "{}: {times:.2} times", path.display());
    }
}

/// One test, as memory is measured: a model made here, then those of SPVIT_INTEROP_DIR.
#[test]
fn loading_takes_less_than_three_times_the_file() {
    let config = ModelConfig::from(VitConfig::deit([224, 16, 3, 1000, 384, 4, 6]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let fresh =
        Vit::<Flex>::new(&config, &config.dense_blocks(), &mut Init::new(0, &Default::default()));
    let tensors = weights::to_host(state::export(&fresh));
    spvit_formats::write_safetensors(&path, &tensors, &Default::default()).unwrap();
    drop((fresh, tensors));
    check(&path, &config);

    let Some(cases) = std::env::var_os("SPVIT_INTEROP_DIR") else {
        println!("skipped: SPVIT_INTEROP_DIR names no folder made by tests/interop/make_cases.py");
        return;
    };
    let models = std::fs::read_dir(Path::new(&cases).join("checkpoints")).unwrap();
    let mut models: Vec<PathBuf> = models.map(|entry| entry.unwrap().path()).collect();
    models.sort();
    for model in models {
        let config = ModelConfig::preset(&model.file_name().unwrap().to_string_lossy()).unwrap();
        for file in ["model.safetensors", "plain.zip.pth", "plain.legacy.pth"] {
            check(&model.join(file), &config);
        }
    }
}
