//! Checkpoints that other programs write and read.
//!
//! - [`read`] takes a safetensors file or a PyTorch file (`.pth`, `.pt`, `.bin`: zip or legacy,
//!   nested or plain) and gives its floating-point tensors as `f32`, under PyTorch's names.
//! - [`write_safetensors`] writes such tensors, whole or not at all, always to the same bytes.
//!
//! - [`read_under`] does the same for one entry of a training checkpoint, such as `model_ema`.
//! - [`write_whole`] writes any file, whole or not at all.
//! - [`onnx::write`] writes a compact or dense vision transformer as an ONNX file.
//!
//! Nothing here depends on a tensor library; nothing here runs code found in a file.

mod checkpoint;
mod element;
mod error;
mod file;
mod names;
pub mod onnx;
mod pth;
mod safetensors_file;

use std::path::Path;

pub use checkpoint::{Checkpoint, Container, HostTensor, Origin, StateDict};
pub use error::FormatError;
pub use file::{TEMPORARY, write_whole};
pub use safetensors_file::write_safetensors;

use error::Fault;
use file::CheckedFile;

/// Reads a checkpoint, whatever its packing; the file's content decides, not its name.
///
/// Floating-point tensors (`f16`, `bf16`, `f32`, `f64`) become `f32`; the others are left out and
/// listed in [`Origin::skipped`]. A PyTorch file may hold the state dict plainly or under `model`,
/// `state_dict`, `model_state_dict`, `model_ema` or `state_dict_ema`, in this order of preference;
/// [`read_under`] chooses another. `module.` and `_orig_mod.` prefixes are removed from names.
///
/// A pickle is read as data: no name in it is ever looked up or called.
///
/// # Errors
///
/// [`FormatError`] naming the file where it cannot be opened, is damaged, is of another kind, or
/// holds no state dict. A damaged file never makes this function panic, nor allocate more than
/// four times the file's length (plus four megabytes for its structure).
pub fn read(path: impl AsRef<Path>) -> Result<Checkpoint, FormatError> {
    let path = path.as_ref();
    read_any(path, None).map_err(|fault| fault.at(path))
}

/// Like [`read`], with the state dict under `key`: `"model_ema"`, say, where `model` is there too.
///
/// # Errors
///
/// As [`read`]; also where there is no such key, as in every safetensors file.
pub fn read_under(path: impl AsRef<Path>, key: &str) -> Result<Checkpoint, FormatError> {
    let path = path.as_ref();
    read_any(path, Some(key)).map_err(|fault| fault.at(path))
}

fn read_any(path: &Path, under: Option<&str>) -> Result<Checkpoint, Fault> {
    let mut file = CheckedFile::open(path)?;
    let mut start = [0u8; 9];
    let n = file.len().min(9) as usize;
    file.read_at(0, &mut start[..n])?;
    let mut checkpoint = match &start[..n] {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => pth::read_zip(file, under)?,
        [0x80, 2..=5, 0x8a | 0x95 | b'(' | b'}' | b']' | b'c', ..] => {
            pth::read_legacy(file, under)?
        }
        [_, _, _, _, _, _, _, _, b'{'] => match under {
            None => safetensors_file::read(file)?,
            Some(key) => {
                return Err(Fault::malformed(
                    format!("an entry '{key}'"),
                    "a safetensors file, which has no such level",
                    "Read it without naming an entry.",
                ));
            }
        },
        other => return Err(unknown(&mut file, other)),
    };
    names::strip_prefixes(&mut checkpoint)?;
    Ok(checkpoint)
}

/// A file of none of the formats; what people mistake for a checkpoint is told by name.
fn unknown(file: &mut CheckedFile, start: &[u8]) -> Fault {
    let expected = "a safetensors file or a PyTorch checkpoint";
    if start.is_empty() {
        return Fault::damaged(expected, "an empty file");
    }
    if start.starts_with(b"version h") {
        return Fault::malformed(
            expected,
            "a Git LFS pointer",
            "Fetch the file it points to: git lfs pull.",
        );
    }
    if file.bytes(257, 5, "a tar header").is_ok_and(|bytes| bytes == b"ustar") {
        return Fault::unsupported(
            "a tar archive (PyTorch before 0.2 wrote such checkpoints)",
            "Unpack it, or load it with PyTorch and save it again with torch.save.",
        );
    }
    Fault::malformed(
        expected,
        format!("a file of {} bytes that starts with {start:02x?}", file.len()),
        "Check that the download is the checkpoint itself, whole, and not a web page.",
    )
}

/// The README's example, so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
