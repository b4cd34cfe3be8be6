//! From a folder to a [`Dataset`].

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cifar::{CIFAR10, CIFAR100};
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::idx;
use crate::images::open::{self, Layout};
use crate::images::options::ImageOptions;
use crate::set::ImageSet;

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
    /// Image files: folders of classes, in splits or not, a CSV list, or tar shards.
    Images,
}

/// How a data set is read and split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetOptions {
    /// The files' layout; found out from the folder unless given.
    #[serde(default)]
    pub format: Format,
    /// How many images, the last of the training files, are kept from training and form the validation split.
    /// 0 gives an empty validation split. For IDX and CIFAR files; image files have shares, in `images`.
    pub validation: usize,
    /// At most this many training images, the first of the file, or of image files some of all classes; all if not
    /// given. The validation split does not depend on it.
    #[serde(default)]
    pub train_limit: Option<usize>,
    /// At most this many test images likewise; all if not given.
    #[serde(default)]
    pub test_limit: Option<usize>,
    /// How image files are read.
    #[serde(default)]
    pub images: ImageOptions,
}

impl DatasetOptions {
    /// All images of any known format, `validation` of them kept from training.
    pub fn new(validation: usize) -> Self {
        let images = ImageOptions::default();
        Self { format: Format::Auto, validation, train_limit: None, test_limit: None, images }
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
    if !folder.is_dir() && !folder.is_file() {
        return Err(DataError::FolderMissing { folder: folder.to_path_buf() });
    }
    if let Some(layout) = image_files(folder, options.format)? {
        return open::open(folder, name_of(folder), &layout, options);
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

/// Whether a folder or file is read as image files where its format is to be found out.
pub fn is_image_files(folder: &Path) -> bool {
    matches!(image_files(folder, Format::Auto), Ok(Some(_)))
}

/// How image files lie in `folder`, where they are asked for or nothing else is there.
fn image_files(folder: &Path, format: Format) -> Result<Option<Layout>, DataError> {
    match format {
        Format::Images => Layout::find(folder)?.map(Some).ok_or_else(|| unknown(folder)),
        Format::Auto if present(folder).is_empty() => Layout::find(folder),
        _ => Ok(None),
    }
}

fn unknown(folder: &Path) -> DataError {
    let found = listing(folder).unwrap_or_else(|_| "a file".to_owned());
    DataError::UnknownFormat { folder: folder.to_path_buf(), found }
}

/// Reads the files of `folder` without splitting them.
pub(crate) fn read(folder: &Path, format: Format) -> Result<Source, DataError> {
    if !folder.is_dir() {
        return Err(DataError::FolderMissing { folder: folder.to_path_buf() });
    }
    let format = if format == Format::Auto { detect(folder)? } else { format };
    match format {
        Format::Auto | Format::Idx => idx::read(folder),
        Format::Images => Err(unknown(folder)),
        Format::Cifar10 => CIFAR10.read(folder),
        Format::Cifar100 => CIFAR100.read(folder),
    }
}

/// The format of which at least one file is there. A data set that lacks a file is thus recognised, and the file named.
fn detect(folder: &Path) -> Result<Format, DataError> {
    match present(folder)[..] {
        [(format, _)] => Ok(format),
        [] => Err(unknown(folder)),
        ref several => {
            let candidates = several.iter().map(|format| format.1).collect::<Vec<_>>().join(", ");
            Err(DataError::AmbiguousFormat { folder: folder.to_path_buf(), candidates })
        }
    }
}

/// The formats of which at least one file is there.
fn present(folder: &Path) -> Vec<(Format, &'static str)> {
    let mut formats = vec![
        (Format::Idx, "idx", idx::is_in(folder)),
        (Format::Cifar10, "cifar10", CIFAR10.find(folder).is_some()),
        (Format::Cifar100, "cifar100", CIFAR100.find(folder).is_some()),
    ];
    formats.retain(|format| format.2);
    formats.into_iter().map(|format| (format.0, format.1)).collect()
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
