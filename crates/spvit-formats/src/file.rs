//! Reading within a file's bounds, and writing a file whole or not at all.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Fault, FormatError};

/// A file whose length is known, so that every claim about it is checked before memory is spent.
pub(crate) struct CheckedFile {
    file: File,
    len: u64,
}

impl CheckedFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Fault> {
        // Asked before it is opened: a pipe would wait for a writer.
        let meta = path.metadata().map_err(|e| Fault::Io("open the file", e))?;
        if meta.is_dir() {
            return Err(Fault::malformed(
                "a checkpoint file",
                "a folder",
                "Name the file inside it.",
            ));
        }
        if !meta.is_file() {
            return Err(Fault::malformed(
                "a checkpoint file",
                "a pipe or a device",
                "Write it to a file first.",
            ));
        }
        let file = File::open(path).map_err(|e| Fault::Io("open the file", e))?;
        let meta = file.metadata().map_err(|e| Fault::Io("read the file's length", e))?;
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
/// A symbolic link stays one, and what it points to is written. What is there and no regular file (a
/// device, a pipe) is written into, which is not all or nothing.
///
/// # Errors
///
/// [`FormatError::Io`] where the system refuses.
pub fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> std::io::Result<()>,
) -> Result<(), FormatError> {
    let io = |action| move |source| FormatError::Io { path: path.to_path_buf(), action, source };
    let target = match target(path).map_err(io("find the file"))? {
        Target::Special => {
            let file = File::options().write(true).open(path).map_err(io("open the file"))?;
            let mut writer = BufWriter::new(&file);
            return fill(&mut writer).and_then(|()| writer.flush()).map_err(io("write the file"));
        }
        Target::Regular(target) => target,
    };
    let folder = match target.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1);
    // Temporary files are private by default; this one becomes an ordinary file (less the umask).
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary =
        builder.tempfile_in(folder).map_err(io("create a temporary file in the folder"))?;
    let mut writer = BufWriter::with_capacity(1 << 16, temporary.as_file());
    fill(&mut writer).and_then(|()| writer.flush()).map_err(io("write the file"))?;
    drop(writer);
    match temporary.as_file().sync_all() {
        // Some file systems of networks and of user space cannot; the file is as safe as others are.
        Err(error) if [ErrorKind::Unsupported, ErrorKind::InvalidInput].contains(&error.kind()) => {
        }
        synced => synced.map_err(io("sync the file"))?,
    }
    temporary.persist(&target).map_err(|e| io("rename the temporary file to its name")(e.error))?;
    // The rename itself is durable once the folder is synced; not every system can.
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// How the names of temporary files begin and end. A program that is killed leaves one behind.
pub const TEMPORARY: (&str, &str) = (".spvit-", ".part");

enum Target {
    Regular(PathBuf),
    Special,
}

/// What a path leads to, links followed.
fn target(path: &Path) -> std::io::Result<Target> {
    let linked = path.symlink_metadata().is_ok_and(|own| own.file_type().is_symlink());
    match path.metadata() {
        Ok(data) if !data.is_file() => Ok(Target::Special),
        // An open file under another name, such as /dev/stdout: its holder waits for the content.
        Ok(_) if linked && (path.starts_with("/dev") || path.starts_with("/proc")) => {
            Ok(Target::Special)
        }
        Ok(_) if linked => path.canonicalize().map(Target::Regular),
        Err(error) if linked && error.kind() == std::io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(Path::new(""));
            target(&folder.join(path.read_link()?))
        }
        Ok(_) => Ok(Target::Regular(path.to_path_buf())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Target::Regular(path.to_path_buf()))
        }
        Err(error) => Err(error),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::FileTypeExt, os::unix::fs::symlink, process::Command};

    use super::*;

    fn write(path: &Path) {
        write_whole(path, |out| out.write_all(b"whole")).unwrap();
    }

    #[test]
    fn links_and_devices_stay_what_they_are() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("elsewhere")).unwrap();
        for (link, to) in [("a", "elsewhere/there"), ("b", "elsewhere/new"), ("c", "b")] {
            symlink(to, at(link)).unwrap();
        }
        fs::write(at("elsewhere/there"), "before").unwrap();
        write(&at("a"));
        write(&at("c"));
        for (link, file) in [("a", "elsewhere/there"), ("b", "elsewhere/new"), ("c", "b")] {
            assert!(at(link).symlink_metadata().unwrap().is_symlink(), "{link}");
            assert_eq!(fs::read(at(file)).unwrap(), b"whole");
        }
        write(Path::new("/dev/null"));
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let error = write_whole(Path::new("/dev/full"), |out| out.write_all(b"x")).unwrap_err();
        assert!(error.to_string().contains("/dev/full"), "{error}");
        assert_eq!(fs::read_dir(at("elsewhere")).unwrap().count(), 2, "nothing is left behind");
    }

    #[test]
    fn pipes_are_written_into_and_not_read_from() {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(matches!(CheckedFile::open(&pipe), Err(Fault::Malformed { .. })));
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write(&pipe);
        assert_eq!(reader.join().unwrap(), b"whole");
    }
}
