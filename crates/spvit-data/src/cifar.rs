//! The binary versions of CIFAR-10 and CIFAR-100: <https://www.cs.toronto.edu/~kriz/cifar.html>.
//!
//! A file is a row of records; a record is one label byte (CIFAR-100: the coarse one, then the fine one) and
//! 3 x 32 x 32 bytes of pixels.

use std::path::{Path, PathBuf};

use crate::checksums::Files;
use crate::error::DataError;
use crate::load::Source;
use crate::set::ImageSet;

const SHAPE: [usize; 3] = [3, 32, 32];
const IMAGE: usize = 3 * 32 * 32;

/// How one of the two data sets is stored.
pub(crate) struct Layout {
    name: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    /// The number of values of each label byte; the last byte is the label that counts.
    label_ranges: &'static [u8],
    class_names: &'static str,
    /// The folder that the published archive unpacks to.
    folder: &'static str,
}

/// CIFAR-10.
pub(crate) const CIFAR10: Layout = Layout {
    name: "CIFAR-10",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    label_ranges: &[10],
    class_names: "batches.meta.txt",
    folder: "cifar-10-batches-bin",
};

/// CIFAR-100, with its fine labels.
pub(crate) const CIFAR100: Layout = Layout {
    name: "CIFAR-100",
    train: &["train.bin"],
    test: "test.bin",
    label_ranges: &[20, 100],
    class_names: "fine_label_names.txt",
    folder: "cifar-100-binary",
};

impl Layout {
    /// The folder that holds at least one of the files: `folder`, or the archive's folder in it.
    pub(crate) fn find(&self, folder: &Path) -> Option<PathBuf> {
        let holds = |folder: &Path| {
            self.train.iter().chain([&self.test]).any(|name| folder.join(name).is_file())
        };
        [folder.to_path_buf(), folder.join(self.folder)].into_iter().find(|folder| holds(folder))
    }

    /// Reads the files found in `folder` or in the archive's folder in it.
    pub(crate) fn read(&self, folder: &Path) -> Result<Source, DataError> {
        let inner = self.find(folder).unwrap_or_else(|| folder.to_path_buf());
        let files = Files::in_folders(&[folder, &inner])?;
        let train: Vec<PathBuf> = self.train.iter().map(|name| inner.join(name)).collect();
        let test = [inner.join(self.test)];
        Ok(Source {
            train: self.read_files(&files, &train)?,
            test: self.read_files(&files, &test)?,
            class_names: files.class_names(&inner.join(self.class_names), self.classes())?,
        })
    }

    fn classes(&self) -> usize {
        self.label_ranges.last().map_or(0, |&range| usize::from(range))
    }

    fn read_files(&self, files: &Files, paths: &[PathBuf]) -> Result<ImageSet, DataError> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for path in paths {
            if !path.is_file() {
                let names = self.train.join(", ");
                let expected =
                    format!("{}'s binary version has {names} and {}", self.name, self.test);
                return Err(DataError::MissingFile { file: path.clone(), expected });
            }
            self.read_records(path, &files.read(path)?, &mut pixels, &mut labels)?;
        }
        ImageSet::new(SHAPE, self.classes(), pixels, labels)
    }

    fn read_records(
        &self,
        file: &Path,
        bytes: &[u8],
        pixels: &mut Vec<u8>,
        labels: &mut Vec<u16>,
    ) -> Result<(), DataError> {
        let record = self.label_ranges.len() + IMAGE;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            return Err(DataError::malformed(
                file,
                format!("one or more {} records of {record} bytes", self.name),
                format!(
                    "{} bytes, {} records and {} bytes",
                    bytes.len(),
                    bytes.len() / record,
                    bytes.len() % record
                ),
                "The file is cut short, damaged or not the binary version: fetch it again",
            ));
        }
        pixels.reserve(bytes.len());
        for (index, record) in bytes.chunks_exact(record).enumerate() {
            let (label_bytes, image) = record.split_at(self.label_ranges.len());
            for (&label, &range) in label_bytes.iter().zip(self.label_ranges) {
                if label >= range {
                    return Err(DataError::malformed(
                        file,
                        format!("{} labels from 0 to {}", self.name, range - 1),
                        format!("label {label} in record {index}"),
                        "The file is damaged or of another data set: fetch it again",
                    ));
                }
            }
            labels.extend(label_bytes.last().map(|&label| u16::from(label)));
            pixels.extend_from_slice(image);
        }
        Ok(())
    }
}
