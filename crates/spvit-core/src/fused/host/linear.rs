//! Products with a weight matrix, over rows of any number of leading dimensions.

use gemm::Parallelism;
use rayon::prelude::*;

use super::simd::simd_fn;

/// Multiply-adds from which a product is worth more than one thread.
const PARALLEL: usize = 1 << 19;

/// A matrix in a slice: rows, columns and the distances between neighbours in each.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    pub row: isize,
    pub column: isize,
}

/// `dst = α·dst + β·a·b`, all matrices given by pointers and strides.
///
/// # Safety
/// Every element that the sizes and strides reach must lie in its allocation, and `dst` must not
/// overlap the others.
#[allow(unsafe_code, clippy::too_many_arguments)]
pub(super) unsafe fn product(
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

/// A product of whole slices; `transposed` says which factor is read across.
fn whole(
    [m, n, k]: [usize; 3],
    dst: &mut [f32],
    (a, a_transposed): (&[f32], bool),
    (b, b_transposed): (&[f32], bool),
    add: bool,
) {
    assert!(dst.len() >= m * n && a.len() >= m * k && b.len() >= k * n);
    let strides = |rows: usize, columns: usize, transposed: bool| match transposed {
        false => Strides { row: columns as isize, column: 1 },
        true => Strides { row: 1, column: rows as isize },
    };
    let parallelism = match m * n * k >= PARALLEL {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    };
    // SAFETY: the assertion above, and `dst` is borrowed mutably.
    #[allow(unsafe_code)]
    unsafe {
        product(
            [m, n, k],
            (dst.as_mut_ptr(), strides(m, n, false)),
            (a.as_ptr(), strides(m, k, a_transposed)),
            (b.as_ptr(), strides(k, n, b_transposed)),
            add,
            1.0,
            parallelism,
        );
    }
}

/// `x·w + b`: x `[rows, k]`, w `[k, n]`.
pub(crate) fn affine(x: &[f32], w: &[f32], b: Option<&[f32]>, n: usize) -> Vec<f32> {
    let k = w.len() / n.max(1);
    let m = x.len() / k.max(1);
    let mut y = vec![0.0; m * n];
    if let Some(b) = b {
        y.chunks_exact_mut(n).for_each(|row| row.copy_from_slice(b));
    }
    whole([m, n, k], &mut y, (x, false), (w, false), b.is_some());
    y
}

/// `g·wᵀ`: g `[rows, n]`, w `[k, n]`.
pub(crate) fn times_transposed(g: &[f32], w: &[f32], k: usize) -> Vec<f32> {
    let n = w.len() / k.max(1);
    let m = g.len() / n.max(1);
    let mut y = vec![0.0; m * k];
    whole([m, k, n], &mut y, (g, false), (w, true), false);
    y
}

/// `xᵀ·g`: x `[rows, k]`, g `[rows, n]`.
pub(crate) fn transposed_times(x: &[f32], g: &[f32], k: usize, n: usize) -> Vec<f32> {
    let mut y = vec![0.0; k * n];
    whole([k, n, x.len() / k.max(1)], &mut y, (x, true), (g, false), false);
    y
}

simd_fn! {
    fn add_rows(rows: &[f32], sum: &mut [f32]) {
        for row in rows.chunks_exact(sum.len()) {
            for (s, &x) in sum.iter_mut().zip(row) {
                *s += x;
            }
        }
    }
}

/// Rows that one task sums.
const ROWS: usize = 256;

/// Sum of the rows of g `[rows, n]`.
pub(crate) fn column_sums(g: &[f32], n: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = g
        .par_chunks((ROWS * n).max(1))
        .map(|rows| {
            let mut part = vec![0.0; n];
            add_rows(rows, &mut part);
            part
        })
        .collect();
    add_in_order(parts, n)
}

/// Sum of equally long parts, in their order.
pub(super) fn add_in_order(parts: Vec<Vec<f32>>, n: usize) -> Vec<f32> {
    let mut total = vec![0.0; n];
    parts.iter().for_each(|part| add_rows(part, &mut total));
    total
}
