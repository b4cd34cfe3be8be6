//! Number formats of stored tensors, and their conversion to `f32`.

use crate::error::{DAMAGED, Fault};
use crate::file::CheckedFile;

/// A stored number's format. Only floating-point tensors are read; the others are told apart to
/// be named when they are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F64,
    F32,
    F16,
    Bf16,
    /// Anything that is no weight: integers and booleans. Name and bytes per element.
    Other(&'static str, usize),
}

impl Element {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(_, bytes) => bytes,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::Other(name, _) => name,
        }
    }

    pub(crate) fn is_float(self) -> bool {
        !matches!(self, Self::Other(..))
    }

    /// Appends the numbers in `bytes` (little-endian) to `out`. `bytes` holds whole numbers.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F64 => {
                out.extend(bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32))
            }
            Self::F32 => {
                out.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)))
            }
            Self::F16 => out.extend(
                bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()),
            ),
            Self::Bf16 => out.extend(
                bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()),
            ),
            Self::Other(..) => {}
        }
    }
}

/// Reads `count` numbers from `offset` on. Nothing but the result and one small buffer is
/// allocated, and only after the file was found long enough.
pub(crate) fn read_numbers(
    file: &mut CheckedFile,
    offset: u64,
    count: usize,
    element: Element,
    what: &str,
) -> Result<Vec<f32>, Fault> {
    let bytes = count
        .checked_mul(element.bytes())
        .filter(|&n| file.holds(offset, n as u64))
        .ok_or_else(|| {
            Fault::damaged(
                format!("{what} ({count} numbers of {} at byte {offset})", element.name()),
                format!("a file of {} bytes", file.len()),
            )
        })?;
    let mut out = reserve(count, what)?;
    let mut buffer = vec![0u8; bytes.min(1 << 16)];
    let mut done = 0;
    while done < bytes {
        let n = (bytes - done).min(buffer.len());
        file.read_at(offset + done as u64, &mut buffer[..n])?;
        element.decode(&buffer[..n], &mut out);
        done += n;
    }
    Ok(out)
}

/// An empty vector with room for `count` values, or an error where memory does not suffice.
pub(crate) fn reserve<T>(count: usize, what: &str) -> Result<Vec<T>, Fault> {
    let mut out = Vec::new();
    out.try_reserve_exact(count).map_err(|_| {
        Fault::malformed(
            format!("memory for {what}"),
            format!("{count} values, which do not fit"),
            format!("Free memory or use a larger machine. {DAMAGED}"),
        )
    })?;
    Ok(out)
}
