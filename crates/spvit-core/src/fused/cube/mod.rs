//! What kernels of our own share on the backends that CubeCL compiles them for.
//!
//! A kernel stands in fusion's stream as one operation, with contiguous inputs and outputs. It
//! computes in float32; other types run the plain default.

mod operation;
mod rows;
mod sums;

pub(super) use operation::{
    known, register, register_all, register_in_place, register_typed, view,
};
pub(super) use rows::{RowSplit, cube_max, cube_sum, row_cubes};
pub(super) use sums::{COLUMNS, LANES, column_sum, column_sums, keep_sums, known_sums};

use std::iter;

use burn::tensor::{DType, Device};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, fusion::FusionCubeRuntime,
    tensor::CubeTensor,
};
use burn_fusion::{Fusion, FusionRuntime, FusionTensor};
use cubecl::prelude::*;

use super::{ActivationOps, BottleneckOps, MemoryOps, PoolOps, PrecisionOps};

/// Operations that need no kernel of ours.
macro_rules! run_the_defaults {
    ($($ops:ident),* $(,)?) => {
        $(
            impl<R, F, I, BT> $ops for Fusion<CubeBackend<R, F, I, BT>>
            where
                R: CubeRuntime,
                F: FloatElement,
                I: IntElement,
                BT: BoolElement,
            {
            }
        )*
    };
}

run_the_defaults!(ActivationOps, BottleneckOps, PoolOps, PrecisionOps);

impl<R, F, I, BT> MemoryOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    // CubeCL gives no buffer that is larger than a page of its memory.
    fn largest_piece(device: &Device<Self>) -> Option<u64> {
        Some(R::client(device).properties().memory.max_page_size)
    }

    fn reserved(device: &Device<Self>) -> Option<u64> {
        R::client(device).memory_usage().ok().map(|usage| usage.bytes_reserved)
    }
}

/// A float tensor of `Fusion<CubeBackend<R, ..>>`.
pub(super) type CubeFloat<R> = FusionTensor<FusionCubeRuntime<R>>;

type CubeHandle<R> = <FusionCubeRuntime<R> as FusionRuntime>::FusionHandle;

/// How a tensor's handle is read; its element types are those of the tensor itself.
pub(super) type Reader<R> = CubeBackend<R, f32, i32, u8>;

/// Units of a cube where each computes elements of its own.
pub(super) const UNITS: u32 = 256;

/// Tensors, or sets of tensors, that a kernel goes over at most: each is code of its own in it.
const GROUP: usize = 32;

/// Cubes for that many elements; a unit takes more than one where they would be too many.
pub(super) fn cubes(elements: usize) -> CubeCount {
    CubeCount::Static(elements.div_ceil(UNITS as usize).min(u16::MAX as usize) as u32, 1, 1)
}

/// Whether a float's type is one that kernels read and write; they compute in float32.
pub(super) fn is_read(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// Whether all are float32 and hold something.
pub(super) fn served<R: CubeRuntime, const N: usize>(tensors: [&CubeFloat<R>; N]) -> bool {
    tensors.iter().all(|x| x.dtype == DType::F32 && x.shape.num_elements() > 0)
}

/// What a kernel takes several of, cut into groups: it binds `each` buffers for one of them, of which
/// `tensor` is one, and `besides` for them all.
pub(super) fn groups<R: CubeRuntime, T>(
    all: Vec<T>,
    [each, besides]: [usize; 2],
    tensor: impl Fn(&T) -> &CubeFloat<R>,
) -> Vec<Vec<T>> {
    let Some(first) = all.first() else { return Vec::new() };
    let client = R::client(tensor(first).client.device());
    // One more holds numbers.
    let bound = (client.properties().hardware.max_bindings as usize).saturating_sub(1 + besides);
    let most = (bound / each).clamp(1, GROUP);
    let mut rest = all.into_iter().peekable();
    iter::from_fn(|| rest.peek().is_some().then(|| rest.by_ref().take(most).collect())).collect()
}

/// Several tensors as one argument of a kernel.
pub(super) fn arrays<R: CubeRuntime, E: CubePrimitive>(
    tensors: impl IntoIterator<Item = CubeTensor<R>>,
) -> SequenceArg<R, Array<E>> {
    tensors.into_iter().map(CubeTensor::into_array_arg).collect()
}

/// Numbers of elements.
pub(super) fn lengths<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> Vec<usize> {
    tensors.iter().map(|tensor| tensor.meta.shape().num_elements()).collect()
}

/// [`cubes`] for the longest of several tensors.
pub(super) fn unit_cubes(elements: &[usize]) -> CubeCount {
    cubes(elements.iter().copied().max().unwrap_or_default())
}

/// What an earlier gradient has at a place, if there is one.
#[cube]
pub(super) fn earlier_at(earlier: &Sequence<Array<f32>>, place: usize) -> f32 {
    let mut value = 0.0f32;
    #[unroll]
    for index in 0..earlier.len() {
        value += earlier.index(index)[place];
    }
    value
}
