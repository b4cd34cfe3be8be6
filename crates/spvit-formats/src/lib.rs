//! Checkpoints that other programs write and read.
//!
//! - [`read`] takes a safetensors file or a PyTorch file (`.pth`, `.pt`, `.bin`: zip or legacy,
//!   nested or plain) and gives its floating-point tensors as `f32`, under PyTorch's names.
//! - [`write_safetensors`] writes such tensors, whole or not at all, always to the same bytes.
//!
//! Nothing here knows a model or a tensor library; nothing here runs code found in a file.

mod checkpoint;
mod element;
mod error;
mod file;
mod safetensors_file;

use std::path::Path;

pub use checkpoint::{Checkpoint, Container, HostTensor, Origin, StateDict};
pub use error::FormatError;
pub use safetensors_file::write_safetensors;

use error::Fault;
use file::CheckedFile;

/// Reads a checkpoint, whatever its packing; the file's content decides, not its name.
///
/// Floating-point tensors (`f16`, `bf16`, `f32`, `f64`) become `f32`; the others are left out and
/// listed in [`Origin::skipped`].
///
/// # Errors
///
/// [`FormatError`] naming the file where it cannot be opened, is damaged, is of another kind, or
/// holds no state dict. A damaged file never makes this function panic, nor allocate more than
/// four times the file's length (plus a megabyte).
pub fn read(path: impl AsRef<Path>) -> Result<Checkpoint, FormatError> {
    let path = path.as_ref();
    read_any(path).map_err(|fault| fault.at(path))
}

fn read_any(path: &Path) -> Result<Checkpoint, Fault> {
    let mut file = CheckedFile::open(path)?;
    let mut start = [0u8; 9];
    let n = file.len().min(9) as usize;
    file.read_at(0, &mut start[..n])?;
    match &start[..n] {
        [_, _, _, _, _, _, _, _, b'{'] => safetensors_file::read(file),
        other => Err(Fault::malformed(
            "a safetensors file or a PyTorch checkpoint",
            format!(
                "a file of {} bytes that starts with {other:02x?}",
                file.len()
            ),
            "Check that the download is the checkpoint itself, not a web page or a pointer to it.",
        )),
    }
}
