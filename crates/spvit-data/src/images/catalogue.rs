//! All images found in a place: where each lies, and what it is labelled.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::images::bytes;

/// Larger files are not images.
pub(crate) const MAX_FILE: u64 = 1 << 30;

/// The split that an image was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Split {
    Train = 0,
    Validation = 1,
    Test = 2,
    /// The place has no splits.
    Whole = 3,
}

impl Split {
    pub(crate) const ALL: [Self; 4] = [Self::Train, Self::Validation, Self::Test, Self::Whole];

    /// The split that goes by this name, in the usual spellings.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" | "trn" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Validation),
            "test" | "testing" | "tst" => Some(Self::Test),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        ["train", "val", "test", "whole"][self as usize]
    }
}

/// What a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A folder all of whose files were listed: its time changes with the list.
    Folder = 0,
    /// A folder that only gives names their beginning.
    Base = 1,
    /// A file in which the images lie, or that lists them: its size and time change with it.
    File = 2,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Folder, Self::Base, Self::File];
}

/// A folder or archive with images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) kind: Kind,
    /// Relative to the catalogue's root.
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified: i64,
}

impl Container {
    /// A container as it is on the disk now.
    pub(crate) fn now(kind: Kind, root: &Path, path: &Path) -> Result<Self, DataError> {
        let full = root.join(path);
        let metadata = fs::metadata(&full).map_err(|cause| DataError::io("read", &full, cause))?;
        let size = if kind == Kind::File { metadata.len() } else { 0 };
        let modified = if kind == Kind::Base { 0 } else { bytes::modified(&metadata) };
        Ok(Self { kind, path: path.to_path_buf(), size, modified })
    }
}

/// One image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) container: u32,
    /// Where the name begins in the catalogue's names, and its bytes.
    pub(crate) name: (u32, u16),
    pub(crate) label: u16,
    pub(crate) split: Split,
    /// Where the image begins in its container; 0 for a file of its own.
    pub(crate) offset: u64,
    pub(crate) size: u64,
    /// Nanoseconds since 1970; 0 in an archive.
    pub(crate) modified: i64,
}

/// All images found in a place, ordered by split, class and path, however the file system lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalogue {
    pub(crate) root: PathBuf,
    /// The classes' folder names or labels, in the order of the labels.
    pub(crate) classes: Vec<String>,
    pub(crate) containers: Vec<Container>,
    pub(crate) entries: Vec<Entry>,
    /// All names, one after the other.
    pub(crate) names: Vec<u8>,
    /// What was left out, in sentences.
    pub(crate) notes: Vec<String>,
}

impl Catalogue {
    pub(crate) fn push(&mut self, name: &[u8], entry: Entry) -> Result<(), DataError> {
        let (Ok(start), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(name.len()))
        else {
            return Err(DataError::malformed(
                &self.root,
                "names of at most 65,535 bytes, and of 4 GiB together",
                format!("{} bytes in {} names", self.names.len(), self.entries.len()),
                "Split the data set",
            ));
        };
        self.names.extend_from_slice(name);
        self.entries.push(Entry { name: (start, length), ..entry });
        Ok(())
    }

    /// Gives the classes with these numbers the labels 0, 1, ... in that order; every number stands there once.
    pub(crate) fn reorder(&mut self, order: &[usize]) {
        let mut labels = vec![0u16; order.len()];
        for (label, &class) in order.iter().enumerate() {
            // There are at most 65,536 classes.
            labels[class] = label as u16;
        }
        self.classes = order.iter().map(|&class| self.classes[class].clone()).collect();
        for entry in &mut self.entries {
            entry.label = labels[usize::from(entry.label)];
        }
    }

    /// An image's name in its container.
    pub(crate) fn name(&self, entry: &Entry) -> &[u8] {
        let (start, length) = (entry.name.0 as usize, usize::from(entry.name.1));
        self.names.get(start..start + length).unwrap_or_default()
    }

    fn container(&self, entry: &Entry) -> Result<&Container, DataError> {
        self.containers.get(entry.container as usize).ok_or_else(|| {
            DataError::option("container", self.containers.len().to_string(), entry.container)
        })
    }

    /// An image's path, or that of its archive, under the root.
    pub(crate) fn path(&self, entry: &Entry) -> PathBuf {
        match self.container(entry) {
            Ok(container) if container.kind == Kind::File => self.root.join(&container.path),
            Ok(container) => self.root.join(&container.path).join(bytes::to_path(self.name(entry))),
            Err(_) => self.root.clone(),
        }
    }

    /// What messages call an image.
    pub(crate) fn title(&self, entry: &Entry) -> String {
        let path = self.path(entry).display().to_string();
        match self.container(entry) {
            Ok(container) if container.kind == Kind::File => {
                format!("{path}, member {}", String::from_utf8_lossy(self.name(entry)))
            }
            _ => path,
        }
    }

    /// An image's bytes, if it still is what it was when it was found.
    pub(crate) fn read(&self, entry: &Entry) -> Result<Vec<u8>, DataError> {
        let broken = |problem: String| DataError::Image { name: self.title(entry), problem };
        let container = self.container(entry)?;
        let path = self.path(entry);
        let failed = |cause: std::io::Error| broken(format!("cannot be read: {cause}"));
        // Looked at before it is opened: opening a pipe waits for whoever writes to it.
        if !fs::metadata(&path).map_err(failed)?.is_file() {
            return Err(broken("expected a file, found something else".to_owned()));
        }
        let mut file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let in_archive = container.kind == Kind::File;
        let (size, modified) = match in_archive {
            true => (container.size, container.modified),
            false => (entry.size, entry.modified),
        };
        if (metadata.len(), bytes::modified(&metadata)) != (size, modified) {
            let now = metadata.len();
            let what = if now == size {
                "its time did".to_owned()
            } else {
                format!("it had {size} bytes and has {now}")
            };
            return Err(broken(format!("changed after the folder was read: {what}")));
        }
        if entry.size > MAX_FILE {
            return Err(broken(format!("expected at most {MAX_FILE} bytes, found {}", entry.size)));
        }
        if in_archive {
            file.seek(SeekFrom::Start(entry.offset)).map_err(failed)?;
        }
        let mut content = Vec::with_capacity(entry.size as usize);
        file.take(entry.size).read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 != entry.size {
            let found = content.len();
            return Err(broken(format!("expected {} bytes, found {found}", entry.size)));
        }
        Ok(content)
    }
}
