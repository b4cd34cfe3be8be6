use super::*;
use crate::{DatasetOptions, load};

const SOURCE: [usize; 3] = [60, 30, 45];

/// 60 training images of which the last 30 count as held out, 45 test images, 3 classes, 2 x 2 pixels. Every image is
/// filled with its own number; test images count from 100.
fn source() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, dimensions: &[usize], data: Vec<u8>| {
        fs::write(folder.path().join(name), encode(dimensions, &data)).unwrap();
    };
    let [train, _, test] = SOURCE;
    write(TRAIN_IMAGES, &[train, 2, 2], (0..4 * train).map(|at| (at / 4) as u8).collect());
    write(TRAIN_LABELS, &[train], (0..train).map(|at| (at % 3) as u8).collect());
    write(TEST_IMAGES, &[test, 2, 2], (0..4 * test).map(|at| (100 + at / 4) as u8).collect());
    write(TEST_LABELS, &[test], (0..test).map(|at| (at % 3) as u8).collect());
    folder
}

fn write(source: &Path, dest: &Path, counts: [usize; 3]) -> Result<Subset, DataError> {
    write_holding_out(SOURCE[1], source, dest, counts)
}

#[test]
fn a_subset_loads_with_the_splits_it_was_cut_for() {
    let (source, dest) = (source(), tempfile::tempdir().unwrap());
    let subset = write(source.path(), dest.path(), [9, 6, 7]).unwrap();
    let data = load(dest.path(), &DatasetOptions::new(6)).unwrap();
    assert_eq!([data.train.len(), data.validation.len(), data.test.len()], [9, 6, 7]);
    assert_eq!(data.train.class_counts(), [3, 3, 3]);
    assert_eq!(data.validation.class_counts(), [2, 2, 2]);
    assert_eq!(data.test.class_counts(), [3, 2, 2]);
    let numbers = |set: &ImageSet| set.pixels().chunks(4).map(|image| image[0]).collect::<Vec<_>>();
    for (set, range) in [(&data.train, 0..30), (&data.validation, 30..60), (&data.test, 100..145)] {
        let numbers = numbers(set.in_memory().unwrap());
        assert!(
            numbers.is_sorted() && numbers.iter().all(|number| range.contains(number)),
            "{numbers:?}"
        );
    }
    // Ten of each class, of which places 0, 3 and 6 are evenly spaced.
    assert_eq!(numbers(data.train.in_memory().unwrap()), [0, 1, 2, 9, 10, 11, 18, 19, 20]);
    let written: u64 = subset.files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(written, subset.bytes);
    let readme = fs::read_to_string(dest.path().join("README.md")).unwrap();
    assert!(!readme.contains("Zalando"), "another source's README claims to be Fashion-MNIST's");
    assert_eq!(
        fs::read_dir(dest.path()).unwrap().count(),
        subset.files.len(),
        "temporary files are left"
    );
}

#[test]
fn the_same_subset_has_the_same_bytes() {
    let (source, dest) = (source(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let [first, second] =
        dest.each_ref().map(|dest| write(source.path(), dest.path(), [9, 6, 7]).unwrap());
    for (first, second) in first.files.iter().zip(&second.files) {
        assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap(), "{}", first.display());
    }
}

#[test]
fn writing_over_an_older_subset_replaces_it() {
    let (source, dest) = (source(), tempfile::tempdir().unwrap());
    write(source.path(), dest.path(), [9, 6, 7]).unwrap();
    write(source.path(), dest.path(), [12, 3, 3]).unwrap();
    assert_eq!(load(dest.path(), &DatasetOptions::new(3)).unwrap().train.len(), 12);
}

#[test]
fn what_the_source_cannot_give_is_refused_before_anything_is_written() {
    let (source, dest) = (source(), tempfile::tempdir().unwrap());
    let cases = [
        (
            [31, 6, 7],
            "expected 31 training images, as many of each class, found 30 training images",
        ),
        ([9, 31, 7], "expected 31 held-out training images"),
        ([9, 6, 46], "expected 46 test images"),
        ([2, 6, 7], "train: expected at least one image for each of 3 classes, found 2"),
        ([9, 6, 0], "test: expected at least 1 image, found 0"),
    ];
    for (counts, expected) in cases {
        let message = write(source.path(), dest.path(), counts).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(fs::read_dir(dest.path()).unwrap().count(), 0);
    let message = write_subset(source.path(), dest.path(), 9, 0, 7).unwrap_err().to_string();
    assert!(message.contains("found 0 training images"), "{message}");
}

#[test]
fn the_source_is_never_overwritten() {
    let source = source();
    let before = fs::read(source.path().join(TRAIN_IMAGES)).unwrap();
    let again = source.path().join("..").join(source.path().file_name().unwrap());
    let message = write(source.path(), &again, [9, 6, 7]).unwrap_err().to_string();
    assert!(message.contains("dest: expected another folder than the source"), "{message}");
    assert_eq!(fs::read(source.path().join(TRAIN_IMAGES)).unwrap(), before);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let (source, dest) = (source(), tempfile::tempdir().unwrap());
    let file = dest.path().join("a file");
    fs::write(&file, "in the way").unwrap();
    let message = write(source.path(), &file, [9, 6, 7]).unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot create {}", file.display())), "{message}");
}
