//! With the files that tests/interop/make_cases.py makes: every packaging gives the same tensors,
//! and every network is exported for the checks that follow. See tests/interop/README.md.

#![allow(missing_docs)]

#[path = "support/memory.rs"]
mod memory;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use spvit_formats::onnx::{self, NetworkDescription};
use spvit_formats::{read, write_safetensors};

/// One at a time: memory is measured.
static ALONE: Mutex<()> = Mutex::new(());

/// The entries of a folder of the cases, or `None`, said aloud, where there are no cases.
fn cases(kind: &str) -> Option<Vec<PathBuf>> {
    let Some(folder) = std::env::var_os("SPVIT_INTEROP_DIR") else {
        println!("skipped: SPVIT_INTEROP_DIR names no folder made by tests/interop/make_cases.py");
        return None;
    };
    let found = entries(&Path::new(&folder).join(kind));
    assert!(!found.is_empty(), "no {kind} in {folder:?}");
    Some(found)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let list = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut list: Vec<_> = list.map(|entry| entry.expect("an entry").path()).collect();
    list.sort();
    list
}

#[test]
fn every_packaging_gives_the_same_tensors() {
    let Some(models) = cases("checkpoints") else {
        return;
    };
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    for model in models {
        let reference = read(model.join("reference.safetensors")).unwrap_or_else(|e| panic!("{e}"));
        let packed = entries(&model);
        let packed = packed.iter().filter(|path| {
            !path.ends_with("reference.safetensors") && !path.ends_with("io.safetensors")
        });
        let mut count = 0;
        for path in packed {
            let (found, peak) = memory::peak(|| read(path));
            let found = found.unwrap_or_else(|e| panic!("{e}"));
            assert!(found.tensors == reference.tensors, "{} has other tensors", path.display());
            let len = path.metadata().expect("the file is there").len() as usize;
            let times = peak as f64 / len as f64;
            println!("{}: {times:.2} times {len} bytes", path.display());
            assert!(times < 3.0, "{}: {peak} bytes of memory for {len}", path.display());
            count += 1;
        }
        assert!(count >= 10, "only {count} packagings in {}", model.display());
    }
}

#[test]
fn every_network_is_exported() {
    let Some(networks) = cases("networks") else {
        return;
    };
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    for folder in networks {
        let json = std::fs::read(folder.join("network.json")).expect("a description");
        let network: NetworkDescription = serde_json::from_slice(&json).expect("a description");
        let weights = read(folder.join("weights.safetensors")).unwrap_or_else(|e| panic!("{e}"));
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let exported = folder.join("exported.safetensors");
        write_safetensors(exported, &weights.tensors, &metadata).unwrap_or_else(|e| panic!("{e}"));
        let file = folder.join("network.onnx");
        let (written, peak) =
            memory::peak(|| onnx::write(&file, &network, &weights.tensors, &onnx::Form::default()));
        written.unwrap_or_else(|e| panic!("{e}"));
        let len = file.metadata().expect("written").len();
        println!("{}: {len} bytes, written with {peak} bytes of memory", file.display());
    }
}
