//! Folders with a folder for every class, in splits or not.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::error::DataError;
use crate::images::catalogue::{Catalogue, Container, Kind, Split};
use crate::images::walk::{PassedOver, add_classes, folders, has_image_ending};

/// Labels are 16 bits.
const MAX_CLASSES: usize = 1 << 16;

/// The folder of every split in `root`, train first; none where no folder is called after training images.
pub(crate) fn splits(root: &Path) -> Result<Vec<(Split, PathBuf)>, DataError> {
    let mut found: Vec<(Split, PathBuf)> = Vec::new();
    for folder in folders(root)? {
        let Some(split) = folder.file_name().and_then(OsStr::to_str).and_then(Split::named) else {
            continue;
        };
        if let Some((_, other)) = found.iter().find(|known| known.0 == split) {
            return Err(DataError::malformed(
                root,
                format!("one folder of {} images", split.name()),
                format!("{} and {}", other.display(), folder.display()),
                "Keep one of them there",
            ));
        }
        found.push((split, folder));
    }
    found.sort();
    Ok(if found.first().is_some_and(|first| first.0 == Split::Train) { found } else { Vec::new() })
}

/// Whether some folder in `root` holds, at any depth, something that is called an image.
pub(crate) fn has_image(root: &Path) -> Result<bool, DataError> {
    for folder in folders(root)? {
        let walk = WalkDir::new(folder).follow_links(true).into_iter().flatten();
        if walk.into_iter().any(|found| has_image_ending(found.path())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads folders of splits, each with a folder for every class.
pub(crate) fn read_splits(
    root: &Path,
    splits: &[(Split, PathBuf)],
) -> Result<Catalogue, DataError> {
    let mut catalogue = begin(root)?;
    let mut passed = PassedOver::default();
    for (split, folder) in splits {
        catalogue.containers.push(container(root, folder)?);
        let classes = folders(folder)?;
        let names = names_of(folder, &classes)?;
        if catalogue.classes.is_empty() {
            catalogue.classes = names;
        } else if catalogue.classes != names {
            return Err(disagreement(&splits[0].1, &catalogue.classes, folder, &names));
        }
        let counts = add_classes(&mut catalogue, &classes, *split, &mut passed)?;
        if *split == Split::Train {
            refuse_empty(&classes, &counts)?;
        }
    }
    catalogue.notes = passed.notes();
    Ok(catalogue)
}

/// Reads a folder with a folder for every class.
pub(crate) fn read_whole(root: &Path) -> Result<Catalogue, DataError> {
    let mut catalogue = begin(root)?;
    let mut passed = PassedOver::default();
    let classes = folders(root)?;
    catalogue.classes = names_of(root, &classes)?;
    let counts = add_classes(&mut catalogue, &classes, Split::Whole, &mut passed)?;
    refuse_empty(&classes, &counts)?;
    catalogue.notes = passed.notes();
    Ok(catalogue)
}

fn begin(root: &Path) -> Result<Catalogue, DataError> {
    let containers = vec![container(root, root)?];
    Ok(Catalogue { root: root.to_path_buf(), containers, ..Catalogue::default() })
}

fn container(root: &Path, folder: &Path) -> Result<Container, DataError> {
    Container::now(Kind::Folder, root, folder.strip_prefix(root).unwrap_or(folder))
}

fn names_of(folder: &Path, classes: &[PathBuf]) -> Result<Vec<String>, DataError> {
    if classes.is_empty() || classes.len() > MAX_CLASSES {
        return Err(DataError::malformed(
            folder,
            format!("a folder for every class, 1 to {MAX_CLASSES} of them"),
            format!("{} folders", classes.len()),
            "Put the images of each class into a folder called after it",
        ));
    }
    let name = |class: &PathBuf| {
        class.file_name().unwrap_or(class.as_os_str()).to_string_lossy().into_owned()
    };
    Ok(classes.iter().map(name).collect())
}

fn refuse_empty(classes: &[PathBuf], counts: &[usize]) -> Result<(), DataError> {
    match classes.iter().zip(counts).find(|class| *class.1 == 0) {
        None => Ok(()),
        Some((class, _)) => Err(DataError::malformed(
            class,
            "at least one image of the class",
            "none",
            "Put images there, or remove the folder",
        )),
    }
}

fn disagreement(first: &Path, known: &[String], folder: &Path, found: &[String]) -> DataError {
    let lacking = |these: &[String], those: &[String]| {
        let mut names: Vec<&str> =
            these.iter().filter(|name| !those.contains(name)).map(String::as_str).collect();
        let more = names.len().saturating_sub(5);
        names.truncate(5);
        match (names.len(), more) {
            (0, _) => String::new(),
            (_, 0) => names.join(", "),
            (_, more) => format!("{} and {more} more", names.join(", ")),
        }
    };
    let (missing, extra) = (lacking(known, found), lacking(found, known));
    let found = match (missing.is_empty(), extra.is_empty()) {
        (false, true) => format!("no folder for {missing}"),
        (true, false) => format!("folders for {extra} besides"),
        _ => format!("no folder for {missing}, and folders for {extra} besides"),
    };
    DataError::malformed(
        folder,
        format!("the classes of {}", first.display()),
        found,
        "Labels are the order of the class folders, so that all splits must have the same",
    )
}
