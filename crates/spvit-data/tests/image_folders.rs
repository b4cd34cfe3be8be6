//! Folders of classes, with splits and without.

#[path = "common/images.rs"]
mod images;

use images::{assert_says, classes, greys, message, open, options, picture, png, put};
use spvit_data::{DatasetOptions, ImageOptions, Loader, LoaderOptions, load};
use tempfile::tempdir;

#[test]
fn splits_are_found_in_any_spelling_and_classes_sorted() {
    for [train, validation, test] in [
        ["train", "val", "test"],
        ["Training", "Validation", "TEST"],
        ["TRAIN", "valid", "testing"],
    ] {
        let folder = tempdir().unwrap();
        classes(folder.path(), train, &["a", "B"], 3);
        classes(folder.path(), validation, &["a", "B"], 2);
        classes(folder.path(), test, &["a", "B"], 1);
        let data = open(folder.path());
        // torchvision sorts by code point: capitals come first.
        assert_eq!(data.class_names, ["B", "a"]);
        assert_eq!(greys(&*data.train), [(40, 0), (41, 0), (42, 0), (0, 1), (1, 1), (2, 1)]);
        assert_eq!(greys(&*data.validation), [(40, 0), (41, 0), (0, 1), (1, 1)]);
        assert_eq!(greys(&*data.test), [(40, 0), (0, 1)]);
        assert!(data.notes.is_empty(), "{:?}", data.notes);
        assert_eq!((data.train.channels(), data.train.classes()), (1, 2));
    }
}

#[test]
fn images_lie_at_any_depth_of_their_class() {
    let folder = tempdir().unwrap();
    classes(folder.path(), "train", &["x", "y"], 1);
    put(folder.path(), "train/x/deep/er/07.png", &png(4, 7));
    put(folder.path(), "train/x/01.PNG", &png(4, 1));
    classes(folder.path(), "val", &["x", "y"], 1);
    classes(folder.path(), "test", &["x", "y"], 1);
    let data = open(folder.path());
    assert_eq!(greys(&*data.train), [(0, 0), (1, 0), (7, 0), (40, 1)]);
    assert!(data.train.name(2).ends_with("train/x/deep/er/07.png"), "{}", data.train.name(2));
}

#[test]
fn without_a_test_split_the_validation_images_are_the_test() {
    let folder = tempdir().unwrap();
    classes(folder.path(), "train", &["x", "y"], 20);
    classes(folder.path(), "val", &["x", "y"], 3);
    let data = open(folder.path());
    assert_eq!([data.train.len(), data.validation.len(), data.test.len()], [36, 4, 6]);
    assert_eq!(data.validation.class_counts(), [2, 2]);
    assert_eq!(greys(&*data.test), [(0, 0), (1, 0), (2, 0), (40, 1), (41, 1), (42, 1)]);
    let mut all = [greys(&*data.train), greys(&*data.validation)].concat();
    all.sort();
    let whole: Vec<_> =
        (0..20).map(|grey| (grey, 0)).chain((40..60).map(|grey| (grey, 1))).collect();
    assert_eq!(all, whole);
    assert_eq!(data.notes.len(), 1);
    assert_says(&data.notes[0], &["has no test images", "4 of its training images", "seed 0"]);
}

#[test]
fn without_a_validation_split_it_is_drawn_from_training() {
    let folder = tempdir().unwrap();
    classes(folder.path(), "train", &["x", "y"], 10);
    classes(folder.path(), "test", &["x", "y"], 3);
    let data = open(folder.path());
    assert_eq!([data.train.len(), data.validation.len(), data.test.len()], [18, 2, 6]);
    assert_says(&data.notes[0], &["has no validation images", "2 of its training images"]);
}

#[test]
fn a_flat_folder_is_divided_class_by_class_by_its_seed() {
    let folder = tempdir().unwrap();
    classes(folder.path(), ".", &["x", "y", "z"], 20);
    put(folder.path(), "w/only.png", &png(4, 99));
    let with = |split_seed, test_share, validation_share| {
        let images = ImageOptions {
            channels: 1,
            split_seed,
            test_share,
            validation_share,
            ..Default::default()
        };
        load(folder.path(), &options(images)).unwrap()
    };
    let data = with(0, 0.25, Some(0.2));
    assert_eq!(data.class_names, ["w", "x", "y", "z"]);
    assert_eq!(data.test.class_counts(), [0, 5, 5, 5]);
    assert_eq!(data.validation.class_counts(), [0, 3, 3, 3]);
    assert_eq!(data.train.class_counts(), [1, 12, 12, 12]);
    let mut all = [&data.train, &data.validation, &data.test].map(|split| greys(&**split)).concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 61);
    let again = with(0, 0.25, Some(0.2));
    assert_eq!(again.fingerprint, data.fingerprint);
    assert_eq!(greys(&*again.test), greys(&*data.test));
    assert_ne!(greys(&*with(1, 0.25, Some(0.2)).test), greys(&*data.test));
    assert!(with(0, 0.0, Some(0.0)).test.is_empty());
    assert_says(&data.notes[0], &["has no splits", "drew 37 images for training", "seed 0"]);
}

#[test]
fn limits_keep_some_of_every_class() {
    let folder = tempdir().unwrap();
    classes(folder.path(), "train", &["x", "y"], 40);
    classes(folder.path(), "val", &["x", "y"], 2);
    classes(folder.path(), "test", &["x", "y"], 30);
    let limited =
        DatasetOptions { train_limit: Some(30), test_limit: Some(20), ..DatasetOptions::new(0) };
    let data = load(folder.path(), &limited).unwrap();
    assert_eq!([data.train.len(), data.validation.len(), data.test.len()], [30, 4, 20]);
    assert!(
        data.train.class_counts().iter().all(|&count| count > 8),
        "{:?}",
        data.train.class_counts()
    );
}

#[test]
fn classes_must_agree_between_splits() {
    let folder = tempdir().unwrap();
    classes(folder.path(), "train", &["cat", "dog", "owl"], 1);
    classes(folder.path(), "val", &["cat", "dogs", "owl"], 1);
    assert_says(
        &message(folder.path()),
        &[
            "val: expected the classes of",
            "train, found no folder for dog, and folders for dogs besides",
        ],
    );
    let folder = tempdir().unwrap();
    classes(folder.path(), "train", &["cat", "dog", "owl"], 1);
    classes(folder.path(), "val", &["cat"], 1);
    assert_says(&message(folder.path()), &["found no folder for dog, owl."]);
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempdir().unwrap();
    classes(folder.path(), "train", &["cat"], 1);
    std::fs::create_dir(folder.path().join("train/dog")).unwrap();
    assert_says(&message(folder.path()), &["train/dog: expected at least one image", "found none"]);
    let folder = tempdir().unwrap();
    put(folder.path(), "train/1.png", &png(4, 1));
    assert_says(&message(folder.path()), &["expected a folder for every class", "found 0 folders"]);
    let folder = tempdir().unwrap();
    classes(folder.path(), "train", &["cat"], 1);
    classes(folder.path(), "Training", &["cat"], 1);
    assert_says(&message(folder.path()), &["expected one folder of train images"]);
    let folder = tempdir().unwrap();
    put(folder.path(), "notes/readme.txt", b"nothing here");
    assert_says(&message(folder.path()), &["no known data set", "found notes"]);
}

#[test]
fn names_for_people_come_from_a_file() {
    let folder = tempdir().unwrap();
    for split in ["train", "val", "test"] {
        classes(folder.path(), split, &["n01", "n02"], 1);
    }
    put(folder.path(), "classes.txt", b"n02 goldfish\nn01 tench, Tinca tinca\n");
    assert_eq!(open(folder.path()).class_names, ["tench, Tinca tinca", "goldfish"]);
}

#[test]
fn contents_count_and_not_endings() {
    let folder = tempdir().unwrap();
    for split in ["train", "val", "test"] {
        put(folder.path(), &format!("{split}/x/really-a-png.jpg"), &picture("colour.png"));
        put(folder.path(), &format!("{split}/x/no-ending"), &picture("baseline.jpg"));
        put(folder.path(), &format!("{split}/x/webp.txt"), &picture("lossless.webp"));
        put(folder.path(), &format!("{split}/x/readme.txt"), b"about this class");
        put(folder.path(), &format!("{split}/x/.DS_Store"), b"hidden");
    }
    let data = load(folder.path(), &options(ImageOptions::default())).unwrap();
    assert_eq!(data.train.len(), 3);
    assert!((0..3).all(|index| data.train.decode(index).unwrap().size() == [18, 26]));
    assert_says(&data.notes[0], &["passed over 3 files", "readme.txt", "not an image"]);
}

#[test]
fn a_mean_is_given_or_that_of_the_images() {
    let folder = tempdir().unwrap();
    for split in ["train", "val", "test"] {
        put(folder.path(), &format!("{split}/x/dark.png"), &png(4, 0));
        // Every image counts alike, however large.
        put(folder.path(), &format!("{split}/x/light.png"), &png(40, 255));
    }
    let data = load(folder.path(), &options(ImageOptions::default())).unwrap();
    assert!(data.mean.iter().chain(&data.std).all(|value| (value - 0.5).abs() < 1e-6), "{data:?}");
    let given = ImageOptions { mean: Some(vec![0.1, 0.2, 0.3]), ..ImageOptions::default() };
    let data = load(folder.path(), &options(given)).unwrap();
    assert_eq!(data.mean, [0.1, 0.2, 0.3]);
    assert!((data.std[0] - 0.5).abs() < 1e-6);
    let wrong = ImageOptions { std: Some(vec![1.0]), ..ImageOptions::default() };
    let message = load(folder.path(), &options(wrong)).unwrap_err().to_string();
    assert_says(&message, &["std: expected 3 values"]);
}

#[test]
fn batches_do_not_depend_on_threads_or_on_where_they_begin() {
    let folder = tempdir().unwrap();
    for split in ["train", "val", "test"] {
        for (number, name) in
            ["baseline.jpg", "progressive.jpg", "alpha.png", "lossy.webp", "turned_6.jpg"]
                .iter()
                .enumerate()
        {
            for copy in 0..4 {
                put(
                    folder.path(),
                    &format!("{split}/{}/{copy}-{name}", number % 2),
                    &picture(name),
                );
            }
        }
    }
    let data = load(folder.path(), &options(ImageOptions::default())).unwrap();
    let draw = |threads, start| {
        let augment = spvit_data::AugmentConfig {
            horizontal_flip: true,
            random_erasing: 0.5,
            mixup: 0.8,
            ..Default::default()
        };
        let options =
            LoaderOptions { threads, ..LoaderOptions::training([300, 300], 6, 1, augment) };
        let loader = Loader::new(data.train.clone(), &data.mean, &data.std, options).unwrap();
        loader.sharing(&data.broken).epoch(3, start).map(Result::unwrap).collect::<Vec<_>>()
    };
    let inline = draw(0, 0);
    assert_eq!(inline.len(), 3);
    assert_eq!(inline[0].shape, [6, 3, 300, 300]);
    assert!(inline == draw(1, 0) && inline == draw(7, 0));
    assert!(inline[1..] == draw(2, 1)[..]);
}

#[test]
fn the_fingerprint_sees_names_labels_sizes_and_contents() {
    let folder = tempdir().unwrap();
    for split in ["train", "val", "test"] {
        classes(folder.path(), split, &["x", "y"], 3);
    }
    let first = open(folder.path());
    let mut seen = vec![first.fingerprint.clone()];
    assert_eq!(open(folder.path()).fingerprint, first.fingerprint);
    put(folder.path(), "train/x/00.png", &png(4, 200));
    seen.push(open(folder.path()).fingerprint);
    std::fs::rename(folder.path().join("train/x/02.png"), folder.path().join("train/x/03.png"))
        .unwrap();
    seen.push(open(folder.path()).fingerprint);
    std::fs::rename(folder.path().join("train/x/03.png"), folder.path().join("train/y/03.png"))
        .unwrap();
    seen.push(open(folder.path()).fingerprint);
    let training = open(folder.path()).training_fingerprint();
    put(folder.path(), "test/x/09.png", &png(4, 9));
    seen.push(open(folder.path()).fingerprint);
    assert_eq!(open(folder.path()).training_fingerprint(), training);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
}
