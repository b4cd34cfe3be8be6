//! The IDX format of the MNIST family: <http://yann.lecun.com/exdb/mnist/>.
//!
//! A file is a big-endian header (two zero bytes, the type 8 for bytes, the number of dimensions, each dimension as
//! 32 bits) and then the bytes.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::checksums::{Files, MAX_BYTES};
use crate::error::DataError;
use crate::load::Source;
use crate::set::ImageSet;

pub(crate) const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
pub(crate) const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
pub(crate) const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
pub(crate) const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";
/// Ours, and optional: the format itself has no names for classes.
pub(crate) const CLASS_NAMES: &str = "class_names.txt";

const FETCH_AGAIN: &str = "Fetch the file again from the data set's origin";
const MAX_SIDE: usize = 4096;

/// Whether `folder` holds at least one of the four files.
pub(crate) fn is_in(folder: &Path) -> bool {
    [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS]
        .iter()
        .any(|name| find(folder, name).is_ok())
}

/// Reads the four files of `folder`.
pub(crate) fn read(folder: &Path) -> Result<Source, DataError> {
    let files = Files::in_folders(&[folder])?;
    let train = read_part(&files, folder, TRAIN_IMAGES, TRAIN_LABELS)?;
    let test = read_part(&files, folder, TEST_IMAGES, TEST_LABELS)?;
    if (train.height, train.width) != (test.height, test.width) {
        return Err(DataError::malformed(
            &test.image_file,
            format!("images of {} x {} as in the training file", train.height, train.width),
            format!("images of {} x {}", test.height, test.width),
            "Take all four files from one data set",
        ));
    }
    let classes = classes(&train)?;
    if let Some(&label) = test.labels.iter().find(|&&label| usize::from(label) >= classes) {
        return Err(DataError::malformed(
            &test.label_file,
            format!("labels 0 to {}, those of the training file", classes - 1),
            format!("label {label}"),
            "Take all four files from one data set",
        ));
    }
    let class_names = files.class_names(&folder.join(CLASS_NAMES), classes)?;
    Ok(Source { train: train.into_set(classes)?, test: test.into_set(classes)?, class_names })
}

/// One pair of files.
struct Part {
    image_file: PathBuf,
    label_file: PathBuf,
    height: usize,
    width: usize,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Part {
    fn into_set(self, classes: usize) -> Result<ImageSet, DataError> {
        let labels = self.labels.into_iter().map(u16::from).collect();
        ImageSet::new([1, self.height, self.width], classes, self.pixels, labels)
    }
}

fn read_part(files: &Files, folder: &Path, images: &str, labels: &str) -> Result<Part, DataError> {
    let (image_file, label_file) = (find(folder, images)?, find(folder, labels)?);
    let ([count, height, width], pixels) = decode::<3>(&image_file, &files.read(&image_file)?)?;
    let ([label_count], labels) = decode::<1>(&label_file, &files.read(&label_file)?)?;
    if count != label_count {
        return Err(DataError::malformed(
            &label_file,
            format!("{count} labels, as many as {} has images", image_file.display()),
            format!("{label_count} labels"),
            "Take both files from one data set",
        ));
    }
    Ok(Part { image_file, label_file, height, width, pixels, labels })
}

/// The file called `name` or `name.gz`.
fn find(folder: &Path, name: &str) -> Result<PathBuf, DataError> {
    // The compressed file comes first: it is the one that data sets are published as, with checksums.
    let compressed = folder.join(format!("{name}.gz"));
    let plain = folder.join(name);
    [compressed, plain].into_iter().find(|file| file.is_file()).ok_or_else(|| {
        DataError::MissingFile {
            file: folder.join(name),
            expected: format!(
                "an MNIST-family data set has {name} or {name}.gz beside its other three files"
            ),
        }
    })
}

/// The number of classes: the format does not say it, so it is one more than the largest training label.
///
/// A class without images below the largest is refused, since one damaged label would otherwise pass for a hundred
/// new classes. Class 0 may be empty: EMNIST's letters count from 1.
fn classes(train: &Part) -> Result<usize, DataError> {
    let mut seen = [false; 256];
    for &label in &train.labels {
        seen[usize::from(label)] = true;
    }
    let classes = seen.iter().rposition(|&seen| seen).map_or(0, |largest| largest + 1);
    if let Some(gap) = (1..classes).find(|&class| !seen[class]) {
        return Err(DataError::malformed(
            &train.label_file,
            format!("images of every class up to the largest label, {}", classes - 1),
            format!("none of class {gap}"),
            "Fetch the file again, or number the classes without gaps",
        ));
    }
    Ok(classes)
}

/// The dimensions and the data of an IDX file of `D` dimensions, given the bytes of the file as it is on disk.
pub(crate) fn decode<const D: usize>(
    file: &Path,
    stored: &[u8],
) -> Result<([usize; D], Vec<u8>), DataError> {
    let gzip = file.extension().is_some_and(|extension| extension == "gz");
    let mut reader: Box<dyn Read + '_> =
        if gzip { Box::new(MultiGzDecoder::new(stored)) } else { Box::new(stored) };
    let mut read = |limit: u64| {
        let mut bytes = Vec::new();
        match reader.by_ref().take(limit).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(cause) => {
                Err(DataError::Gzip { file: file.to_path_buf(), detail: cause.to_string() })
            }
        }
    };
    let header = read(4 + 4 * D as u64)?;
    let dimensions = dimensions::<D>(file, &header)?;
    // Nothing is allocated on the header's word: `read` grows with what really comes out, one byte past what the
    // header says at most.
    let expected =
        dimensions.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
    let expected = expected.filter(|&bytes| bytes <= MAX_BYTES).ok_or_else(|| {
        let found = format!("a header that announces {dimensions:?}");
        DataError::malformed(file, format!("at most {MAX_BYTES} bytes of data"), found, FETCH_AGAIN)
    })?;
    let data = read(expected + 1)?;
    let found = data.len() as u64;
    if found != expected {
        let found = if found < expected {
            format!("only {found}: the file is cut short")
        } else {
            "more".into()
        };
        let expected = format!("{expected} bytes after the header, which announces {dimensions:?}");
        return Err(DataError::malformed(file, expected, found, FETCH_AGAIN));
    }
    Ok((dimensions, data))
}

fn dimensions<const D: usize>(file: &Path, header: &[u8]) -> Result<[usize; D], DataError> {
    let magic = [0, 0, 8, D as u8];
    if header.get(..4) != Some(&magic) {
        let advice = if header.starts_with(&[0x1f, 0x8b]) {
            "The file is compressed: give its name the ending .gz"
        } else {
            "Check that the file is what its name says, or fetch it again"
        };
        let expected =
            format!("an IDX file of bytes in {D} dimensions, which starts with {magic:02x?}");
        let found = format!("{:02x?}", header.get(..4).unwrap_or(header));
        return Err(DataError::malformed(file, expected, found, advice));
    }
    let sizes = &header[4..];
    if sizes.len() != 4 * D {
        let (expected, found) =
            (format!("a header of {} bytes", 4 + 4 * D), format!("{} bytes", header.len()));
        return Err(DataError::malformed(file, expected, found, FETCH_AGAIN));
    }
    let mut dimensions = [0; D];
    for (dimension, bytes) in dimensions.iter_mut().zip(sizes.chunks_exact(4)) {
        *dimension = bytes.iter().fold(0, |value, &byte| value << 8 | usize::from(byte));
    }
    if dimensions.contains(&0) || dimensions[1..].iter().any(|&side| side > MAX_SIDE) {
        let expected = format!("at least one item, and images of 1 to {MAX_SIDE} pixels a side");
        return Err(DataError::malformed(
            file,
            expected,
            format!("dimensions {dimensions:?}"),
            FETCH_AGAIN,
        ));
    }
    Ok(dimensions)
}

/// An IDX file's bytes. The caller's dimensions fit 32 bits and multiply to the data's length.
pub(crate) fn encode(dimensions: &[usize], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
    for &size in dimensions {
        bytes.extend_from_slice(&(size as u32).to_be_bytes());
    }
    bytes.extend_from_slice(data);
    bytes
}
