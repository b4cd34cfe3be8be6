//! Folders of classes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::error::DataError;
use crate::images::bytes;
use crate::images::catalogue::{Catalogue, Container, Entry, Kind, Split};
use crate::images::decode::is_image;

/// Folders nested deeper than this are a mistake.
const MAX_DEPTH: usize = 64;
/// Files with these endings are taken for images without a look into each.
const ENDINGS: [&str; 7] = ["jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp"];

const CIRCLE: &str = "a symbolic link to a folder that it lies in";

/// What was passed over, by reason: how often, and the first.
#[derive(Default)]
pub(crate) struct PassedOver(Vec<(&'static str, usize, PathBuf)>);

impl PassedOver {
    pub(crate) fn add(&mut self, reason: &'static str, path: &Path) {
        match self.0.iter_mut().find(|known| known.0 == reason) {
            Some(known) => known.1 += 1,
            None => self.0.push((reason, 1, path.to_path_buf())),
        }
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        let note = |(reason, count, first): &(&str, usize, PathBuf)| match count {
            1 => format!("passed over {}: {reason}", first.display()),
            _ => format!("passed over {count} files, the first {}: {reason}", first.display()),
        };
        self.0.iter().map(note).collect()
    }
}

/// The folders in `folder` that may be classes or splits, sorted by name.
pub(crate) fn folders(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    list(folder, |path| path.is_dir())
}

/// The files in `folder` with this ending, sorted by name.
pub(crate) fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, DataError> {
    list(folder, |path| {
        path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending)) && path.is_file()
    })
}

fn list(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, DataError> {
    let failed = |cause| DataError::io("read", folder, cause);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !is_hidden(&entry.file_name()) && wanted(&entry.path()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn is_hidden(name: &OsStr) -> bool {
    // What macOS leaves in archives is not hidden by a point.
    name.as_encoded_bytes().starts_with(b".") || name == "__MACOSX"
}

/// Adds all images below the class folders `classes` (under the catalogue's root), labelled by their order; gives the
/// number found in each class.
pub(crate) fn add_classes(
    catalogue: &mut Catalogue,
    classes: &[PathBuf],
    split: Split,
    passed: &mut PassedOver,
) -> Result<Vec<usize>, DataError> {
    let mut counts = Vec::with_capacity(classes.len());
    for (label, class) in classes.iter().enumerate() {
        let before = catalogue.entries.len();
        // The caller has seen to it that labels fit.
        add_class(catalogue, class, (label as u16, split), passed)?;
        counts.push(catalogue.entries.len() - before);
    }
    Ok(counts)
}

fn add_class(
    catalogue: &mut Catalogue,
    class: &Path,
    (label, split): (u16, Split),
    passed: &mut PassedOver,
) -> Result<(), DataError> {
    // The containers of the folders that lead to where the walk is.
    let mut above: Vec<u32> = Vec::new();
    let walk = WalkDir::new(class).follow_links(true).max_depth(MAX_DEPTH).sort_by_file_name();
    let shown = |entry: &DirEntry| entry.depth() == 0 || !is_hidden(entry.file_name());
    let mut walk = walk.into_iter().filter_entry(shown);
    let upwards = |found: &DirEntry| match (found.path().canonicalize(), class.canonicalize()) {
        (Ok(target), Ok(class)) => class.starts_with(target),
        _ => false,
    };
    while let Some(found) = walk.next() {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                pass_over(error, class, passed)?;
                continue;
            }
        };
        let metadata = found.metadata().map_err(|error| unreadable(error, class))?;
        if metadata.is_dir() && found.depth() > 0 && found.path_is_symlink() && upwards(&found) {
            // Its images are those of other classes, or of this one again.
            passed.add(CIRCLE, found.path());
            walk.skip_current_dir();
        } else if metadata.is_dir() {
            let root = catalogue.root.clone();
            let path = found.path().strip_prefix(&root).unwrap_or(found.path());
            above.truncate(found.depth());
            above.push(catalogue.containers.len() as u32);
            catalogue.containers.push(Container {
                kind: Kind::Folder,
                path: path.to_path_buf(),
                size: 0,
                modified: bytes::modified(&metadata),
            });
        } else if !metadata.is_file() {
            passed.add("neither a file nor a folder", found.path());
        } else if has_image_ending(found.path()) || looks_like_image(found.path()) {
            let container = above.get(found.depth() - 1).copied().unwrap_or_default();
            let name = bytes::of_path(Path::new(found.file_name()));
            let (size, modified) = (metadata.len(), bytes::modified(&metadata));
            let entry = Entry { container, name: (0, 0), label, split, offset: 0, size, modified };
            catalogue.push(&name, entry)?;
        } else {
            passed.add("not an image", found.path());
        }
    }
    Ok(())
}

fn pass_over(
    error: walkdir::Error,
    class: &Path,
    passed: &mut PassedOver,
) -> Result<(), DataError> {
    let path = error.path().unwrap_or(class).to_path_buf();
    let denied =
        error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    if error.loop_ancestor().is_some() {
        passed.add(CIRCLE, &path);
    } else if path.is_symlink() && !denied {
        passed.add("a symbolic link that leads nowhere", &path);
    } else {
        return Err(unreadable(error, class));
    }
    Ok(())
}

fn unreadable(error: walkdir::Error, class: &Path) -> DataError {
    let path = error.path().unwrap_or(class).to_path_buf();
    let cause =
        error.into_io_error().unwrap_or_else(|| std::io::Error::other("the folder changed"));
    DataError::io("read", &path, cause)
}

pub(crate) fn has_image_ending(path: &Path) -> bool {
    path.extension()
        .is_some_and(|found| ENDINGS.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

fn looks_like_image(path: &Path) -> bool {
    let mut start = Vec::with_capacity(16);
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    read.is_ok() && is_image(&start)
}
