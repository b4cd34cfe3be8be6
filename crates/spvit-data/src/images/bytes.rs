//! Paths as bytes, and times as numbers: what an index holds.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A path's bytes. Names that are not UTF-8 keep every bit where the system has such names as bytes.
#[cfg(unix)]
pub(crate) fn of_path(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().to_vec()
}

#[cfg(unix)]
pub(crate) fn to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// A path's bytes; a name that is not Unicode is read as another, and then not found, which is said.
#[cfg(not(unix))]
pub(crate) fn of_path(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

#[cfg(not(unix))]
pub(crate) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

/// When a file was changed, in nanoseconds since 1970; 0 where the system does not say.
pub(crate) fn modified(metadata: &Metadata) -> i64 {
    metadata.modified().map(nanoseconds).unwrap_or_default()
}

pub(crate) fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i64,
        Err(before) => -(before.duration().as_nanos() as i64),
    }
}
