//! CSV lists of paths and labels.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder, Trim};

use crate::error::DataError;
use crate::images::bytes;
use crate::images::catalogue::{Catalogue, Container, Entry, Kind, Split};
use crate::images::walk::files;

const ADVICE: &str =
    "Begin with the line path,label or path,label,split, and give every image a line";

/// Where the columns stand.
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
}

/// The one list in `folder`: a `.csv` file whose first line has `path` and `label`.
pub(crate) fn find(folder: &Path) -> Result<Option<PathBuf>, DataError> {
    let mut lists: Vec<PathBuf> = files(folder, "csv")?;
    lists.retain(|file| open(file).is_ok_and(|mut reader| columns(file, &mut reader).is_ok()));
    match &lists[..] {
        [first, second, ..] => Err(DataError::malformed(
            folder,
            "one list of images",
            format!("{} and {}", first.display(), second.display()),
            "Give the path of the one that is meant in the folder's place",
        )),
        _ => Ok(lists.pop()),
    }
}

/// Reads a list. Paths in it are relative to its folder.
pub(crate) fn read(file: &Path) -> Result<Catalogue, DataError> {
    let root = file.parent().filter(|root| !root.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = Path::new(file.file_name().unwrap_or(file.as_os_str()));
    let mut catalogue = Catalogue { root: root.to_path_buf(), ..Catalogue::default() };
    catalogue.containers = vec![
        Container::now(Kind::Base, root, Path::new(""))?,
        Container::now(Kind::File, root, name)?,
    ];
    let rows = rows(file)?;
    catalogue.classes = classes(file, &rows)?;
    let mut labelled: Vec<(Split, u16, Vec<u8>)> = Vec::with_capacity(rows.len());
    let numbers: HashMap<&str, usize> = catalogue
        .classes
        .iter()
        .enumerate()
        .map(|(number, class)| (class.as_str(), number))
        .collect();
    for (path, label, split) in rows {
        let label = numbers.get(label.as_str()).copied().unwrap_or_default() as u16;
        labelled.push((split, label, path));
    }
    labelled.sort();
    for (split, label, path) in labelled {
        // A file that is not there is a broken image, reported when it is read.
        let metadata = fs::metadata(root.join(bytes::to_path(&path))).ok();
        let size = metadata.as_ref().map_or(0, fs::Metadata::len);
        let modified = metadata.as_ref().map_or(0, bytes::modified);
        let entry = Entry { container: 0, name: (0, 0), label, split, offset: 0, size, modified };
        catalogue.push(&path, entry)?;
    }
    Ok(catalogue)
}

fn open(file: &Path) -> Result<Reader<BufReader<File>>, DataError> {
    let opened = File::open(file).map_err(|cause| DataError::io("read", file, cause))?;
    Ok(ReaderBuilder::new().trim(Trim::All).from_reader(BufReader::new(opened)))
}

fn damaged(file: &Path, error: &csv::Error) -> DataError {
    DataError::malformed(file, "a CSV list of paths and labels", error.to_string(), ADVICE)
}

fn columns(file: &Path, reader: &mut Reader<BufReader<File>>) -> Result<Columns, DataError> {
    let header = reader.byte_headers().map_err(|error| damaged(file, &error))?;
    let find = |name: &str| {
        let is = |field: &[u8]| field.trim_ascii_start_bom().eq_ignore_ascii_case(name.as_bytes());
        header.iter().position(is)
    };
    match (find("path"), find("label")) {
        (Some(path), Some(label)) => Ok(Columns { path, label, split: find("split") }),
        _ => {
            let found: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
            let found = format!("the columns {}", found.join(", "));
            Err(DataError::malformed(file, "columns called path and label", found, ADVICE))
        }
    }
}

trait TrimBom {
    fn trim_ascii_start_bom(&self) -> &[u8];
}

impl TrimBom for [u8] {
    /// Spreadsheets begin a file with a byte order mark.
    fn trim_ascii_start_bom(&self) -> &[u8] {
        self.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self)
    }
}

fn rows(file: &Path) -> Result<Vec<(Vec<u8>, String, Split)>, DataError> {
    let mut reader = open(file)?;
    let columns = columns(file, &mut reader)?;
    let mut rows = Vec::new();
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|error| damaged(file, &error))? {
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |expected: &str, found: &[u8]| {
            let found = format!("{:?} in line {line}", String::from_utf8_lossy(found));
            DataError::malformed(file, expected, found, ADVICE)
        };
        let field = |column: usize| record.get(column).unwrap_or_default();
        let (path, label) = (field(columns.path), field(columns.label));
        if path.is_empty() || label.is_empty() {
            return Err(wrong("a path and a label in every line", path));
        }
        let label = std::str::from_utf8(label).map_err(|_| wrong("labels in UTF-8", label))?;
        let split = match columns.split.map(field) {
            None => Split::Whole,
            Some(text) => std::str::from_utf8(text)
                .ok()
                .and_then(Split::named)
                .ok_or_else(|| wrong("train, val or test as split", text))?,
        };
        rows.push((path.to_vec(), label.to_owned(), split));
    }
    if rows.is_empty() {
        return Err(DataError::malformed(file, "at least one image", "no line", ADVICE));
    }
    Ok(rows)
}

/// The different labels, as numbers if all of them are, and otherwise as text.
fn classes(file: &Path, rows: &[(Vec<u8>, String, Split)]) -> Result<Vec<String>, DataError> {
    let mut classes: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
    sort_classes(&mut classes);
    if classes.len() > 1 << 16 {
        let found = format!("{} labels", classes.len());
        return Err(DataError::malformed(file, "at most 65,536 classes", found, ADVICE));
    }
    Ok(classes.into_iter().map(str::to_owned).collect())
}

/// Sorts labels, numbers by their value, and keeps one of each.
pub(crate) fn sort_classes(labels: &mut Vec<&str>) {
    labels.sort_unstable();
    labels.dedup();
    if let Ok(mut numbers) = labels
        .iter()
        .map(|label| label.parse::<i64>().map(|number| (number, *label)))
        .collect::<Result<Vec<_>, _>>()
    {
        numbers.sort_unstable();
        *labels = numbers.into_iter().map(|number| number.1).collect();
    }
}
