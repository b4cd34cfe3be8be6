//! PyTorch's own files: `torch.save` of a state dict, or of a dictionary that holds one.
//!
//! The data flows one way: a container ([`zip`] or [`legacy`]) gives a pickle and the places of
//! the storages; [`vm`] turns the pickle into plain [`value`]s; [`state_dict`] finds the tensors
//! among them and reads each from its storage.

mod calls;
mod legacy;
mod opcodes;
mod state_dict;
mod stream;
mod value;
mod vm;
mod zip;

use crate::checkpoint::{Checkpoint, Container};
use crate::error::Fault;
use crate::file::CheckedFile;

/// A file's pickle, and where the storages it names lie.
struct Loaded {
    arena: value::Arena,
    root: value::Value,
    /// For each storage: where it starts in the file and its length in bytes, if it is there.
    places: Vec<Option<(u64, u64)>>,
}

fn big_endian() -> Fault {
    Fault::unsupported(
        "a checkpoint in big-endian byte order",
        "Load it with PyTorch on a little-endian machine and save it again.",
    )
}

pub(crate) fn read_zip(mut file: CheckedFile, under: Option<&str>) -> Result<Checkpoint, Fault> {
    let loaded = load_zip(&mut file)?;
    state_dict::read(&mut file, &loaded, Container::PthZip, under)
}

pub(crate) fn read_legacy(mut file: CheckedFile, under: Option<&str>) -> Result<Checkpoint, Fault> {
    let loaded = legacy::load(&mut file)?;
    state_dict::read(&mut file, &loaded, Container::PthLegacy, under)
}

fn load_zip(file: &mut CheckedFile) -> Result<Loaded, Fault> {
    let archive = zip::Archive::open(file)?;
    let Some(pickle) = archive.names().find(|name| name.split('/').next_back() == Some("data.pkl"))
    else {
        return Err(Fault::malformed(
            "a PyTorch checkpoint (an archive with data.pkl in it)",
            "a zip archive without it",
            "If the checkpoint is inside the archive, unpack it.",
        ));
    };
    let root = pickle.strip_suffix("data.pkl").unwrap_or_default();
    if archive.names().any(|name| name.strip_prefix(root) == Some("constants.pkl")) {
        return Err(Fault::unsupported(
            "a TorchScript program",
            "Load it with torch.jit.load and torch.save its state_dict().",
        ));
    }
    let order = format!("{root}byteorder");
    if archive.names().any(|name| name == order) {
        let (start, len) = archive.locate(file, &order)?;
        if len == 3 && file.bytes(start, 3, &order)? == b"big" {
            return Err(big_endian());
        }
    }
    let (start, len) = archive.locate(file, pickle)?;
    let file_len = file.len();
    let mut stream = stream::Stream::new(file, start, start + len);
    let (arena, root_value) = vm::run(&mut stream, file_len)?;
    let mut places = Vec::with_capacity(arena.storages.len());
    for storage in &arena.storages {
        let name = format!("{root}data/{}", storage.key);
        places.push(Some(archive.locate(file, &name)?));
    }
    Ok(Loaded { arena, root: root_value, places })
}
