//! From a folder to a [`Dataset`].

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cifar::{CIFAR10, CIFAR100};
use crate::error::DataError;
use crate::idx;
use crate::set::{Dataset, ImageSet};

/// How a data folder's files are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Whichever of the others the folder holds.
    #[default]
    Auto,
    /// MNIST, Fashion-MNIST and their relatives: four IDX files, plain or `.gz`.
    Idx,
    /// CIFAR-10's binary version.
    Cifar10,
    /// CIFAR-100's binary version, with the fine labels.
    Cifar100,
}

/// How a data set is read and split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetOptions {
    /// The files' layout; found out from the folder unless given.
    #[serde(default)]
    pub format: Format,
    /// How many images, the last of the training files, are kept from training and form the validation split.
    /// 0 gives an empty validation split.
    pub validation: usize,
    /// At most this many training images, the first of the file; all if not given. The validation split does not
    /// depend on it.
    #[serde(default)]
    pub train_limit: Option<usize>,
    /// At most this many test images, the first of the file; all if not given.
    #[serde(default)]
    pub test_limit: Option<usize>,
}

impl DatasetOptions {
    /// All images of any known format, `validation` of them kept from training.
    pub fn new(validation: usize) -> Self {
        Self { format: Format::Auto, validation, train_limit: None, test_limit: None }
    }
}

/// A data set as its files give it.
pub(crate) struct Source {
    pub(crate) train: ImageSet,
    pub(crate) test: ImageSet,
    pub(crate) class_names: Vec<String>,
}

/// Reads the data set in `folder`.
///
/// The validation split is the last `options.validation` images of the training files; the training split is what
/// comes before, or its first `options.train_limit` images. A file that the folder's `SHA256SUMS` lists is checked
/// against it. For IDX files the number of classes is one more than the largest training label, and their names come
/// from `class_names.txt` (one a line) if there is one.
///
/// # Errors
///
/// A [`DataError`] that names the folder or file: missing, unreadable, of no or several known formats, damaged, not
/// matching its companion or its checksum, or with too few images to split as asked.
pub fn load(folder: &Path, options: &DatasetOptions) -> Result<Dataset, DataError> {
    for (option, limit) in
        [("train_limit", options.train_limit), ("test_limit", options.test_limit)]
    {
        if limit == Some(0) {
            return Err(DataError::option(option, "at least 1, or no limit", 0));
        }
    }
    let source = read(folder, options.format)?;
    let available = source.train.len();
    let Some(kept) = available.checked_sub(options.validation).filter(|&kept| kept > 0) else {
        return Err(DataError::Split {
            folder: folder.to_path_buf(),
            expected: format!(
                "more training images than the {} asked for validation",
                options.validation
            ),
            found: format!("{available} training images"),
            advice: "Set `validation` to less than that",
        });
    };
    let (train, validation) = source.train.split_at(kept);
    let (train, _) = train.split_at(options.train_limit.unwrap_or(kept));
    let (test, _) = source.test.split_at(options.test_limit.unwrap_or(usize::MAX));
    Ok(Dataset::from_splits(name_of(folder), source.class_names, [train, validation, test]))
}

/// Reads the files of `folder` without splitting them.
pub(crate) fn read(folder: &Path, format: Format) -> Result<Source, DataError> {
    if !folder.is_dir() {
        return Err(DataError::FolderMissing { folder: folder.to_path_buf() });
    }
    let format = if format == Format::Auto { detect(folder)? } else { format };
    match format {
        Format::Auto | Format::Idx => idx::read(folder),
        Format::Cifar10 => CIFAR10.read(folder),
        Format::Cifar100 => CIFAR100.read(folder),
    }
}

/// The format of which at least one file is there. A data set that lacks a file is thus recognised, and the file named.
fn detect(folder: &Path) -> Result<Format, DataError> {
    let present = [
        (Format::Idx, "idx", idx::is_in(folder)),
        (Format::Cifar10, "cifar10", CIFAR10.find(folder).is_some()),
        (Format::Cifar100, "cifar100", CIFAR100.find(folder).is_some()),
    ];
    let present: Vec<(Format, &str)> = present.iter().filter(|f| f.2).map(|f| (f.0, f.1)).collect();
    match present[..] {
        [(format, _)] => Ok(format),
        [] => {
            Err(DataError::UnknownFormat { folder: folder.to_path_buf(), found: listing(folder)? })
        }
        _ => {
            let candidates = present.iter().map(|format| format.1).collect::<Vec<_>>().join(", ");
            Err(DataError::AmbiguousFormat { folder: folder.to_path_buf(), candidates })
        }
    }
}

/// The first few names in a folder, for a message.
fn listing(folder: &Path) -> Result<String, DataError> {
    const SHOWN: usize = 8;
    let entries = fs::read_dir(folder).map_err(|cause| DataError::io("read", folder, cause))?;
    let mut names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let hidden = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    Ok(match (names.is_empty(), hidden) {
        (true, _) => "an empty folder".to_owned(),
        (false, 0) => names.join(", "),
        (false, hidden) => format!("{} and {hidden} more", names.join(", ")),
    })
}

/// The folder's own name, also where it is given as `.` or ends in `..`.
fn name_of(folder: &Path) -> String {
    let resolved = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    resolved.file_name().unwrap_or(resolved.as_os_str()).to_string_lossy().into_owned()
}
