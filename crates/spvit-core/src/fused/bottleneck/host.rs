//! [`BottleneckOps`] over slices, from tokens to tokens without a trip to memory.

use std::mem::MaybeUninit;

use burn::tensor::{TensorMetadata, ops::FloatTensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::{Bottleneck, BottleneckOps, plain};
use crate::fused::{
    Grid,
    host::{
        HostAccess, lent,
        product::{Strides, product},
        simd::simd_fn,
        written,
    },
};

/// Floats of products that a task keeps at hand: half of a usual second-level cache.
const AT_HAND: usize = 1 << 17;

simd_fn! {
    /// Adds a token's products to its neighbours' sums, then normalises and cuts at zero. `first`
    /// is the first token of `u`, `z` starts at token `start`.
    fn sums(
        u: &[f32],
        z: &mut [f32],
        scale: &[f32],
        shift: &[f32],
        grid: Grid,
        first: usize,
        start: usize,
    ) {
        let (d, positions) = (scale.len(), grid.positions());
        for (n, z) in z.chunks_exact_mut(d).enumerate() {
            z.fill(0.0);
            for k in 0..positions {
                let Some(m) = grid.neighbour(start + n, k) else { continue };
                let at = ((m - first) * positions + k) * d;
                for (z, &u) in z.iter_mut().zip(&u[at..at + d]) {
                    *z += u;
                }
            }
            for ((z, &scale), &shift) in z.iter_mut().zip(scale).zip(shift) {
                *z = (*z * scale + shift).max(0.0);
            }
        }
    }
}

/// Input channels whose weights one task turns.
const CHANNELS: usize = 16;

/// `[d, dim, k, k]` to `[dim, k²·d]`, kernel positions column-major.
fn by_input(kernel: &[f32], [d, dim, k]: [usize; 3]) -> Vec<f32> {
    let (square, row) = (k * k, k * k * d);
    let mut out = vec![0.0; kernel.len()];
    out.par_chunks_mut((CHANNELS * row).max(1)).enumerate().for_each(|(task, out)| {
        // An output's weights for these channels lie together.
        for (o, kernel) in kernel.chunks_exact(dim * square).enumerate() {
            let channels = kernel[task * CHANNELS * square..].chunks_exact(square);
            for (out, kernel) in out.chunks_exact_mut(row).zip(channels) {
                for (at, &weight) in kernel.iter().enumerate() {
                    out[(at % k * k + at / k) * d + o] = weight;
                }
            }
        }
    });
    out
}

/// Rows of the map that one task computes: all, unless there is one image only, for two threads,
/// or the products are too many.
fn rows_of_a_task(batch: usize, products: usize, grid: Grid) -> usize {
    let mut rows = if batch == 1 { grid.height.div_ceil(2) } else { grid.height };
    while rows > 8 && rows * grid.width * products > AT_HAND {
        rows = rows.div_ceil(2);
    }
    rows
}

/// x `[b, s + n, dim]` to the same shape; weights: kernel `[d, dim, k, k]`, scale and shift `[d]`,
/// projection `[d, dim]` and its bias `[dim]`.
fn forward(
    x: &[f32],
    [kernel, scale, shift, w, b]: [&[f32]; 5],
    batch: usize,
    grid: Grid,
) -> Vec<f32> {
    if x.is_empty() {
        return Vec::new();
    }
    let (d, dim, tokens) = (scale.len(), b.len(), grid.tokens());
    let image = x.len() / batch;
    let skipped = image / dim - tokens;
    let products = grid.positions() * d;
    assert!(x.len() == batch * image && image == (skipped + tokens) * dim);
    assert!(kernel.len() == dim * products && shift.len() == d && w.len() == d * dim);
    let kernel = by_input(kernel, [d, dim, grid.kernel]);
    let rows = rows_of_a_task(batch, products, grid);
    let task = |u: &mut Vec<f32>, z: &mut Vec<f32>, index: usize, out: &mut [MaybeUninit<f32>]| {
        let (n, band) = (index / grid.height.div_ceil(rows), index % grid.height.div_ceil(rows));
        let x = &x[n * image + skipped * dim..(n + 1) * image];
        let (start, count) = (band * rows * grid.width, out.len() / dim);
        // The rows above and below that the kernel reaches.
        let half = grid.kernel / 2;
        let first = (band * rows).saturating_sub(half) * grid.width;
        let end = (start + count + half * grid.width).min(tokens);
        let read = end - first;
        u.resize(read * products, 0.0);
        z.resize(count * d, 0.0);
        let dense = |columns: usize| Strides { row: columns as isize, column: 1 };
        let one = Parallelism::None;
        // SAFETY: `u` holds `read` rows of products, and x has tokens `first..end`.
        #[allow(unsafe_code)]
        unsafe {
            let from = (x[first * dim..end * dim].as_ptr(), dense(dim));
            let to = (u.as_mut_ptr(), dense(products));
            product(
                [read, products, dim],
                to,
                from,
                (kernel.as_ptr(), dense(products)),
                false,
                1.0,
                one,
            );
        }
        sums(u, z, scale, shift, grid, first, start);
        for out in out.chunks_exact_mut(dim) {
            out.write_copy_of_slice(b);
        }
        // SAFETY: `out` holds `count` rows, written above.
        #[allow(unsafe_code)]
        unsafe {
            let to = (out.as_mut_ptr().cast(), dense(dim));
            product(
                [count, dim, d],
                to,
                (z.as_ptr(), dense(d)),
                (w.as_ptr(), dense(dim)),
                true,
                1.0,
                one,
            );
        }
    };
    // SAFETY: the skipped tokens are copied, and the tasks of an image write all others.
    #[allow(unsafe_code)]
    unsafe {
        written(x.len(), |out| {
            let mut tasks = Vec::new();
            for (out, x) in out.chunks_exact_mut(image).zip(x.chunks_exact(image)) {
                let (class, map) = out.split_at_mut(skipped * dim);
                class.write_copy_of_slice(&x[..skipped * dim]);
                tasks.extend(map.chunks_mut(rows * grid.width * dim));
            }
            tasks.into_par_iter().enumerate().for_each_init(
                || (Vec::new(), Vec::new()),
                |(u, z), (index, out)| task(u, z, index, out),
            );
        })
    }
}

impl<B: HostAccess> BottleneckOps for B {
    fn bottleneck(x: FloatTensor<B>, weights: Bottleneck<B>, grid: Grid) -> FloatTensor<B> {
        let shape = x.shape();
        let Bottleneck { kernel, scale, shift, w, b } = weights.clone();
        lent!(
            (x, kernel, scale, shift, w, b) => {
                let weights = [&*kernel, &*scale, &*shift, &*w, &*b];
                B::own(forward(&x, weights, shape[0], grid), shape)
            },
            plain::bottleneck::<B>(x, weights, grid)
        )
    }
}
