//! The format before PyTorch 1.6: five pickles in a row, then the storages' bytes.

use std::collections::HashMap;

use super::stream::Stream;
use super::value::{Arena, StorageRef, Value};
use super::{Loaded, vm};
use crate::error::{DAMAGED, Fault};
use crate::file::CheckedFile;

/// 0x1950a86a20f9469cfc6c, as a pickle holds it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;

pub(super) fn load(file: &mut CheckedFile) -> Result<Loaded, Fault> {
    let len = file.len();
    let mut stream = Stream::new(file, 0, len);
    check_preamble(&mut stream, len)?;
    let (arena, root) = vm::run(&mut stream, len)?;
    let (names, list) = vm::run(&mut stream, len)?;
    let mut at = stream.position();

    let by_key: HashMap<&str, usize> =
        arena.storages.iter().enumerate().map(|(index, s)| (&*s.key, index)).collect();
    let mut places = vec![None; arena.storages.len()];
    let list = names.sequence(list);
    let list = list.ok_or_else(|| Fault::damaged("the list of storages", "something else"))?;
    for &key in list {
        let key = names.text(key).ok_or_else(|| Fault::damaged("a storage's key", "no text"))?;
        let index = by_key.get(key).copied().ok_or_else(|| {
            Fault::damaged("a storage that a tensor uses", format!("one with the key {key}"))
        })?;
        let bytes = storage_len(file, at, &arena.storages[index])?;
        places[index] = Some((at + 8, bytes));
        at += 8 + bytes;
    }
    drop(by_key);
    Ok(Loaded { arena, root, places })
}

/// The first three pickles: a magic number, a version, and what machine wrote the file.
fn check_preamble(stream: &mut Stream, len: u64) -> Result<(), Fault> {
    let other = || {
        Fault::malformed(
            "a checkpoint written by torch.save",
            "a pickle that something else wrote",
            format!("Load it in Python and save the weights with torch.save. Or: {DAMAGED}"),
        )
    };
    let (arena, magic) = vm::run(stream, len)?;
    if !matches!(arena.node(magic), Some(super::value::Node::Bytes(b)) if **b == MAGIC) {
        return Err(other());
    }
    let (_, version) = vm::run(stream, len)?;
    if version != Value::Int(VERSION) {
        return Err(other());
    }
    let (arena, system) = vm::run(stream, len)?;
    if is_big_endian(&arena, system) {
        return Err(super::big_endian());
    }
    Ok(())
}

fn is_big_endian(arena: &Arena, system: Value) -> bool {
    arena.dict(system).unwrap_or_default().iter().any(|&(key, value)| {
        arena.text(key) == Some("little_endian") && value == Value::Bool(false)
    })
}

/// The length in bytes of the storage whose element count lies at `at`; it is held against what
/// the pickle says and against the file's length.
fn storage_len(file: &mut CheckedFile, at: u64, storage: &StorageRef) -> Result<u64, Fault> {
    let element = storage.element.as_ref().map_err(|name| {
        Fault::unsupported(
            format!("the storage class {name}"),
            "Save the checkpoint again with a newer torch.save (the zip format).",
        )
    })?;
    let mut count = [0; 8];
    let header = file.bytes(at, 8, "a storage's length")?;
    count.copy_from_slice(&header);
    let count = u64::from_le_bytes(count);
    // An untyped storage counts bytes; a typed one, elements.
    if count != storage.count {
        return Err(Fault::damaged(
            format!("the storage {} with {} elements", storage.key, storage.count),
            format!("{count} at byte {at}"),
        ));
    }
    count.checked_mul(element.bytes() as u64).filter(|&bytes| file.holds(at + 8, bytes)).ok_or_else(
        || {
            Fault::damaged(
                format!("{count} elements of the storage {} at byte {at}", storage.key),
                format!("a file of {} bytes", file.len()),
            )
        },
    )
}
