//! Folders of small pictures on disk.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::fs;
use std::path::{Path, PathBuf};

use spvit_data::{Dataset, DatasetOptions, ImageOptions, load};

/// One of the pictures beside the tests.
pub fn picture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    fs::read(folder.join(name)).unwrap()
}

/// A grey PNG of `side` x `side` pixels of one value.
pub fn png(side: u32, value: u8) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_pixel(side, side, image::Luma([value]))
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

/// Writes `bytes` to `path` in `folder`, and the folders on the way.
pub fn put(folder: &Path, path: &str, bytes: &[u8]) -> PathBuf {
    let file = folder.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, bytes).unwrap();
    file
}

/// Writes `count` pictures of every class in `split`, called 00.png, 01.png, ...; their grey is their number, and 40
/// more for every class.
pub fn classes(folder: &Path, split: &str, names: &[&str], count: u8) {
    for (class, name) in names.iter().enumerate() {
        for image in 0..count {
            let value = image + 40 * class as u8;
            put(folder, &format!("{split}/{name}/{image:02}.png"), &png(4, value));
        }
    }
}

pub fn options(images: ImageOptions) -> DatasetOptions {
    DatasetOptions { images, ..DatasetOptions::new(0) }
}

pub fn open(folder: &Path) -> Dataset {
    load(folder, &options(ImageOptions { channels: 1, ..ImageOptions::default() })).unwrap()
}

/// What loading says is wrong.
pub fn message(folder: &Path) -> String {
    load(folder, &options(ImageOptions::default())).unwrap_err().to_string()
}

/// The grey of every image of a split with its label.
pub fn greys(source: &dyn spvit_data::ImageSource) -> Vec<(u8, u16)> {
    (0..source.len())
        .map(|index| (source.decode(index).unwrap().bytes()[0], source.label(index).unwrap()))
        .collect()
}

pub fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
}

/// Makes all folders look as if they had not changed for an hour, as they must for an index to be written.
pub fn settle(folder: &Path) {
    let hour = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                fs::File::open(&path).unwrap().set_modified(hour).unwrap();
            }
        }
        fs::File::open(&folder).unwrap().set_modified(hour).unwrap();
    }
}
