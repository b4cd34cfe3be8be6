//! The index of a large folder.

#[path = "common/images.rs"]
mod images;

use std::fs;
use std::path::Path;

use images::{assert_says, classes, greys, options, png, put, settle};
use spvit_data::{Dataset, ImageOptions, load};
use tempfile::{TempDir, tempdir};

fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    for split in ["train", "val", "test"] {
        classes(folder.path(), split, &["x", "y"], 5);
    }
    settle(folder.path());
    folder
}

fn open(folder: &Path, index: &Path) -> Dataset {
    let index = Some(index.to_path_buf());
    load(folder, &options(ImageOptions { channels: 1, index, ..ImageOptions::default() })).unwrap()
}

fn index_in(folder: &Path) -> Option<std::path::PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(found.len() < 2, "{found:?}");
    found.pop()
}

#[test]
fn an_index_gives_what_the_folder_gives() {
    let (folder, indices) = (folder(), tempdir().unwrap());
    let first = open(folder.path(), indices.path());
    let index = index_in(indices.path()).unwrap();
    let written = fs::metadata(&index).unwrap().modified().unwrap();
    let second = open(folder.path(), indices.path());
    assert_eq!(first.fingerprint, second.fingerprint);
    assert_eq!(greys(&*first.validation), greys(&*second.validation));
    assert!(second.notes.is_empty(), "{:?}", second.notes);
    assert_eq!(fs::metadata(&index).unwrap().modified().unwrap(), written, "written again");
}

#[test]
fn a_changed_folder_is_read_anew() {
    let (folder, indices) = (folder(), tempdir().unwrap());
    assert_eq!(open(folder.path(), indices.path()).train.len(), 10);
    put(folder.path(), "train/x/new.png", &png(4, 99));
    assert_eq!(open(folder.path(), indices.path()).train.len(), 11);
    fs::remove_file(folder.path().join("train/y/00.png")).unwrap();
    assert_eq!(open(folder.path(), indices.path()).train.len(), 10);
    settle(folder.path());
    open(folder.path(), indices.path());
    // A file that is written over in place leaves its folder's time as it was.
    put(folder.path(), "val/x/00.png", &png(9, 77));
    let data = open(folder.path(), indices.path());
    assert_eq!(greys(&*data.validation)[0], (77, 0));
}

#[test]
fn a_folder_that_changed_just_now_gets_no_index() {
    let (folder, indices) = (folder(), tempdir().unwrap());
    put(folder.path(), "train/x/new.png", &png(4, 99));
    open(folder.path(), indices.path());
    assert_eq!(index_in(indices.path()), None);
}

#[test]
fn a_damaged_index_is_not_believed() {
    let (folder, indices) = (folder(), tempdir().unwrap());
    let reference = open(folder.path(), indices.path());
    let index = index_in(indices.path()).unwrap();
    let whole = fs::read(&index).unwrap();
    for place in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        fs::write(&index, &damaged).unwrap();
        let data = open(folder.path(), indices.path());
        assert_eq!(data.fingerprint, reference.fingerprint);
        assert_says(
            &data.notes[0],
            &["images-", "damaged or of another version", "read the folder anew"],
        );
        assert_eq!(fs::read(&index).unwrap(), whole, "mended");
    }
    for length in [0, 10, whole.len() - 1] {
        fs::write(&index, &whole[..length]).unwrap();
        assert_eq!(open(folder.path(), indices.path()).notes.len(), 1);
    }
}

#[test]
fn an_index_that_cannot_be_written_is_no_reason_to_stop() {
    let (folder, indices) = (folder(), tempdir().unwrap());
    let file = put(indices.path(), "a file", b"in the way");
    let data = open(folder.path(), &file.join("below"));
    assert_eq!(data.train.len(), 10);
    assert_says(&data.notes[0], &["cannot write"]);
}

#[test]
fn shards_and_lists_have_an_index_too() {
    let (folder, indices) = (tempdir().unwrap(), tempdir().unwrap());
    put(folder.path(), "a.png", &png(4, 1));
    put(folder.path(), "b.png", &png(4, 2));
    put(folder.path(), "list.csv", b"path,label,split\na.png,x,train\nb.png,x,val\n");
    settle(folder.path());
    assert_eq!(open(folder.path(), indices.path()).train.len(), 1);
    assert!(index_in(indices.path()).is_some());
    assert_eq!(open(folder.path(), indices.path()).notes.len(), 1);
    put(
        folder.path(),
        "list.csv",
        b"path,label,split\na.png,x,train\nb.png,x,train\na.png,x,val\n",
    );
    // One of the two is drawn for validation; it would be none of one.
    let data = open(folder.path(), indices.path());
    assert_eq!(data.train.len() + data.validation.len(), 2);
}

/// A list names files, and no folder's time tells that one of them has come.
#[test]
fn files_that_a_list_names_may_come_later() {
    let (folder, indices) = (tempdir().unwrap(), tempdir().unwrap());
    put(folder.path(), "a.png", &png(4, 1));
    let text = b"path,label,split\na.png,x,train\nb.png,x,train\na.png,x,val\na.png,x,test\n";
    put(folder.path(), "list.csv", text);
    settle(folder.path());
    let data = open(folder.path(), indices.path());
    assert!(index_in(indices.path()).is_some());
    assert_says(&data.train.decode(1).unwrap_err().to_string(), &["b.png", "No such file"]);
    put(folder.path(), "b.png", &png(4, 2));
    let data = open(folder.path(), indices.path());
    assert_eq!(data.train.decode(1).unwrap().bytes()[0], 2);
}
