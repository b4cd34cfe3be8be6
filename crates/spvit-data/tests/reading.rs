//! Data sets are read as their files say, and split by the rule.

mod common;

use std::fs;

use spvit_data::{DataError, Dataset, DatasetOptions, Format, load};
use tempfile::tempdir;

use common::{pixels, write_cifar, write_cifar10, write_idx};

fn options(
    validation: usize,
    train_limit: Option<usize>,
    test_limit: Option<usize>,
) -> DatasetOptions {
    DatasetOptions { train_limit, test_limit, ..DatasetOptions::new(validation) }
}

#[test]
fn idx_images_come_back_as_they_were_written() {
    let folder = tempdir().unwrap();
    write_idx(folder.path(), 10, 4);
    let data = load(folder.path(), &DatasetOptions::new(0)).unwrap();
    assert_eq!(
        (
            data.train.channels(),
            data.train.in_memory().unwrap().height(),
            data.train.in_memory().unwrap().width()
        ),
        (1, 4, 5)
    );
    assert_eq!(data.train.in_memory().unwrap().pixels(), pixels(10, 20));
    assert_eq!(data.test.in_memory().unwrap().pixels(), pixels(4, 20));
    assert_eq!(data.train.in_memory().unwrap().labels(), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
    assert!(data.validation.is_empty());
    assert_eq!(data.class_names, ["class 0", "class 1", "class 2"]);
    assert_eq!(data.name, folder.path().file_name().unwrap().to_str().unwrap());
}

#[test]
fn validation_is_the_end_of_the_training_file_and_limits_leave_it_alone() {
    let folder = tempdir().unwrap();
    write_idx(folder.path(), 10, 4);
    let all = pixels(10, 20);
    let split = |options: DatasetOptions| load(folder.path(), &options).unwrap();
    let plain = split(options(3, None, None));
    assert_eq!(plain.train.in_memory().unwrap().pixels(), &all[..7 * 20]);
    assert_eq!(plain.validation.in_memory().unwrap().pixels(), &all[7 * 20..]);
    assert_eq!(plain.validation.in_memory().unwrap().labels(), [1, 2, 0]);
    let limited = split(options(3, Some(2), Some(1)));
    assert_eq!(limited.train.in_memory().unwrap().pixels(), &all[..2 * 20]);
    assert_eq!(limited.validation.in_memory(), plain.validation.in_memory());
    assert_eq!(limited.test.len(), 1);
    let generous = split(options(3, Some(99), Some(99)));
    assert_eq!((generous.train.len(), generous.test.len()), (7, 4));
}

#[test]
fn statistics_come_from_the_training_split_alone() {
    let folder = tempdir().unwrap();
    write_cifar10(folder.path());
    let data = load(folder.path(), &options(8, None, None)).unwrap();
    // Two constant images are left for training, of value 0 and 1.
    for channel in 0..3 {
        assert!((data.mean[channel] - 0.5 / 255.0).abs() < 1e-8);
        assert!((data.std[channel] - 0.5 / 255.0).abs() < 1e-8);
    }
}

#[test]
fn the_fingerprint_depends_on_the_split_and_not_on_the_folder() {
    let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
    write_idx(here.path(), 10, 4);
    write_idx(there.path(), 10, 4);
    let of = |folder: &tempfile::TempDir, validation| -> Dataset {
        load(folder.path(), &DatasetOptions::new(validation)).unwrap()
    };
    assert_eq!(of(&here, 3).fingerprint, of(&there, 3).fingerprint);
    assert_ne!(of(&here, 3).fingerprint, of(&here, 4).fingerprint);
}

#[test]
fn cifar10_is_read_in_the_order_of_its_batches() {
    let folder = tempdir().unwrap();
    write_cifar10(folder.path());
    fs::write(folder.path().join("batches.meta.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
    let data = load(folder.path(), &DatasetOptions::new(1)).unwrap();
    assert_eq!(
        (
            data.train.channels(),
            data.train.in_memory().unwrap().height(),
            data.train.in_memory().unwrap().width()
        ),
        (3, 32, 32)
    );
    assert_eq!(data.train.in_memory().unwrap().labels(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(data.validation.in_memory().unwrap().labels(), [9]);
    assert_eq!(data.test.in_memory().unwrap().labels(), [3, 4]);
    assert_eq!(data.test.in_memory().unwrap().image(1).unwrap(), [40; 3072]);
    assert_eq!(data.class_names[9], "j");
}

#[test]
fn cifar_may_lie_in_the_folder_of_its_archive() {
    let folder = tempdir().unwrap();
    write_cifar10(&folder.path().join("cifar-10-batches-bin"));
    assert_eq!(load(folder.path(), &DatasetOptions::new(0)).unwrap().train.len(), 10);
}

#[test]
fn cifar100_has_its_fine_labels() {
    let folder = tempdir().unwrap();
    let inner = folder.path().join("cifar-100-binary");
    fs::create_dir(&inner).unwrap();
    write_cifar(&inner.join("train.bin"), &[(&[19, 99], 1), (&[0, 42], 2)]);
    write_cifar(&inner.join("test.bin"), &[(&[7, 7], 3)]);
    let data = load(folder.path(), &DatasetOptions::new(0)).unwrap();
    assert_eq!(
        (data.train.in_memory().unwrap().labels(), data.train.classes()),
        (&[99, 42][..], 100)
    );
    assert_eq!(data.train.in_memory().unwrap().image(1).unwrap(), [2; 3072]);
    assert_eq!(data.class_names.len(), 100);
}

#[test]
fn a_format_that_is_asked_for_is_the_one_that_is_read() {
    let folder = tempdir().unwrap();
    write_idx(folder.path(), 10, 4);
    write_cifar10(folder.path());
    let of = |format| load(folder.path(), &DatasetOptions { format, ..DatasetOptions::new(0) });
    assert_eq!(of(Format::Idx).unwrap().train.channels(), 1);
    assert_eq!(of(Format::Cifar10).unwrap().train.channels(), 3);
    let error = of(Format::Auto).unwrap_err();
    assert!(
        matches!(&error, DataError::AmbiguousFormat { candidates, .. } if candidates == "idx, cifar10"),
        "{error}"
    );
}

#[test]
fn options_are_read_strictly() {
    let read = |text: &str| serde_json::from_str::<DatasetOptions>(text);
    let options = read(r#"{"format": "cifar100", "validation": 5}"#).unwrap();
    assert_eq!(options, DatasetOptions { format: Format::Cifar100, ..DatasetOptions::new(5) });
    assert_eq!(read(&serde_json::to_string(&options).unwrap()).unwrap(), options);
    assert!(read("{}").unwrap_err().to_string().contains("missing field `validation`"));
    assert!(
        read(r#"{"validation": 5, "seed": 1}"#)
            .unwrap_err()
            .to_string()
            .contains("unknown field `seed`")
    );
}
