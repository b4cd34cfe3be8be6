//! What disks and people do to folders of images.

#[path = "common/images.rs"]
mod images;

use std::fs;
use std::path::Path;

use images::{assert_says, classes, message, open, picture, png, put};
use spvit_data::{BrokenImages, DataError, Dataset, Loader, LoaderOptions, read_image};
use tempfile::{TempDir, tempdir};

fn folder(images: u8) -> TempDir {
    let folder = tempdir().unwrap();
    for split in ["train", "val", "test"] {
        classes(folder.path(), split, &["x", "y"], images);
    }
    folder
}

/// All batches of the training images, with 3 threads.
fn draw(data: &Dataset, limit: f64) -> (Result<usize, DataError>, Vec<String>) {
    let options = LoaderOptions { threads: 3, ..LoaderOptions::evaluation([4, 4], 4) };
    let loader = Loader::new(data.train.clone(), &data.mean, &data.std, options).unwrap();
    let loader = loader.sharing(&BrokenImages::new(limit).unwrap());
    let images = loader.epoch(0, 0).map(|batch| batch.map(|batch| batch.labels.len())).sum();
    (images, loader.broken().take_notes())
}

#[test]
fn each_kind_of_broken_file_is_named_and_left_out() {
    let folder = folder(10);
    let whole = picture("baseline.jpg");
    for (name, bytes) in [
        ("empty.jpg", &[][..]),
        ("short.jpg", &whole[..whole.len() / 2]),
        ("short.png", &picture("colour.png")[..200]),
        ("short.webp", &picture("lossless.webp")[..300]),
        ("text.png", b"not a picture"),
        ("page.jpg", b"<html><body>404</body></html>"),
    ] {
        put(folder.path(), &format!("train/x/{name}"), bytes);
    }
    let data = open(folder.path());
    assert_eq!(data.train.len(), 26);
    let (images, notes) = draw(&data, 0.3);
    assert_eq!(images.unwrap(), 20);
    assert_eq!(notes.len(), 6, "{notes:#?}");
    assert_says(&notes[0], &["left out a broken image", "train/x/empty.jpg: the file is empty"]);
    assert_says(&notes[1], &["page.jpg: expected a JPEG", "3c 68 74 6d"]);
    assert_says(&notes[2], &["short.jpg: damaged JPEG"]);
    assert_says(&notes[3], &["short.png: damaged PNG"]);
    assert_says(&notes[4], &["short.webp: truncated WebP"]);
    let (images, _) = draw(&data, 0.1);
    assert_says(&images.unwrap_err().to_string(), &["6 of 26 images are broken", "empty.jpg"]);
}

#[test]
fn a_file_that_changes_or_vanishes_in_mid_run_is_broken() {
    let folder = folder(10);
    let data = open(folder.path());
    put(folder.path(), "train/x/03.png", &png(7, 3));
    fs::remove_file(folder.path().join("train/y/05.png")).unwrap();
    let (images, notes) = draw(&data, 0.5);
    assert_eq!(images.unwrap(), 18);
    assert_says(&notes[0], &["x/03.png: changed after the folder was read: it had"]);
    assert_says(&notes[1], &["y/05.png: cannot be read: No such file"]);
}

#[test]
fn a_folder_that_vanishes_in_mid_run_is_an_error() {
    let folder = folder(10);
    let data = open(folder.path());
    let options = LoaderOptions { threads: 2, ..LoaderOptions::evaluation([4, 4], 2) };
    let loader = Loader::new(data.train.clone(), &data.mean, &data.std, options).unwrap();
    let mut epoch = loader.sharing(&data.broken).epoch(0, 0);
    assert!(epoch.next().unwrap().is_ok());
    fs::remove_dir_all(folder.path().join("train")).unwrap();
    let error = epoch.find_map(Result::err).unwrap().to_string();
    assert_says(&error, &["images are broken", "broken_limit", "cannot be read: No such file"]);
    assert!(message(&folder.path().join("train")).contains("no data folder"));
}

#[test]
fn a_broken_set_has_no_statistics() {
    let folder = tempdir().unwrap();
    for split in ["train", "val", "test"] {
        put(folder.path(), &format!("{split}/x/1.jpg"), b"no");
    }
    assert_says(&message(folder.path()), &["train/x/1.jpg: expected a JPEG"]);
}

#[test]
fn a_list_of_files_that_are_not_there_is_counted() {
    let folder = tempdir().unwrap();
    put(folder.path(), "a.png", &png(4, 1));
    let mut text = "path,label,split\n".to_owned();
    (0..9).for_each(|_| text += "a.png,x,train\n");
    text += "b.png,x,train\na.png,x,val\na.png,x,test\n";
    put(folder.path(), "list.csv", text.as_bytes());
    let (images, notes) = draw(&open(folder.path()), 0.2);
    assert_eq!(images.unwrap(), 9);
    assert_says(&notes[0], &["b.png: cannot be read: No such file"]);
}

#[test]
fn a_single_image_is_read_or_named() {
    let folder = tempdir().unwrap();
    let file = put(folder.path(), "a.jpg", &picture("turned_6.jpg"));
    let pixels = read_image(&file, 3).unwrap();
    assert_eq!((pixels.size(), pixels.channels()), ([26, 18], 3));
    let text = put(folder.path(), "b.jpg", b"text");
    assert_says(&read_image(&text, 3).unwrap_err().to_string(), &["b.jpg: expected a JPEG"]);
    let absent = read_image(&folder.path().join("c.jpg"), 3).unwrap_err().to_string();
    assert_says(&absent, &["cannot read", "c.jpg"]);
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn names_that_are_not_utf_8_are_read() {
        let folder = folder(2);
        let class = folder.path().join("train/x");
        let name = OsStr::from_bytes(b"caf\xe9 \xff.png");
        if fs::write(class.join(name), png(4, 9)).is_err() {
            return; // Some file systems have no such names.
        }
        let data = open(folder.path());
        assert_eq!(data.train.len(), 5);
        assert_eq!(data.train.decode(2).unwrap().bytes()[0], 9);
        assert_says(&data.train.name(2), &["caf\u{fffd} \u{fffd}.png"]);
    }

    #[test]
    fn links_in_circles_and_to_nothing_are_passed_over_and_said() {
        let folder = folder(2);
        let class = folder.path().join("train/x");
        fs::create_dir(class.join("deep")).unwrap();
        symlink(&class, class.join("deep/back")).unwrap();
        symlink(folder.path(), class.join("up")).unwrap();
        symlink(class.join("itself"), class.join("itself")).unwrap();
        symlink(class.join("nothing"), class.join("dangling.png")).unwrap();
        symlink(folder.path().join("val/x/01.png"), class.join("07.png")).unwrap();
        let data = open(folder.path());
        // The link to another split's picture is a picture.
        assert_eq!(data.train.class_counts(), [3, 2]);
        let notes = data.notes.join("\n");
        assert_says(
            &notes,
            &[
                "passed over 2 files",
                "a folder that it lies in",
                "a symbolic link that leads nowhere",
            ],
        );
    }

    #[test]
    fn pipes_and_sockets_are_passed_over() {
        let folder = folder(2);
        let _socket =
            std::os::unix::net::UnixListener::bind(folder.path().join("train/x/a.jpg")).unwrap();
        let data = open(folder.path());
        assert_eq!(data.train.len(), 4);
        assert_says(&data.notes[0], &["a.jpg", "neither a file nor a folder"]);
    }

    /// Opening a pipe waits for a writer, who may never come.
    #[test]
    fn a_pipe_in_the_place_of_an_image_is_broken() {
        let folder = folder(10);
        let data = open(folder.path());
        let pipe = |path: &Path| Command::new("mkfifo").arg(path).status().unwrap().success();
        let image = folder.path().join("train/x/03.png");
        fs::remove_file(&image).unwrap();
        assert!(pipe(&image));
        let (images, notes) = draw(&data, 0.1);
        assert_eq!(images.unwrap(), 19);
        assert_says(&notes[0], &["03.png: expected a file, found something else"]);

        // A list may name anything.
        assert!(pipe(&folder.path().join("pipe")));
        let mut text = "path,label,split\n".to_owned();
        for split in ["train", "val", "test"] {
            text += &format!("{split}/x/00.png,x,{split}\n");
        }
        text += "pipe,x,train\n/dev/zero,x,train\ntrain,x,train\n";
        let list = put(folder.path(), "list.csv", text.as_bytes());
        let (images, notes) = draw(&open(&list), 1.0);
        assert_eq!((images.unwrap(), notes.len()), (1, 3), "{notes:?}");
    }

    #[test]
    fn what_may_not_be_read_is_an_error_or_counted() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder(10);
        let forbid =
            |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        let file = folder.path().join("train/x/03.png");
        forbid(&file);
        if fs::read(&file).is_ok() {
            return; // The administrator may read everything.
        }
        let (images, notes) = draw(&open(folder.path()), 0.2);
        assert_eq!(images.unwrap(), 19);
        assert_says(&notes[0], &["03.png: cannot be read: Permission denied"]);
        let class = folder.path().join("train/x");
        forbid(&class);
        let message = message(folder.path());
        fs::set_permissions(&class, fs::Permissions::from_mode(0o755)).unwrap();
        assert_says(&message, &["cannot read", "train/x"]);
    }
}
