//! What timm, torchvision and Pillow computed: written by `tests/interop/augment_cases.py`.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::pixels::Pixels;

#[derive(Deserialize)]
struct Place {
    offset: usize,
    shape: [usize; 3],
}

static CASES: LazyLock<(Value, Vec<u8>)> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/augment");
    let text = fs::read_to_string(folder.join("cases.json")).unwrap();
    let mut bytes = Vec::new();
    let file = File::open(folder.join("images.bin.gz")).unwrap();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    (serde_json::from_str(&text).unwrap(), bytes)
});

/// All cases of one kind, at least one.
pub(crate) fn cases<T: DeserializeOwned>(kind: &str) -> Vec<T> {
    let cases: Vec<T> = serde_json::from_value(CASES.0[kind].clone()).unwrap();
    assert!(!cases.is_empty(), "no case of {kind}");
    cases
}

/// A stored image.
pub(crate) fn image(number: usize) -> Pixels {
    let Place { offset, shape: [height, width, channels] } =
        serde_json::from_value(CASES.0["images"][number].clone()).unwrap();
    let bytes = CASES.1[offset..][..height * width * channels].to_vec();
    Pixels::new([height, width], channels, bytes).unwrap()
}

/// How many values differ, and the largest difference.
pub(crate) fn difference(found: &Pixels, expected: &Pixels) -> (usize, u8) {
    assert_eq!((found.size(), found.channels()), (expected.size(), expected.channels()));
    let differences = found.bytes().iter().zip(expected.bytes()).map(|(a, b)| a.abs_diff(*b));
    (differences.clone().filter(|&by| by > 0).count(), differences.max().unwrap_or(0))
}
