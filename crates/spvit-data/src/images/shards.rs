//! WebDataset shards: tar archives in which every image has a label beside it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tar::Archive;

use crate::error::DataError;
use crate::images::bytes;
use crate::images::catalogue::{Catalogue, Container, Entry, Kind, Split};
use crate::images::list::sort_classes;
use crate::images::walk::{PassedOver, files, has_image_ending};

/// A label is a number or a word, and a description a page.
const MAX_LABEL: u64 = 1 << 20;
const ADVICE: &str =
    "Beside KEY.jpg expected KEY.cls with a number or name, or KEY.json with a `label` or `cls`";

/// An image of an archive and its label as text.
struct Sample {
    key: Vec<u8>,
    image: Option<(Vec<u8>, u64, u64)>,
    label: Option<String>,
}

/// The shards in `folder` or in its folders of splits, with the split that the folder or the name says.
pub(crate) fn find(
    folder: &Path,
    splits: &[(Split, PathBuf)],
) -> Result<Vec<(Split, PathBuf)>, DataError> {
    let mut shards = Vec::new();
    for (split, folder) in splits {
        shards.extend(files(folder, "tar")?.into_iter().map(|shard| (*split, shard)));
    }
    if shards.is_empty() {
        shards.extend(files(folder, "tar")?.into_iter().map(|shard| (split_of(&shard), shard)));
    }
    shards.sort();
    Ok(shards)
}

/// `imagenet-train-000001.tar` is one of training.
fn split_of(shard: &Path) -> Split {
    let stem = shard.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    stem.split(|letter: char| !letter.is_ascii_alphabetic())
        .find_map(Split::named)
        .unwrap_or(Split::Whole)
}

/// Lists all images of the shards with their places, so that each is found without reading what lies before it.
pub(crate) fn read(root: &Path, shards: &[(Split, PathBuf)]) -> Result<Catalogue, DataError> {
    let mut catalogue = Catalogue { root: root.to_path_buf(), ..Catalogue::default() };
    let mut folders: Vec<&Path> = shards.iter().filter_map(|shard| shard.1.parent()).collect();
    folders.sort();
    folders.dedup();
    for folder in folders {
        let path = folder.strip_prefix(root).unwrap_or(folder);
        catalogue.containers.push(Container::now(Kind::Folder, root, path)?);
    }
    let mut passed = PassedOver::default();
    let mut labels: Vec<String> = Vec::new();
    for (split, shard) in shards {
        let container = catalogue.containers.len() as u32;
        let path = shard.strip_prefix(root).unwrap_or(shard);
        let found = Container::now(Kind::File, root, path)?;
        let samples = samples(shard, found.size)?;
        catalogue.containers.push(found);
        for sample in samples {
            match (sample.image, sample.label) {
                (Some((name, offset, size)), Some(label)) => {
                    let (name_at, label_at, modified) = ((0, 0), 0, 0);
                    let split = *split;
                    let entry = Entry {
                        container,
                        name: name_at,
                        label: label_at,
                        split,
                        offset,
                        size,
                        modified,
                    };
                    catalogue.push(&name, entry)?;
                    labels.push(label);
                }
                (Some(_), None) => {
                    let key = String::from_utf8_lossy(&sample.key).into_owned();
                    let found = format!("no label for {key}");
                    return Err(DataError::malformed(
                        shard,
                        "a label for every image",
                        found,
                        ADVICE,
                    ));
                }
                (None, _) => passed.add("a shard's member without an image", shard),
            }
        }
    }
    label(root, &mut catalogue, &labels)?;
    catalogue.notes = passed.notes();
    Ok(catalogue)
}

fn label(root: &Path, catalogue: &mut Catalogue, labels: &[String]) -> Result<(), DataError> {
    let mut classes: Vec<&str> = labels.iter().map(String::as_str).collect();
    sort_classes(&mut classes);
    if classes.is_empty() || classes.len() > 1 << 16 {
        let found = format!("{} classes", classes.len());
        return Err(DataError::malformed(root, "images of 1 to 65,536 classes", found, ADVICE));
    }
    let numbers: std::collections::HashMap<&str, usize> =
        classes.iter().enumerate().map(|(number, class)| (*class, number)).collect();
    for (entry, label) in catalogue.entries.iter_mut().zip(labels) {
        entry.label = numbers.get(label.as_str()).copied().unwrap_or_default() as u16;
    }
    catalogue.classes = classes.into_iter().map(str::to_owned).collect();
    Ok(())
}

fn samples(shard: &Path, length: u64) -> Result<Vec<Sample>, DataError> {
    let damaged = |cause: std::io::Error| {
        let advice = "The archive is damaged or cut short: fetch it again";
        DataError::malformed(shard, "a whole tar archive", cause.to_string(), advice)
    };
    let file = File::open(shard).map_err(|cause| DataError::io("read", shard, cause))?;
    let mut archive = Archive::new(BufReader::new(file));
    let mut samples: Vec<Sample> = Vec::new();
    for member in archive.entries_with_seek().map_err(damaged)? {
        let mut member = member.map_err(damaged)?;
        if !member.header().entry_type().is_file() {
            continue;
        }
        let path = member.path().map_err(damaged)?.into_owned();
        let (offset, size) = (member.raw_file_position(), member.size());
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(damaged(std::io::Error::other(format!(
                "{} ends behind the archive's end",
                path.display()
            ))));
        }
        let (key, ending) = key(&path);
        if samples.last().is_none_or(|last| last.key != key) {
            samples.push(Sample { key, image: None, label: None });
        }
        let Some(sample) = samples.last_mut() else { continue };
        if has_image_ending(&path) {
            sample.image = Some((bytes::of_path(&path), offset, size));
        } else if size <= MAX_LABEL && (ending == "cls" || ending == "json") {
            let mut text = String::new();
            member.read_to_string(&mut text).map_err(damaged)?;
            let found = if ending == "cls" { Some(text.trim().to_owned()) } else { in_json(&text) };
            // A .cls is the label; a .json may say many things.
            if ending == "cls" || sample.label.is_none() {
                sample.label = found.filter(|label| !label.is_empty()).or(sample.label.take());
            }
        }
    }
    Ok(samples)
}

/// WebDataset's key, the path up to the first point of the name, and the rest of the name in small letters.
fn key(path: &Path) -> (Vec<u8>, String) {
    let name = path.file_name().map(|name| bytes::of_path(Path::new(name))).unwrap_or_default();
    let whole = bytes::of_path(path);
    let point = name.iter().position(|&byte| byte == b'.').unwrap_or(name.len());
    let key = whole[..whole.len().saturating_sub(name.len() - point)].to_vec();
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    (key, ending)
}

/// The label in a description.
fn in_json(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let label = match &value {
        Value::Object(fields) => {
            ["label", "cls", "class"].iter().find_map(|name| fields.get(*name))?
        }
        other => other,
    };
    match label {
        Value::Number(number) => Some(number.to_string()),
        Value::String(name) => Some(name.trim().to_owned()),
        _ => None,
    }
}
