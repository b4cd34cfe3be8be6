//! A folder of the first process in all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use walkdir::{DirEntry, WalkDir};

use crate::{Processes, TrainError, folder::write_atomically};

/// Files by their paths in the folder, with digests of their contents.
type Contents = BTreeMap<PathBuf, Vec<u8>>;

impl Processes {
    /// Gives the folder of every other process the files that the first one's has, and no others. What begins
    /// with a dot, as locks do, stays what it is.
    ///
    /// # Errors
    /// [`TrainError`] naming the file that cannot be read or written.
    pub fn mirror(&self, root: &Path) -> Result<(), TrainError> {
        if self.count() == 1 {
            return Ok(());
        }
        let own = contents(root)?;
        let theirs: Contents = read(&self.first(message(&own)?)?)?;
        let lacks = |(path, digest): &(&PathBuf, &Vec<u8>)| own.get(*path) != Some(*digest);
        let lacking: BTreeSet<&PathBuf> =
            theirs.iter().filter(lacks).map(|(path, _)| path).collect();
        let mut wanted = BTreeSet::new();
        for message in self.gather(&message(&lacking)?)? {
            wanted.extend(read::<BTreeSet<PathBuf>>(&message)?);
        }
        for path in wanted {
            let place = inside(root, &path)?;
            let content = match self.is_first() {
                true => fs::read(&place).map_err(|error| TrainError::io(&place, error))?,
                false => Vec::new(),
            };
            let content = self.first(content)?;
            if lacking.contains(&path) {
                let folder = place.parent().unwrap_or(root);
                fs::create_dir_all(folder).map_err(|error| TrainError::io(folder, error))?;
                write_atomically(&place, &content)?;
            }
        }
        for path in own.keys().filter(|path| !theirs.contains_key(*path)) {
            let place = root.join(path);
            fs::remove_file(&place).map_err(|error| TrainError::io(&place, error))?;
        }
        Ok(())
    }
}

/// All files below a folder.
fn contents(root: &Path) -> Result<Contents, TrainError> {
    let hidden = |entry: &DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
    let entries = WalkDir::new(root).min_depth(1).follow_links(true).into_iter();
    let mut found = Contents::new();
    for entry in entries.filter_entry(|entry| !hidden(entry)) {
        let entry = entry.map_err(|error| TrainError::io(root, error.into()))?;
        let Ok(path) = entry.path().strip_prefix(root) else { continue };
        if entry.file_type().is_file() {
            let fail = |error| TrainError::io(entry.path(), error);
            let mut hash = Sha256::new();
            let mut file = fs::File::open(entry.path()).map_err(fail)?;
            std::io::copy(&mut file, &mut hash).map_err(fail)?;
            found.insert(path.to_path_buf(), hash.finalize().to_vec());
        }
    }
    Ok(found)
}

/// Where a file is that another process names.
fn inside(root: &Path, path: &Path) -> Result<PathBuf, TrainError> {
    match path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(root.join(path)),
        false => {
            let problem = format!("{} is no file of a run's folder", path.display());
            Err(TrainError::Processes { problem })
        }
    }
}

fn message(value: &impl Serialize) -> Result<Vec<u8>, TrainError> {
    serde_json::to_vec(value).map_err(|error| TrainError::Processes { problem: error.to_string() })
}

fn read<T: DeserializeOwned>(message: &[u8]) -> Result<T, TrainError> {
    serde_json::from_slice(message).map_err(|error| {
        let problem = format!("they are of different versions ({error})");
        TrainError::Processes { problem }
    })
}
