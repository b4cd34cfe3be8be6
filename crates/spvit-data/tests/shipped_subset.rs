//! The subset in `data/` is the one its README describes.

use std::fs;
use std::path::{Path, PathBuf};

use spvit_data::bundle::write_subset;
use spvit_data::{DatasetOptions, load};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion-mnist-mini")
}

#[test]
fn it_has_the_documented_counts_and_fingerprint() {
    let data = load(&shipped(), &DatasetOptions::new(1000)).unwrap();
    assert_eq!(data.name, "fashion-mnist-mini");
    assert_eq!(data.train.class_counts(), [900; 10]);
    assert_eq!(data.validation.class_counts(), [100; 10]);
    assert_eq!(data.test.class_counts(), [200; 10]);
    assert_eq!(
        (
            data.train.channels(),
            data.train.in_memory().unwrap().height(),
            data.train.in_memory().unwrap().width()
        ),
        (1, 28, 28)
    );
    assert_eq!(
        (data.class_names[0].as_str(), data.class_names[9].as_str()),
        ("T-shirt/top", "Ankle boot")
    );
    assert_eq!(
        data.fingerprint,
        "ac774facd89c429c6228ce8f7d35c254602a9d02e8c41ba678c538bedaf113a5"
    );
}

#[test]
fn it_is_small_enough_for_a_checkout() {
    let files = fs::read_dir(shipped()).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 6_000_000, "{bytes} bytes");
}

#[test]
fn it_is_what_the_command_in_its_readme_makes() {
    let dest = tempfile::tempdir().unwrap();
    let source = Path::new("/usr/share/datasets/fashion-mnist");
    if !source.exists() {
        println!("skipped: Debian's package dataset-fashion-mnist is not installed");
        return;
    }
    let subset = write_subset(source, dest.path(), 9000, 1000, 2000).unwrap();
    for file in subset.files {
        let name = file.file_name().unwrap();
        assert_eq!(
            fs::read(&file).unwrap(),
            fs::read(shipped().join(name)).unwrap(),
            "{}",
            name.display()
        );
    }
}
