//! Reading within a file's bounds, and writing a file whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Fault, FormatError};

/// A file whose length is known, so that every claim about it is checked before memory is spent.
pub(crate) struct CheckedFile {
    file: File,
    len: u64,
}

impl CheckedFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Fault> {
        let file = File::open(path).map_err(|e| Fault::Io("open the file", e))?;
        let meta = file.metadata().map_err(|e| Fault::Io("read the file's length", e))?;
        if meta.is_dir() {
            return Err(Fault::malformed(
                "a checkpoint file",
                "a folder",
                "Name the file inside it.",
            ));
        }
        Ok(Self { file, len: meta.len() })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether `count` bytes from `offset` on lie inside the file.
    pub(crate) fn holds(&self, offset: u64, count: u64) -> bool {
        offset.checked_add(count).is_some_and(|end| end <= self.len)
    }

    pub(crate) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(buffer))
            .map_err(|e| Fault::Io("read the file", e))
    }

    /// `count` bytes from `offset` on; `what` names them in the error.
    pub(crate) fn bytes(&mut self, offset: u64, count: u64, what: &str) -> Result<Vec<u8>, Fault> {
        let n =
            usize::try_from(count).ok().filter(|_| self.holds(offset, count)).ok_or_else(|| {
                Fault::damaged(
                    format!("{what} ({count} bytes at byte {offset})"),
                    format!("a file of {} bytes", self.len),
                )
            })?;
        let mut out = crate::element::reserve(n, what)?;
        out.resize(n, 0);
        self.read_at(offset, &mut out)?;
        Ok(out)
    }
}

/// Writes through `fill` to a temporary file in `path`'s folder, syncs it and renames it over
/// `path`: a reader sees the old file or the whole new one, whatever happens in between.
///
/// # Errors
/// [`FormatError::Io`] naming the file.
pub fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> std::io::Result<()>,
) -> Result<(), FormatError> {
    let io = |action| move |source| FormatError::Io { path: path.to_path_buf(), action, source };
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".spvit-").suffix(".part");
    // Temporary files are private by default; this one becomes an ordinary file (less the umask).
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary =
        builder.tempfile_in(folder).map_err(io("create a temporary file in the folder"))?;
    let mut writer = BufWriter::with_capacity(1 << 16, temporary.as_file());
    fill(&mut writer).and_then(|()| writer.flush()).map_err(io("write the file"))?;
    drop(writer);
    temporary.as_file().sync_all().map_err(io("sync the file"))?;
    temporary.persist(path).map_err(|e| io("rename the temporary file to its name")(e.error))?;
    // The rename itself is durable once the folder is synced; not every system can.
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}
