//! Reading files, checked against a `SHA256SUMS` list where there is one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::set::hex;

/// The list's name, as `sha256sum` writes it: `HASH  NAME` a line.
pub(crate) const LIST: &str = "SHA256SUMS";

/// No file of a known data set comes near this; a larger one is a mistake, and would fill the memory.
pub(crate) const MAX_BYTES: u64 = 4 << 30;

/// Reads files of a data folder and checks those that a list names.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Path of a listed file → its hash and the list it stands in.
    listed: BTreeMap<PathBuf, (String, PathBuf)>,
}

impl Files {
    /// Takes up the lists of `folders`, where they have one.
    pub(crate) fn in_folders(folders: &[&Path]) -> Result<Self, DataError> {
        let mut files = Self::default();
        for folder in folders {
            let list = folder.join(LIST);
            if list.is_file() {
                files.add_list(folder, &list)?;
            }
        }
        Ok(files)
    }

    fn add_list(&mut self, folder: &Path, list: &Path) -> Result<(), DataError> {
        let text = fs::read(list).map_err(|cause| DataError::io("read", list, cause))?;
        for (number, line) in String::from_utf8_lossy(&text).lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = line.split_once(char::is_whitespace).filter(|(hash, name)| {
                hash.len() == 64
                    && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                    && !name.trim().is_empty()
            });
            let Some((hash, name)) = entry else {
                return Err(DataError::malformed(
                    list,
                    "lines of 64 hexadecimal digits, two spaces and a file's name",
                    format!("line {}: {}", number + 1, line.chars().take(80).collect::<String>()),
                    "Write the list again with sha256sum, or delete it",
                ));
            };
            let name = name.trim().trim_start_matches('*').trim_start_matches("./");
            self.listed.insert(folder.join(name), (hash.to_ascii_lowercase(), list.to_path_buf()));
        }
        Ok(())
    }

    /// The bytes of `file`, which is listed with the hash they have or not listed.
    pub(crate) fn read(&self, file: &Path) -> Result<Vec<u8>, DataError> {
        let metadata = fs::metadata(file).map_err(|cause| DataError::io("read", file, cause))?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            let kind = if metadata.is_file() { "file" } else { "folder or device" };
            return Err(DataError::malformed(
                file,
                format!("a file of at most {MAX_BYTES} bytes"),
                format!("a {kind} of {} bytes", metadata.len()),
                "Check that the path is a data set's",
            ));
        }
        let bytes = fs::read(file).map_err(|cause| DataError::io("read", file, cause))?;
        if let Some((expected, list)) = self.listed.get(file) {
            let found = hex(&Sha256::digest(&bytes));
            if *expected != found {
                let (file, list, expected) = (file.to_path_buf(), list.clone(), expected.clone());
                return Err(DataError::Checksum { file, list, expected, found });
            }
        }
        Ok(bytes)
    }

    /// The class names in `file`, one a line, empty lines left out; generic names if there is no such file.
    pub(crate) fn class_names(
        &self,
        file: &Path,
        classes: usize,
    ) -> Result<Vec<String>, DataError> {
        if !file.is_file() {
            return Ok((0..classes).map(|class| format!("class {class}")).collect());
        }
        let text = String::from_utf8(self.read(file)?).map_err(|_| {
            DataError::malformed(
                file,
                "UTF-8 text, one class name a line",
                "other bytes",
                "Correct or delete the file",
            )
        })?;
        let names: Vec<String> =
            text.lines().map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect();
        if names.len() != classes {
            let (expected, found) =
                (format!("{classes} class names, one a line"), format!("{} names", names.len()));
            return Err(DataError::malformed(file, expected, found, "Correct or delete the file"));
        }
        Ok(names)
    }
}
