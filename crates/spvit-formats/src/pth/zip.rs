//! The part of the zip format that `torch.save` writes: stored (uncompressed) entries, zip64.
//!
//! Written here because every claim must be held against the file's length before memory is spent,
//! and because tensors are read piece by piece from inside an entry.

use std::collections::BTreeMap;

use crate::error::Fault;
use crate::file::CheckedFile;

const END_LEN: u64 = 22;
const LONGEST_COMMENT: u64 = 0xffff;
const STORED: u16 = 0;

/// Where an entry's header lies, and how long its content is.
#[derive(Debug, Clone, Copy)]
struct Entry {
    header: u64,
    len: u64,
    method: u16,
    flags: u16,
}

/// The archive's table of contents.
pub(super) struct Archive {
    entries: BTreeMap<String, Entry>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn no_directory(found: &str) -> Fault {
    Fault::damaged("the table of contents at the end of a zip archive", found)
}

/// Finds the central directory: its offset and length.
fn directory(file: &mut CheckedFile) -> Result<(u64, u64), Fault> {
    let tail_len = file.len().min(END_LEN + LONGEST_COMMENT);
    let tail_start = file.len() - tail_len;
    let tail = file.bytes(tail_start, tail_len, "the archive's end")?;
    let at = tail
        .windows(END_LEN as usize)
        .rposition(|w| w.starts_with(b"PK\x05\x06"))
        .ok_or_else(|| no_directory("none (the file may be cut off)"))?;
    let short = || no_directory("an incomplete one");
    let end = &tail[at..];
    let len = u32_at(end, 12).ok_or_else(short)?;
    let offset = u32_at(end, 16).ok_or_else(short)?;
    let entries = u16_at(end, 10).ok_or_else(short)?;
    if len != u32::MAX && offset != u32::MAX && entries != u16::MAX {
        return Ok((offset.into(), len.into()));
    }
    // Too large for the old record: a locator right before it points to the zip64 one.
    let locator = at.checked_sub(20).and_then(|at| tail.get(at..));
    let locator = locator.filter(|l| l.starts_with(b"PK\x06\x07")).ok_or_else(short)?;
    let record = u64_at(locator, 8).ok_or_else(short)?;
    let record = file.bytes(record, 56, "the zip64 end record")?;
    if !record.starts_with(b"PK\x06\x06") {
        return Err(no_directory("another record than the zip64 one"));
    }
    let len = u64_at(&record, 40).ok_or_else(short)?;
    let offset = u64_at(&record, 48).ok_or_else(short)?;
    Ok((offset, len))
}

/// One directory entry at the start of `bytes`: its name, itself, and its length there.
fn entry(bytes: &[u8]) -> Option<(String, Entry, usize)> {
    if !bytes.starts_with(b"PK\x01\x02") {
        return None;
    }
    let flags = u16_at(bytes, 8)?;
    let method = u16_at(bytes, 10)?;
    let stored_len = u32_at(bytes, 20)?;
    let full_len = u32_at(bytes, 24)?;
    let name_len = usize::from(u16_at(bytes, 28)?);
    let extra_len = usize::from(u16_at(bytes, 30)?);
    let comment_len = usize::from(u16_at(bytes, 32)?);
    let header = u32_at(bytes, 42)?;
    let name = bytes.get(46..46 + name_len)?;
    let extra = bytes.get(46 + name_len..46 + name_len + extra_len)?;
    let mut entry = Entry { header: header.into(), len: full_len.into(), method, flags };
    // The zip64 field holds, in this order, just the values that do not fit above.
    if let Some(mut wide) = zip64_field(extra) {
        let mut next = || {
            let value = u64_at(wide, 0);
            wide = wide.get(8..).unwrap_or_default();
            value
        };
        if full_len == u32::MAX {
            entry.len = next()?;
        }
        if stored_len == u32::MAX {
            next()?;
        }
        if header == u32::MAX {
            entry.header = next()?;
        }
    }
    let name = String::from_utf8(name.to_vec()).ok()?;
    Some((name, entry, 46 + name_len + extra_len + comment_len))
}

fn zip64_field(mut extra: &[u8]) -> Option<&[u8]> {
    loop {
        let (id, len) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let field = extra.get(4..4 + len)?;
        if id == 1 {
            return Some(field);
        }
        extra = extra.get(4 + len..)?;
    }
}

impl Archive {
    pub(super) fn open(file: &mut CheckedFile) -> Result<Self, Fault> {
        let (offset, len) = directory(file)?;
        let bytes = file.bytes(offset, len, "the archive's table of contents")?;
        let mut entries = BTreeMap::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (name, found, used) = entry(rest).ok_or_else(|| {
                Fault::damaged("an entry in the archive's table of contents", "something else")
            })?;
            rest = rest.get(used..).unwrap_or_default();
            entries.insert(name, found);
        }
        Ok(Self { entries })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Where an entry's content starts in the file, and its length.
    pub(super) fn locate(&self, file: &mut CheckedFile, name: &str) -> Result<(u64, u64), Fault> {
        let entry = self.entries.get(name).ok_or_else(|| {
            Fault::damaged(format!("the entry {name} in the archive"), "no such entry")
        })?;
        if entry.method != STORED || entry.flags & 1 != 0 {
            return Err(Fault::unsupported(
                format!("the compressed or encrypted zip entry {name}"),
                "Load the file with PyTorch and save it again with torch.save.",
            ));
        }
        let header = file.bytes(entry.header, 30, name)?;
        let lens = (u16_at(&header, 26), u16_at(&header, 28));
        let (true, (Some(name_len), Some(extra_len))) = (header.starts_with(b"PK\x03\x04"), lens)
        else {
            return Err(Fault::damaged(format!("the header of {name}"), "something else"));
        };
        let start = entry.header + 30 + u64::from(name_len) + u64::from(extra_len);
        if !file.holds(start, entry.len) {
            return Err(Fault::damaged(
                format!("{} bytes of {name} at byte {start}", entry.len),
                format!("a file of {} bytes", file.len()),
            ));
        }
        Ok((start, entry.len))
    }
}
