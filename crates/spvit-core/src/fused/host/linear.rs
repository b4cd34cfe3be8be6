//! Products with a weight matrix, over rows of any number of leading dimensions.

use std::mem::MaybeUninit;

use gemm::Parallelism;
use rayon::prelude::*;

use super::{simd::simd_fn, written};

/// Multiply-adds from which a product is worth more than one thread.
const PARALLEL: usize = 1 << 19;

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

/// A product of whole slices; `transposed` says which factor is read across. Writes all of `dst`;
/// with `add`, `dst` must hold values, to which the product is added.
fn whole(
    [m, n, k]: [usize; 3],
    dst: &mut [MaybeUninit<f32>],
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
            (dst.as_mut_ptr().cast(), strides(m, n, false)),
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
    // SAFETY: the product writes every element.
    #[allow(unsafe_code)]
    unsafe {
        written(m * n, |y| {
            if let Some(b) = b {
                y.par_chunks_mut((ROWS * n).max(1)).for_each(|rows| {
                    rows.chunks_exact_mut(n).for_each(|row| {
                        row.write_copy_of_slice(b);
                    });
                });
            }
            whole([m, n, k], y, (x, false), (w, false), b.is_some());
        })
    }
}

/// `g·wᵀ`: g `[rows, n]`, w `[k, n]`.
pub(crate) fn times_transposed(g: &[f32], w: &[f32], k: usize) -> Vec<f32> {
    let n = w.len() / k.max(1);
    let m = g.len() / n.max(1);
    // SAFETY: the product writes every element.
    #[allow(unsafe_code)]
    unsafe {
        written(m * k, |y| whole([m, k, n], y, (g, false), (w, true), false))
    }
}

/// `xᵀ·g`: x `[rows, k]`, g `[rows, n]`.
pub(crate) fn transposed_times(x: &[f32], g: &[f32], k: usize, n: usize) -> Vec<f32> {
    // SAFETY: the product writes every element.
    #[allow(unsafe_code)]
    unsafe {
        written(k * n, |y| whole([k, n, x.len() / k.max(1)], y, (x, true), (g, false), false))
    }
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
    add_in_order(&parts, n)
}

/// Sum of equally long parts, in their order.
pub(in crate::fused) fn add_in_order(
    parts: impl IntoIterator<Item: AsRef<[f32]>>,
    n: usize,
) -> Vec<f32> {
    let mut total = vec![0.0; n];
    parts.into_iter().for_each(|part| add_rows(part.as_ref(), &mut total));
    total
}
