//! Kernels over `f32` slices for the backends that keep their tensors in main memory.
//!
//! Work is cut into pieces of fixed size and sums are added in a fixed order, so that results do
//! not depend on the number of threads.

pub(super) mod math;
pub(super) mod product;
pub(super) mod simd;
pub(super) mod sums;

#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "ndarray")]
mod ndarray;

use std::mem::MaybeUninit;

use burn::tensor::{Shape, backend::Backend, ops::FloatTensor};

/// A backend whose float tensors can be lent as slices.
pub(super) trait HostAccess: Backend {
    /// A contiguous row-major tensor.
    type Buffer: std::ops::Deref<Target = [f32]>;

    /// Lends a tensor, copying it only if it is not contiguous; `None` if it does not hold `f32`.
    fn lend(tensor: &FloatTensor<Self>) -> Option<Self::Buffer>;

    /// Lends a tensor that may be absent; `None` if it is there and does not hold `f32`.
    fn lend_if_any(tensor: &Option<FloatTensor<Self>>) -> Option<Option<Self::Buffer>> {
        match tensor {
            Some(tensor) => Self::lend(tensor).map(Some),
            None => Some(None),
        }
    }

    /// Takes a buffer over.
    fn own(data: Vec<f32>, shape: Shape) -> FloatTensor<Self>;
}

/// What a kernel makes of the tensors, lent under their own names, or the plain result where one
/// of them does not hold `f32`. A tensor after the semicolon may be absent.
macro_rules! lent {
    (($($x:ident),+ $(; $y:ident)?) => $kernel:expr, $plain:expr $(,)?) => {
        match ($(B::lend(&$x),)+ $(B::lend_if_any(&$y),)?) {
            ($(Some($x),)+ $(Some($y),)?) => $kernel,
            _ => $plain,
        }
    };
}
pub(super) use lent;

/// A buffer that `write` fills, without zeroing it first.
///
/// # Safety
/// `write` must write every element.
#[allow(unsafe_code)]
pub(super) unsafe fn written(len: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut buffer = Vec::with_capacity(len);
    write(&mut buffer.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is there, and the caller promises that the elements are written.
    unsafe { buffer.set_len(len) };
    buffer
}

/// Elements that one task of an elementwise kernel handles.
pub(super) const CHUNK: usize = 1 << 12;

/// Elements of whole rows, as nearly [`CHUNK`] as they can be.
pub(super) fn chunk_of_rows(row: usize) -> usize {
    (CHUNK / row.max(1)).max(1) * row.max(1)
}

/// The three dimensions of a batch of tokens.
pub(super) fn dims3(shape: &Shape) -> [usize; 3] {
    [shape[0], shape[1], shape[2]]
}
