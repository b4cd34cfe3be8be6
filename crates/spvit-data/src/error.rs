//! What can go wrong, in words that say what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// The files a data folder may hold, as told to somebody whose folder holds none of them.
pub(crate) const KNOWN_FORMATS: &str = "one of: MNIST-family IDX files (train-images-idx3-ubyte, \
train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or .gz); CIFAR-10's binary \
version (data_batch_1.bin to data_batch_5.bin and test_batch.bin, or the folder cifar-10-batches-bin that holds \
them); CIFAR-100's binary version (train.bin and test.bin, or the folder cifar-100-binary that holds them); image \
files (a folder for every class, inside train, val and test or without them; a CSV list of path and label; WebDataset \
.tar shards)";

/// An image set that could not be read, split, loaded or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The data folder does not exist or is not a folder.
    #[error("no data folder at {}: expected a folder holding {KNOWN_FORMATS}. Check the path, or download a data set \
             there", folder.display())]
    FolderMissing {
        /// The folder asked for.
        folder: PathBuf,
    },
    /// The folder holds no file of a known data set.
    #[error("no known data set in {}: expected {KNOWN_FORMATS}; found {found}. Check the path, or unpack the data set \
             there", folder.display())]
    UnknownFormat {
        /// The folder asked for.
        folder: PathBuf,
        /// The first few names in it.
        found: String,
    },
    /// The folder holds files of several data sets and the options do not choose.
    #[error("{} holds several data sets ({candidates}): set `format` to the one meant", folder.display())]
    AmbiguousFormat {
        /// The folder asked for.
        folder: PathBuf,
        /// The formats found, as `format` spells them.
        candidates: String,
    },
    /// One file of a data set is absent.
    #[error("missing file {}: {expected}; found no such file. Copy it there from the data set's origin", file.display())]
    MissingFile {
        /// The absent file.
        file: PathBuf,
        /// Which data set needs it, and under which other name it may come.
        expected: String,
    },
    /// The operating system refused to read or write.
    // The cause stands in the message and is no `source`: a caller that prints only the message must not lose the
    // reason, and one that prints the chain must not say it twice.
    #[error("cannot {action} {}: {cause}. Check that the path is right and that you may {action} there", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// `read`, `write`, `create`, ...
        action: &'static str,
        /// What the operating system said.
        cause: io::Error,
    },
    /// A `.gz` file does not decompress.
    #[error("{}: expected a complete gzip stream, found {detail}. The file is damaged or cut short: fetch it again",
            file.display())]
    Gzip {
        /// The file.
        file: PathBuf,
        /// What the decoder said.
        detail: String,
    },
    /// A file's bytes are not what its format prescribes.
    #[error("{}: expected {expected}, found {found}. {advice}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What the format prescribes.
        expected: String,
        /// What the file holds.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// A file differs from the one that `SHA256SUMS` describes.
    #[error("{}: expected SHA-256 {expected} as {} says, found {found}. The file is damaged or was changed: fetch it \
             again", file.display(), list.display())]
    Checksum {
        /// The file.
        file: PathBuf,
        /// The list that names it.
        list: PathBuf,
        /// The hash in the list, lower-case hexadecimal.
        expected: String,
        /// The file's hash, lower-case hexadecimal.
        found: String,
    },
    /// The data set has too few images for the numbers asked of it.
    #[error("{}: expected {expected}, found {found}. {advice}", folder.display())]
    Split {
        /// The data folder.
        folder: PathBuf,
        /// What was asked.
        expected: String,
        /// What there is.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// An image cannot be read or decoded.
    #[error("{name}: {problem}")]
    Image {
        /// Its path, or its archive's and its name there.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// More images are broken than may be left out.
    #[error(
        "{count} of {images} images are broken, more than `broken_limit` = {limit} allows; the first: {first}. \
             Mend or remove them, or raise `broken_limit`"
    )]
    Broken {
        /// The broken images met so far.
        count: usize,
        /// All images of the split.
        images: usize,
        /// The share that may be broken, 0 to 1.
        limit: f64,
        /// The first broken image and its fault.
        first: String,
    },
    /// The processes that draw batches together do not understand each other.
    #[error("several processes: {problem}")]
    Peers {
        /// Why not.
        problem: String,
    },
    /// An option is outside its range, or does not fit the images.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// The option's name, as configuration files spell it.
        option: &'static str,
        /// Its range, in words.
        expected: String,
        /// What was given.
        found: String,
    },
}

impl DataError {
    pub(crate) fn io(action: &'static str, file: &Path, cause: io::Error) -> Self {
        Self::Io { file: file.to_path_buf(), action, cause }
    }

    pub(crate) fn malformed(
        file: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self::Malformed {
            file: file.to_path_buf(),
            expected: expected.into(),
            found: found.into(),
            advice,
        }
    }

    pub(crate) fn option(
        option: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Option { option, expected: expected.into(), found: found.to_string() }
    }
}
