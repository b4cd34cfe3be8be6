//! Bad input gives an error that names the file, what was expected and what was found.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use spvit_data::{DatasetOptions, Format, load};
use tempfile::{TempDir, tempdir};

use common::{gzip, idx, labels, pixels, write_cifar, write_cifar10, write_idx};

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte.gz";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte.gz";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

/// A sound IDX data set of ten training and four test images.
fn sound() -> TempDir {
    let folder = tempdir().unwrap();
    write_idx(folder.path(), 10, 4);
    folder
}

fn message(folder: &Path) -> String {
    load(folder, &DatasetOptions::new(2)).unwrap_err().to_string()
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
}

/// What loading says after `file` of a sound data set was given these bytes.
fn message_after(file: &str, bytes: &[u8]) -> String {
    let folder = sound();
    fs::write(folder.path().join(file), bytes).unwrap();
    let message = message(folder.path());
    assert_says(&message, &[&folder.path().join(file).display().to_string()]);
    message
}

#[test]
fn a_missing_folder_is_named_with_what_it_should_hold() {
    assert_says(
        &message(Path::new("no/such/folder")),
        &[
            "no data folder at no/such/folder",
            "train-images-idx3-ubyte",
            "data_batch_1.bin",
            "train.bin",
        ],
    );
}

#[test]
fn a_folder_without_a_data_set_is_told_what_was_found() {
    let folder = tempdir().unwrap();
    assert_says(&message(folder.path()), &["no known data set", "an empty folder"]);
    (0..10).for_each(|number| fs::write(folder.path().join(format!("notes{number}")), "").unwrap());
    assert_says(&message(folder.path()), &["found notes0, notes1", "notes7 and 2 more"]);
}

#[test]
fn a_missing_companion_is_named() {
    for file in [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS] {
        let folder = sound();
        fs::remove_file(folder.path().join(file)).unwrap();
        assert_says(&message(folder.path()), &["missing file", file.trim_end_matches(".gz")]);
    }
    let folder = tempdir().unwrap();
    write_cifar10(folder.path());
    fs::remove_file(folder.path().join("data_batch_4.bin")).unwrap();
    assert_says(&message(folder.path()), &["missing file", "data_batch_4.bin", "CIFAR-10"]);
}

#[test]
fn a_format_that_is_not_there_is_missed_by_name() {
    let folder = sound();
    let options = DatasetOptions { format: Format::Cifar100, ..DatasetOptions::new(0) };
    assert_says(
        &load(folder.path(), &options).unwrap_err().to_string(),
        &["missing file", "train.bin", "CIFAR-100"],
    );
}

#[test]
fn a_wrong_magic_number_is_shown() {
    let found = message_after(TEST_IMAGES, &idx(&[4], &labels(4, 3)));
    assert_says(&found, &["starts with [00, 00, 08, 03]", "found [00, 00, 08, 01]"]);
    assert_says(
        &message_after(TEST_LABELS, b"no"),
        &["starts with [00, 00, 08, 01]", "found [6e, 6f]"],
    );
    assert_says(&message_after(TEST_LABELS, b""), &["found []"]);
}

#[test]
fn a_compressed_file_without_its_ending_is_recognised() {
    assert_says(
        &message_after(TEST_LABELS, &gzip(&idx(&[4], &labels(4, 3)))),
        &["give its name the ending .gz"],
    );
}

#[test]
fn a_short_header_is_refused() {
    let found = message_after(TEST_IMAGES, &idx(&[4, 4], &[])[..8]);
    assert_says(&found, &["found [00, 00, 08, 02]"]);
    assert_says(
        &message_after(TEST_IMAGES, &idx(&[4, 4, 5], &[])[..11]),
        &["header of 16 bytes", "found 11 bytes"],
    );
}

#[test]
fn data_of_another_length_than_announced_is_refused() {
    let images = idx(&[4, 4, 5], &pixels(4, 20));
    let short = message_after(TEST_IMAGES, &images[..images.len() - 1]);
    assert_says(&short, &["expected 80 bytes after the header", "only 79: the file is cut short"]);
    let long = message_after(TEST_IMAGES, &[&images[..], &[0]].concat());
    assert_says(&long, &["expected 80 bytes after the header", "found more"]);
    let long = message_after(TRAIN_LABELS, &gzip(&idx(&[10], &labels(11, 3))));
    assert_says(&long, &["expected 10 bytes after the header", "found more"]);
}

#[test]
fn absurd_sizes_are_refused_without_being_allocated() {
    // Within bounds, but 4 GiB that the file does not have.
    assert_says(
        &message_after(TEST_IMAGES, &idx(&[200, 4096, 4096], &[1, 2])),
        &["only 2: the file is cut short"],
    );
    assert_says(
        &message_after(TEST_IMAGES, &idx(&[u32::MAX, 4096, 4096], &[])),
        &["at most 4294967296 bytes"],
    );
    assert_says(
        &message_after(TEST_IMAGES, &idx(&[4, u32::MAX, u32::MAX], &[])),
        &["images of 1 to 4096 pixels"],
    );
    assert_says(&message_after(TEST_IMAGES, &idx(&[4, 0, 5], &[])), &["dimensions [4, 0, 5]"]);
    assert_says(&message_after(TEST_LABELS, &idx(&[0], &[])), &["at least one item"]);
}

#[test]
fn damaged_gzip_is_refused() {
    let whole = gzip(&idx(&[10], &labels(10, 3)));
    let mut damaged = whole.clone();
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 1;
    assert_says(
        &message_after(TRAIN_LABELS, &damaged),
        &["expected a complete gzip stream", "checksum"],
    );
    assert_says(
        &message_after(TRAIN_LABELS, &whole[..whole.len() / 2]),
        &["expected a complete gzip stream"],
    );
    assert_says(
        &message_after(TRAIN_LABELS, b"plain text"),
        &["expected a complete gzip stream", "header"],
    );
    assert_says(
        &message_after(TRAIN_LABELS, &[&whole[..], b"more"].concat()),
        &["expected a complete gzip stream"],
    );
    assert_says(&message_after(TRAIN_LABELS, b""), &["expected a complete gzip stream"]);
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let counts = message_after(TRAIN_LABELS, &gzip(&idx(&[9], &labels(9, 3))));
    assert_says(&counts, &["10 labels, as many as", "train-images", "found 9 labels"]);
    let sizes = message_after(TEST_IMAGES, &idx(&[4, 5, 4], &pixels(4, 20)));
    assert_says(&sizes, &["images of 4 x 5 as in the training file", "images of 5 x 4"]);
    let range = message_after(TEST_LABELS, &idx(&[4], &[0, 1, 3, 2]));
    assert_says(&range, &["labels 0 to 2", "found label 3"]);
    let gap = message_after(TRAIN_LABELS, &gzip(&idx(&[10], &[0, 1, 2, 0, 1, 2, 0, 1, 200, 1])));
    assert_says(&gap, &["every class up to the largest label, 200", "none of class 3"]);
}

#[test]
fn cifar_files_of_a_wrong_size_or_label_are_refused() {
    let folder = tempdir().unwrap();
    write_cifar10(folder.path());
    let file = folder.path().join("data_batch_2.bin");
    let restore = fs::read(&file).unwrap();
    fs::write(&file, &restore[..restore.len() - 1]).unwrap();
    let found = message(folder.path());
    assert_says(
        &found,
        &["data_batch_2.bin", "records of 3073 bytes", "6145 bytes, 1 records and 3072 bytes"],
    );
    fs::write(&file, []).unwrap();
    assert_says(&message(folder.path()), &["one or more CIFAR-10 records", "0 bytes"]);
    write_cifar(&file, &[(&[1], 0), (&[10], 0)]);
    assert_says(&message(folder.path()), &["labels from 0 to 9", "label 10 in record 1"]);

    let folder = tempdir().unwrap();
    write_cifar(&folder.path().join("test.bin"), &[(&[0, 0], 0)]);
    write_cifar(&folder.path().join("train.bin"), &[(&[20, 0], 0)]);
    assert_says(
        &message(folder.path()),
        &["train.bin", "labels from 0 to 19", "label 20 in record 0"],
    );
    write_cifar(&folder.path().join("train.bin"), &[(&[0, 100], 0)]);
    assert_says(&message(folder.path()), &["labels from 0 to 99", "label 100 in record 0"]);
}

#[test]
fn class_names_must_be_as_many_as_classes() {
    assert_says(&message_after("class_names.txt", b"a\nb\n"), &["3 class names", "found 2 names"]);
    assert_says(&message_after("class_names.txt", b"a\nb\n\xff\n"), &["UTF-8 text"]);
}

#[test]
fn a_file_unlike_its_checksum_is_refused() {
    let zeros = "0".repeat(64);
    let folder = sound();
    let list: PathBuf = folder.path().join("SHA256SUMS");
    fs::write(&list, format!("# a comment\n\n{zeros}  not-read\n{zeros} *./{TEST_LABELS}\n"))
        .unwrap();
    assert_says(
        &message(folder.path()),
        &[TEST_LABELS, &format!("expected SHA-256 {zeros}"), "SHA256SUMS says"],
    );
    let cut_short = "68b1b1f4a1f2f8d5f0";
    fs::write(&list, format!("{cut_short}  {TEST_LABELS}\n")).unwrap();
    assert_says(&message(folder.path()), &["64 hexadecimal digits", "line 1: 68b1"]);

    let folder = tempdir().unwrap();
    write_cifar10(&folder.path().join("cifar-10-batches-bin"));
    fs::write(
        folder.path().join("SHA256SUMS"),
        format!("{zeros}  cifar-10-batches-bin/test_batch.bin\n"),
    )
    .unwrap();
    assert_says(&message(folder.path()), &["test_batch.bin", "expected SHA-256"]);
}

#[test]
fn a_file_like_its_checksum_is_taken() {
    let folder = sound();
    let hash = "aa8d9c3040a6303909604492776c9d93556942abf4515506bc82db1cb12a88fc";
    fs::write(folder.path().join("SHA256SUMS"), format!("{hash}  {TEST_LABELS}\n")).unwrap();
    load(folder.path(), &DatasetOptions::new(0)).unwrap();
}

#[test]
fn a_split_must_leave_something_to_train_on() {
    let folder = sound();
    for validation in [10, 11, usize::MAX] {
        let message =
            load(folder.path(), &DatasetOptions::new(validation)).unwrap_err().to_string();
        assert_says(
            &message,
            &[&format!("the {validation} asked for validation"), "found 10 training images"],
        );
    }
    let none = DatasetOptions { train_limit: Some(0), ..DatasetOptions::new(0) };
    assert_says(
        &load(folder.path(), &none).unwrap_err().to_string(),
        &["train_limit: expected at least 1"],
    );
    let none = DatasetOptions { test_limit: Some(0), ..DatasetOptions::new(0) };
    assert_says(
        &load(folder.path(), &none).unwrap_err().to_string(),
        &["test_limit: expected at least 1"],
    );
}
