//! The matrix product that kernels call.

use std::sync::Once;

use gemm::Parallelism;

/// Multiply-adds from which on a product is worth more than one thread.
const PARALLEL: usize = 1 << 17;

/// Rows, in those of one turn of the innermost loop (six with AVX-512), up to which threads read the right
/// factor where it lies: each would copy all of it.
const UNCOPIED: usize = 64;

/// On which threads a product of this size is computed.
pub(in crate::fused) fn threads_for([m, n, k]: [usize; 3]) -> Parallelism {
    // The library has limits of its own, for the whole program, which are of larger products.
    static LIMITS: Once = Once::new();
    LIMITS.call_once(|| {
        gemm::set_threading_threshold(PARALLEL);
        gemm::set_lhs_packing_threshold_multi_thread(UNCOPIED);
    });
    match m * n * k >= PARALLEL {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    }
}

/// A matrix in a slice: rows, columns and the distances between neighbours in each.
#[derive(Clone, Copy)]
pub(in crate::fused) struct Strides {
    pub row: isize,
    pub column: isize,
}

/// `dst = α·dst + β·a·b`, all matrices given by pointers and strides.
///
/// # Safety
/// Every element that the sizes and strides reach must lie in its allocation, and `dst` must not
/// overlap the others.
#[allow(unsafe_code, clippy::too_many_arguments)]
pub(in crate::fused) unsafe fn product(
    [m, n, k]: [usize; 3],
    (dst, dst_strides): (*mut f32, Strides),
    (a, a_strides): (*const f32, Strides),
    (b, b_strides): (*const f32, Strides),
    add: bool,
    beta: f32,
    parallelism: Parallelism,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst,
            dst_strides.column,
            dst_strides.row,
            add,
            a,
            a_strides.column,
            a_strides.row,
            b,
            b_strides.column,
            b_strides.row,
            1.0,
            beta,
            false,
            false,
            false,
            parallelism,
        );
    }
}
