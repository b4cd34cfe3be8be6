//! Sums; those of rows in an order that does not depend on the number of threads.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::simd::simd_fn;

/// Rows that one task sums.
const ROWS: usize = 256;

simd_fn! {
    /// Writes the sums of pairs.
    fn add(a: &[f32], b: &[f32], out: &mut [MaybeUninit<f32>]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            out.write(a + b);
        }
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

/// Sum of the rows of g `[rows, n]`.
pub(in crate::fused) fn column_sums(g: &[f32], n: usize) -> Vec<f32> {
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
