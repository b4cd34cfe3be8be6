//! [`LinearOps`] over slices.

use std::mem::MaybeUninit;

use burn::tensor::{Shape, TensorMetadata, ops::FloatTensor};
use rayon::prelude::*;

use super::{LinearOps, plain};
use crate::fused::host::{
    CHUNK, HostAccess, chunk_of_rows, lent,
    product::{Strides, product, threads_for},
    sums::{add, column_sums},
    written,
};
use crate::fused::plain::with_last;

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
            threads_for([m, n, k]),
        );
    }
}

/// `x·w + b`: x `[rows, k]`, w `[k, n]`.
fn affine(x: &[f32], w: &[f32], b: Option<&[f32]>, n: usize) -> Vec<f32> {
    let k = w.len() / n.max(1);
    let m = x.len() / k.max(1);
    // SAFETY: the product writes every element.
    #[allow(unsafe_code)]
    unsafe {
        written(m * n, |y| {
            if let Some(b) = b {
                y.par_chunks_mut(chunk_of_rows(n)).for_each(|rows| {
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
fn times_transposed(g: &[f32], w: &[f32], k: usize) -> Vec<f32> {
    let n = w.len() / k.max(1);
    let m = g.len() / n.max(1);
    // SAFETY: the product writes every element.
    #[allow(unsafe_code)]
    unsafe {
        written(m * k, |y| whole([m, k, n], y, (g, false), (w, true), false))
    }
}

/// `xᵀ·g`: x `[rows, k]`, g `[rows, n]`.
fn transposed_times(x: &[f32], g: &[f32], k: usize, n: usize) -> Vec<f32> {
    // SAFETY: the product writes every element.
    #[allow(unsafe_code)]
    unsafe {
        written(k * n, |y| whole([k, n, x.len() / k.max(1)], y, (x, true), (g, false), false))
    }
}

/// Sum of two equally long tensors.
fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    assert_eq!(a.len(), b.len());
    // SAFETY: the chunks cover the buffer, and the kernel writes all of each.
    #[allow(unsafe_code)]
    unsafe {
        written(a.len(), |y| {
            y.par_chunks_mut(CHUNK)
                .zip(a.par_chunks(CHUNK))
                .zip(b.par_chunks(CHUNK))
                .for_each(|((y, a), b)| add(a, b, y));
        })
    }
}

/// Size of the last dimension.
fn last(shape: &Shape) -> usize {
    shape[shape.num_dims() - 1]
}

impl<B: HostAccess> LinearOps for B {
    fn affine(x: FloatTensor<B>, w: FloatTensor<B>, b: Option<FloatTensor<B>>) -> FloatTensor<B> {
        let (shape, n) = (x.shape(), w.shape()[1]);
        lent!(
            (x, w; b) => B::own(affine(&x, &w, b.as_deref(), n), with_last(shape.to_vec(), n)),
            plain::affine::<B>(x, w, b)
        )
    }

    fn affine_x_backward(w: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
        let (shape, k) = (grad.shape(), w.shape()[0]);
        lent!(
            (w, grad) => B::own(times_transposed(&grad, &w, k), with_last(shape.to_vec(), k)),
            plain::affine_x_backward::<B>(w, grad)
        )
    }

    fn affine_w_backward(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
        let (k, n) = (last(&x.shape()), last(&grad.shape()));
        lent!(
            (x, grad) => B::own(transposed_times(&x, &grad, k, n), [k, n].into()),
            plain::affine_w_backward::<B>(x, grad)
        )
    }

    fn affine_b_backward(grad: FloatTensor<B>) -> FloatTensor<B> {
        let n = last(&grad.shape());
        lent!(
            (grad) => B::own(column_sums(&grad, n), [n].into()),
            plain::affine_b_backward::<B>(grad)
        )
    }

    fn sum(x: FloatTensor<B>, y: FloatTensor<B>) -> FloatTensor<B> {
        let shape = x.shape();
        lent!((x, y) => B::own(sum(&x, &y), shape), B::float_add(x, y))
    }
}
