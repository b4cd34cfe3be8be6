//! A small data set cut from a full one, to ship with a checkout.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};

use crate::checksums::LIST;
use crate::dataset::fingerprint;
use crate::error::DataError;
use crate::idx::{CLASS_NAMES, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, encode};
use crate::load::{Format, read};
use crate::set::{ImageSet, hex};

/// The last images of the source's training file, from which the subset's validation images come and its training
/// images do not. Figures on the subset and figures on the full set with this validation split are then comparable:
/// neither trains on what the other selects by.
pub const HELD_OUT: usize = 5000;

/// [`fingerprint`] of Fashion-MNIST's training file, an empty split and its test file.
const FASHION_MNIST: &str = "ed8a8b154d022dd5d62f52b3c111a6099084c6b4aec0541f0ef0ceaace583b2d";

const FASHION_CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

const LICENSE: &str = include_str!("bundle/LICENSE");
const README: &str = include_str!("bundle/README.md");

/// What [`write_subset`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// The files, in the order they were put in place.
    pub files: Vec<PathBuf>,
    /// Their size together, in bytes.
    pub bytes: u64,
}

/// Cuts a small MNIST-family data set out of the one in `source` and writes it to `dest`.
///
/// The new training file holds `train` images from all but the last [`HELD_OUT`] of the source's training file,
/// followed by `validation` images from those last ones, so that loading it with `validation` as validation split
/// takes exactly these. The new test file holds `test` images of the source's. Each group has the same number of
/// images of each class, give or take one, evenly spaced over the class's images and in the source's order.
///
/// Beside the four `.gz` files come `class_names.txt`, `README.md`, for Fashion-MNIST its `LICENSE`, and `SHA256SUMS`.
/// The bytes depend on the source's images and the three numbers only. Files are written under temporary names and
/// then renamed, the checksums last, so that a subset interrupted halfway does not load.
///
/// # Errors
///
/// Those of [`load`](crate::load) on `source`; [`DataError::Option`] when `dest` is `source`, `test` is 0 or `train`
/// below the number of classes; [`DataError::Split`] when the source has too few images; [`DataError::Io`] when
/// `dest` cannot be written.
pub fn write_subset(
    source: &Path,
    dest: &Path,
    train: usize,
    validation: usize,
    test: usize,
) -> Result<Subset, DataError> {
    write_holding_out(HELD_OUT, source, dest, [train, validation, test])
}

fn write_holding_out(
    held_out: usize,
    source: &Path,
    dest: &Path,
    [train, validation, test]: [usize; 3],
) -> Result<Subset, DataError> {
    let full = read(source, Format::Idx)?;
    let classes = full.train.classes();
    if train < classes {
        return Err(DataError::option(
            "train",
            format!("at least one image for each of {classes} classes"),
            train,
        ));
    }
    if test == 0 {
        return Err(DataError::option("test", "at least 1 image", test));
    }
    let boundary = full.train.len().saturating_sub(held_out);
    let training = full.train.labels().split_at(boundary);
    let mut chosen = balanced(source, "training", training.0, train)?;
    let selected = balanced(source, "held-out training", training.1, validation)?;
    chosen.extend(selected.iter().map(|index| boundary + index));
    let training = full.train.select(&chosen);
    let testing = full.test.select(&balanced(source, "test", full.test.labels(), test)?);

    let is_fashion =
        fingerprint([&full.train, &full.train.select(&[]), &full.test]) == FASHION_MNIST;
    let names =
        if is_fashion { FASHION_CLASSES.map(str::to_owned).to_vec() } else { full.class_names };
    let mut files = Vec::new();
    for (set, images, labels) in
        [(&training, TRAIN_IMAGES, TRAIN_LABELS), (&testing, TEST_IMAGES, TEST_LABELS)]
    {
        files.push((format!("{images}.gz"), compress(&encode_images(set), dest)?));
        files.push((format!("{labels}.gz"), compress(&encode_labels(set), dest)?));
    }
    files.push((CLASS_NAMES.to_owned(), (names.join("\n") + "\n").into_bytes()));
    files.push((
        "README.md".to_owned(),
        readme(is_fashion, [train, validation, test], held_out).into_bytes(),
    ));
    if is_fashion {
        files.push(("LICENSE".to_owned(), LICENSE.as_bytes().to_vec()));
    }
    let line =
        |(name, bytes): &(String, Vec<u8>)| format!("{}  {name}\n", hex(&Sha256::digest(bytes)));
    let list: String = files.iter().map(line).collect();
    files.push((LIST.to_owned(), list.into_bytes()));
    write_all(source, dest, &files)
}

/// `count` indices into `labels`, rising: as many of each class as of any other, or one more for the first classes,
/// and each class's evenly spaced.
fn balanced(
    source: &Path,
    part: &str,
    labels: &[u16],
    count: usize,
) -> Result<Vec<usize>, DataError> {
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (index, &label) in labels.iter().enumerate() {
        let class = usize::from(label);
        members.resize(members.len().max(class + 1), Vec::new());
        members[class].push(index);
    }
    // EMNIST's letters have no class 0.
    members.retain(|members| !members.is_empty());
    let mut chosen = Vec::with_capacity(count.min(labels.len()));
    for (class, indices) in members.iter().enumerate() {
        let quota = count / members.len() + usize::from(class < count % members.len());
        if quota > indices.len() {
            return Err(too_few(source, part, count, labels.len()));
        }
        chosen.extend((0..quota).map(|place| indices[place * indices.len() / quota]));
    }
    if chosen.len() != count {
        return Err(too_few(source, part, count, labels.len()));
    }
    chosen.sort_unstable();
    Ok(chosen)
}

fn too_few(source: &Path, part: &str, count: usize, available: usize) -> DataError {
    DataError::Split {
        folder: source.to_path_buf(),
        expected: format!("{count} {part} images, as many of each class"),
        found: format!("{available} {part} images"),
        advice: "Ask for fewer",
    }
}

fn encode_images(set: &ImageSet) -> Vec<u8> {
    encode(&[set.len(), set.height(), set.width()], set.pixels())
}

fn encode_labels(set: &ImageSet) -> Vec<u8> {
    // They were read from single bytes.
    let labels: Vec<u8> = set.labels().iter().map(|&label| label as u8).collect();
    encode(&[set.len()], &labels)
}

/// A gzip stream that says neither when nor where it was made.
fn compress(bytes: &[u8], dest: &Path) -> Result<Vec<u8>, DataError> {
    let mut stream = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    stream
        .write_all(bytes)
        .and_then(|()| stream.finish())
        .map_err(|cause| DataError::io("write", dest, cause))
}

fn readme(is_fashion: bool, [train, validation, test]: [usize; 3], held_out: usize) -> String {
    let counts = format!(
        "| split | images | from the original's |\n\
         | --- | --- | --- |\n\
         | training | {train} | training file, all but the last {held_out} |\n\
         | validation | {validation} | training file, the last {held_out} |\n\
         | test | {test} | test file |\n"
    );
    if is_fashion {
        return README
            .replace("{counts}\n", &counts)
            .replace("{validation}", &validation.to_string());
    }
    format!(
        "# A subset of an MNIST-family data set\n\n{counts}\nIts licence is that of the data set it was cut from.\n"
    )
}

fn write_all(source: &Path, dest: &Path, files: &[(String, Vec<u8>)]) -> Result<Subset, DataError> {
    fs::create_dir_all(dest).map_err(|cause| DataError::io("create", dest, cause))?;
    if let (Ok(source), Ok(dest)) = (source.canonicalize(), dest.canonicalize())
        && source == dest
    {
        return Err(DataError::option("dest", "another folder than the source", dest.display()));
    }
    let staged = Staged(files.iter().map(|(name, _)| dest.join(format!(".{name}.tmp"))).collect());
    for ((_, bytes), path) in files.iter().zip(&staged.0) {
        fs::write(path, bytes).map_err(|cause| DataError::io("write", path, cause))?;
    }
    let targets: Vec<PathBuf> = files.iter().map(|(name, _)| dest.join(name)).collect();
    for (path, target) in staged.0.iter().zip(&targets) {
        fs::rename(path, target).map_err(|cause| DataError::io("write", target, cause))?;
    }
    Ok(Subset { files: targets, bytes: files.iter().map(|(_, bytes)| bytes.len() as u64).sum() })
}

/// Files under temporary names; what is left of them when this is dropped is deleted.
struct Staged(Vec<PathBuf>);

impl Drop for Staged {
    fn drop(&mut self) {
        for path in &self.0 {
            // Those that were renamed are gone, and a failure here would only hide the one that led here.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests;
