//! The index: a catalogue in a file, so that a large folder is searched once.
//!
//! A header line, varints, and a SHA-256 over all that. Names are written as what they share with the one before and
//! the rest, which halves the file.
//!
//! An index is taken if every folder that was searched still has its time, and every archive and list its size and
//! time: a folder's time changes with each file that is added, removed or renamed in it. A file that is written over
//! in place does not change its folder; such files are looked for in a sample, and found at the latest when they are
//! read, as every file is held against its size and time then.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::images::bytes;
use crate::images::catalogue::{Catalogue, Container, Entry, Kind, Split};
use crate::images::files::spread;
use crate::set::hex;

const HEADER: &[u8] = b"spvit image index 1\n";
const DIGEST: usize = 32;
/// Files whose size and time are checked before an index is taken.
const SAMPLE: usize = 1000;
/// A folder that changed less than this long ago may change again without a change of its time. In nanoseconds.
const SETTLED: i64 = 2_000_000_000;

/// Where the index of `root`, read as `layout`, lies in `folder`.
pub(crate) fn path(folder: &Path, root: &Path, layout: &str) -> PathBuf {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let mut hash = Sha256::new();
    hash.update(layout.as_bytes());
    hash.update([0]);
    hash.update(bytes::of_path(&root));
    folder.join(format!("images-{}.index", &hex(&hash.finalize())[..16]))
}

/// The catalogue in an index: `None` if there is no index or it no longer holds; an error's words if it is damaged.
pub(crate) fn load(file: &Path, root: &Path) -> Result<Option<Catalogue>, String> {
    let Ok(content) = fs::read(file) else { return Ok(None) };
    let Some(catalogue) = decode(&content, root) else {
        return Err(format!("the index {} is damaged or of another version", file.display()));
    };
    Ok(holds(&catalogue).then_some(catalogue))
}

fn holds(catalogue: &Catalogue) -> bool {
    let same = |known: &Container| {
        Container::now(known.kind, &catalogue.root, &known.path).is_ok_and(|now| now == *known)
    };
    let in_archive = |entry: &Entry| {
        let container = catalogue.containers.get(entry.container as usize);
        container.is_some_and(|container| container.kind == Kind::File)
    };
    let unchanged = |entry: &Entry| {
        // What a list names and is not there has neither size nor time.
        let found = fs::metadata(catalogue.path(entry));
        let now = found.map_or((0, 0), |found| (found.len(), bytes::modified(&found)));
        in_archive(entry) || now == (entry.size, entry.modified)
    };
    // No folder's time tells that what was absent has come.
    let absent = |entry: &&Entry| entry.modified == 0 && !in_archive(entry);
    catalogue.containers.iter().all(same)
        && spread(catalogue.entries.len(), SAMPLE).all(|place| unchanged(&catalogue.entries[place]))
        && catalogue.entries.iter().filter(absent).all(unchanged)
}

/// Writes an index under a temporary name and renames it, unless the folder changed just now.
///
/// # Errors
///
/// [`DataError::Io`].
pub(crate) fn save(file: &Path, catalogue: &Catalogue) -> Result<(), DataError> {
    let newest = catalogue.containers.iter().map(|found| found.modified).max().unwrap_or_default();
    if bytes::nanoseconds(SystemTime::now()).saturating_sub(newest) < SETTLED {
        return Ok(());
    }
    let failed = |cause| DataError::io("write", file, cause);
    fs::create_dir_all(file.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    spvit_formats::write_whole(file, |out| out.write_all(&encode(catalogue)))
        .map_err(|error| failed(std::io::Error::other(error)))
}

fn encode(catalogue: &Catalogue) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    number(&mut out, catalogue.classes.len() as u64);
    catalogue.classes.iter().for_each(|class| text(&mut out, class.as_bytes()));
    number(&mut out, catalogue.notes.len() as u64);
    catalogue.notes.iter().for_each(|note| text(&mut out, note.as_bytes()));
    number(&mut out, catalogue.containers.len() as u64);
    for found in &catalogue.containers {
        out.push(found.kind as u8);
        text(&mut out, &bytes::of_path(&found.path));
        number(&mut out, found.size);
        signed(&mut out, found.modified);
    }
    number(&mut out, catalogue.entries.len() as u64);
    let (mut last, mut last_name, mut end): (Option<Entry>, &[u8], u64) = (None, &[], 0);
    for entry in &catalogue.entries {
        let name = catalogue.name(entry);
        let shared = name.iter().zip(last_name).take_while(|(one, other)| one == other).count();
        number(&mut out, shared as u64);
        text(&mut out, &name[shared..]);
        number(&mut out, u64::from(entry.container));
        number(&mut out, u64::from(entry.label));
        out.push(entry.split as u8);
        signed(&mut out, entry.offset.wrapping_sub(end) as i64);
        number(&mut out, entry.size);
        signed(&mut out, entry.modified.wrapping_sub(last.map_or(0, |last| last.modified)));
        end = if entry.modified == 0 { entry.offset.wrapping_add(entry.size) } else { 0 };
        (last, last_name) = (Some(*entry), name);
    }
    let digest = Sha256::digest(&out);
    out.extend_from_slice(&digest);
    out
}

fn decode(content: &[u8], root: &Path) -> Option<Catalogue> {
    let (content, digest) = content.split_at_checked(content.len().checked_sub(DIGEST)?)?;
    let mut rest = content.strip_prefix(HEADER)?;
    if Sha256::digest(content).as_slice() != digest {
        return None;
    }
    // The digest holds, but no number in a file is believed before it is held against the bytes there are.
    let rest = &mut rest;
    let mut catalogue = Catalogue { root: root.to_path_buf(), ..Catalogue::default() };
    for _ in 0..take_number(rest)? {
        catalogue.classes.push(String::from_utf8(take_text(rest)?.to_vec()).ok()?);
    }
    for _ in 0..take_number(rest)? {
        catalogue.notes.push(String::from_utf8(take_text(rest)?.to_vec()).ok()?);
    }
    for _ in 0..take_number(rest)? {
        let kind = *Kind::ALL.get(usize::from(take_byte(rest)?))?;
        let path = bytes::to_path(take_text(rest)?);
        let (size, modified) = (take_number(rest)?, take_signed(rest)?);
        catalogue.containers.push(Container { kind, path, size, modified });
    }
    let (mut last_modified, mut name, mut end) = (0i64, Vec::new(), 0u64);
    for _ in 0..take_number(rest)? {
        let shared = usize::try_from(take_number(rest)?).ok()?;
        name.truncate((shared <= name.len()).then_some(shared)?);
        name.extend_from_slice(take_text(rest)?);
        let container = u32::try_from(take_number(rest)?).ok()?;
        let label = u16::try_from(take_number(rest)?).ok()?;
        let split = *Split::ALL.get(usize::from(take_byte(rest)?))?;
        let offset = end.wrapping_add(take_signed(rest)? as u64);
        let size = take_number(rest)?;
        let modified = last_modified.wrapping_add(take_signed(rest)?);
        let known = (container as usize) < catalogue.containers.len()
            && usize::from(label) < catalogue.classes.len();
        let entry = Entry { container, name: (0, 0), label, split, offset, size, modified };
        catalogue.push(&name, known.then_some(entry)?).ok()?;
        end = if modified == 0 { offset.wrapping_add(size) } else { 0 };
        last_modified = modified;
    }
    rest.is_empty().then_some(catalogue)
}

/// Seven bits a byte, the lowest first.
fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The sign in the lowest bit, so that small numbers stay short.
fn signed(out: &mut Vec<u8>, value: i64) {
    number(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    number(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let mut byte = [0];
    rest.read_exact(&mut byte).ok()?;
    Some(byte[0])
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take_signed(rest: &mut &[u8]) -> Option<i64> {
    let value = take_number(rest)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text)
}
