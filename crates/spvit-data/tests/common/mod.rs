//! Tiny data sets on disk.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

/// An IDX file's bytes.
pub fn idx(dimensions: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
    dimensions.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(data);
    bytes
}

/// Pixels that differ from image to image and from place to place.
pub fn pixels(images: usize, bytes: usize) -> Vec<u8> {
    (0..images * bytes).map(|at| (at / bytes * 31 + at % bytes * 7) as u8).collect()
}

/// Labels 0, 1, 2, 0, 1, 2, ...
pub fn labels(images: usize, classes: usize) -> Vec<u8> {
    (0..images).map(|image| (image % classes) as u8).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes an MNIST-family data set of 3 classes and 4 x 5 pixels, its training files compressed.
pub fn write_idx(folder: &Path, train: usize, test: usize) {
    let images = |count| idx(&[count as u32, 4, 5], &pixels(count, 20));
    let labels = |count| idx(&[count as u32], &labels(count, 3));
    fs::write(folder.join("train-images-idx3-ubyte.gz"), gzip(&images(train))).unwrap();
    fs::write(folder.join("train-labels-idx1-ubyte.gz"), gzip(&labels(train))).unwrap();
    fs::write(folder.join("t10k-images-idx3-ubyte"), images(test)).unwrap();
    fs::write(folder.join("t10k-labels-idx1-ubyte"), labels(test)).unwrap();
}

/// Writes one CIFAR file; each record has `label_bytes` of its labels and a constant image.
pub fn write_cifar(file: &Path, records: &[(&[u8], u8)]) {
    let mut output = File::create(file).unwrap();
    for (label_bytes, value) in records {
        output.write_all(label_bytes).unwrap();
        output.write_all(&[*value; 3072]).unwrap();
    }
}

/// Writes CIFAR-10's six files, two images each; image i has label and value i.
pub fn write_cifar10(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for batch in 0..5u8 {
        let (a, b) = (2 * batch, 2 * batch + 1);
        write_cifar(&folder.join(format!("data_batch_{}.bin", batch + 1)), &[(&[a], a), (&[b], b)]);
    }
    write_cifar(&folder.join("test_batch.bin"), &[(&[3], 30), (&[4], 40)]);
}
