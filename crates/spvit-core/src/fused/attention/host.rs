//! [`AttentionOps`] over slices, without splitting or copying heads. The state is the probabilities
//! `[b, heads, t, t]`.

use std::mem::MaybeUninit;

use burn::tensor::{TensorMetadata, ops::FloatTensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::{AttentionOps, AttentionState, plain};
use crate::fused::Precision;
use crate::fused::host::{
    HostAccess, lent,
    math::exp,
    product::{Strides, product},
    simd::{max, simd_fn, sum, sum2},
    sums::add_in_order,
    written,
};

/// Items whose gradients of the bias one task adds; a matter of the result's bits, not of threads.
const ITEMS: usize = 8;

simd_fn! {
    fn softmax_rows(rows: &mut [f32], length: usize) {
        for row in rows.chunks_exact_mut(length) {
            let largest = max(row);
            for x in row.iter_mut() {
                *x = exp(*x - largest);
            }
            let scale = 1.0 / sum(row, |x| x);
            for x in row.iter_mut() {
                *x *= scale;
            }
        }
    }
}

simd_fn! {
    /// Gradient of the scores before their scale: `P∘(dP - ⟨dP, P⟩ by rows)`, in place of dP.
    fn softmax_backward_rows(p: &[f32], grad: &mut [f32], length: usize, scale: f32) {
        for (p, g) in p.chunks_exact(length).zip(grad.chunks_exact_mut(length)) {
            let along = sum2(p, g, |p, g| p * g);
            for (g, &p) in g.iter_mut().zip(p) {
                *g = (*g - along) * p * scale;
            }
        }
    }
}

simd_fn! {
    /// As [`softmax_backward_rows`], also adding the gradient without the scale to the bias's.
    fn softmax_bias_backward_rows(
        p: &[f32],
        grad: &mut [f32],
        bias_grad: &mut [f32],
        length: usize,
        scale: f32,
    ) {
        let rows = p.chunks_exact(length).zip(grad.chunks_exact_mut(length));
        for ((p, g), b) in rows.zip(bias_grad.chunks_exact_mut(length)) {
            let along = sum2(p, g, |p, g| p * g);
            for ((g, b), &p) in g.iter_mut().zip(b).zip(p) {
                let score = (*g - along) * p;
                *b += score;
                *g = score * scale;
            }
        }
    }
}

/// A pointer that tasks writing to disjoint places may share.
struct Shared(*mut f32);

// SAFETY: each task writes only to the columns of its own item and head.
#[allow(unsafe_code)]
unsafe impl Send for Shared {}
#[allow(unsafe_code)]
unsafe impl Sync for Shared {}

impl Shared {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// Squares from which on there are enough tasks without cutting them, and rows of a square that is cut.
const ENOUGH: usize = 16;
const BAND: usize = 48;

/// Self-attention of qkv `[b, t, 3·width]` with bias `[groups, heads, t, t]`.
struct Forward<'a> {
    qkv: &'a [f32],
    dims: [usize; 3],
    heads: usize,
    bias: Option<&'a [f32]>,
}

impl Forward<'_> {
    /// Items times heads, each with a square of probabilities.
    fn squares(&self) -> usize {
        self.dims[0] * self.heads
    }

    /// Rows of a square that one task computes; the whole square where there are many.
    fn rows(&self) -> usize {
        let t = self.dims[1];
        if self.squares() < ENOUGH { t.min(BAND) } else { t }.max(1)
    }

    /// The buffer for the output `[b, t, width]`, which tasks fill.
    fn output(&self) -> Vec<f32> {
        let [b, t, width] = self.dims;
        assert!(self.qkv.len() == b * t * 3 * width && width.is_multiple_of(self.heads));
        let squares = self.bias.map_or(0, |bias| bias.len() / (t * t).max(1));
        assert!(squares.is_multiple_of(self.heads), "a bias has a square for every head");
        Vec::with_capacity(b * t * width)
    }

    /// Writes the probabilities of a square's rows from `first` on to `p`, as many as it has, and these
    /// rows of the output, which starts at `out`.
    ///
    /// # Safety
    /// `out` has room for the output, and no one else reads or writes these rows.
    #[allow(unsafe_code)]
    unsafe fn rows_from(
        &self,
        (square, first): (usize, usize),
        p: &mut [MaybeUninit<f32>],
        out: &Shared,
    ) {
        let Self { qkv, dims: [_, t, width], heads, bias } = *self;
        let (item, head, rows) = (square / heads, square % heads, p.len() / t);
        let d = width / heads;
        let base = item * t * 3 * width + head * d;
        let part = |i: usize| qkv.as_ptr().wrapping_add(base + i * width);
        if let Some(bias) = bias {
            let at = (square * t * t) % bias.len() + first * t;
            p.write_copy_of_slice(&bias[at..at + rows * t]);
        }
        let wide = Strides { row: 3 * width as isize, column: 1 };
        let across = Strides { row: 1, column: 3 * width as isize };
        let narrow = Strides { row: width as isize, column: 1 };
        let along = Strides { row: t as isize, column: 1 };
        let (scale, one) = ((d as f32).sqrt().recip(), Parallelism::None);
        // SAFETY: Q, K and V of this head lie in `qkv` by the assertion in `output`, `p` holds rows·t
        // elements, written where they are added to, and the caller promises the rest.
        unsafe {
            let (q, k, v) = (part(0).wrapping_add(first * 3 * width), part(1), part(2));
            let to = (p.as_mut_ptr().cast(), along);
            product([rows, t, d], to, (q, wide), (k, across), bias.is_some(), scale, one);
            // The product has written all of it.
            let p = p.assume_init_mut();
            softmax_rows(p, t);
            let to = (out.at((item * t + first) * width + head * d), narrow);
            product([rows, d, t], to, (p.as_ptr(), along), (v, wide), false, 1.0, one);
        }
    }

    /// The output `[b, t, width]` and the probabilities `[b, heads, t, t]`.
    fn with_probabilities(&self) -> (Vec<f32>, Vec<f32>) {
        let ([b, t, width], rows) = (self.dims, self.rows());
        let mut out = self.output();
        let shared = Shared(out.as_mut_ptr());
        // SAFETY: the tasks write every row of every square, and of the output every head's columns.
        #[allow(unsafe_code)]
        let probabilities = unsafe {
            written(self.squares() * t * t, |p| {
                let squares = p.chunks_mut((t * t).max(1)).enumerate();
                let tasks = squares.flat_map(|(square, p)| {
                    let bands = p.chunks_mut(rows * t).enumerate();
                    bands.map(move |(band, p)| ((square, band * rows), p))
                });
                let tasks: Vec<_> = tasks.collect();
                tasks.into_par_iter().for_each(|(at, p)| self.rows_from(at, p, &shared));
            })
        };
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            out.set_len(b * t * width);
        }
        (out, probabilities)
    }

    /// The output `[b, t, width]` alone; a task's probabilities stay in the cache.
    fn without_probabilities(&self) -> Vec<f32> {
        let ([b, t, width], rows) = (self.dims, self.rows());
        let mut out = self.output();
        let shared = Shared(out.as_mut_ptr());
        let bands = t.div_ceil(rows);
        (0..self.squares() * bands).into_par_iter().for_each_init(
            || Vec::with_capacity(rows * t),
            |scratch: &mut Vec<f32>, task| {
                let first = task % bands * rows;
                let p = &mut scratch.spare_capacity_mut()[..rows.min(t - first) * t];
                // SAFETY: no two tasks have the same rows of the same square.
                #[allow(unsafe_code)]
                unsafe {
                    self.rows_from((task / bands, first), p, &shared);
                }
            },
        );
        // SAFETY: the tasks have written all rows of all heads' columns.
        #[allow(unsafe_code)]
        unsafe {
            out.set_len(b * t * width);
        }
        out
    }
}

/// Gradients for qkv, of its shape, and for a bias of that many groups.
fn backward(
    qkv: &[f32],
    probabilities: &[f32],
    grad: &[f32],
    [b, t, width]: [usize; 3],
    heads: usize,
    groups: Option<usize>,
) -> (Vec<f32>, Option<Vec<f32>>) {
    assert_eq!(qkv.len(), b * t * 3 * width);
    assert_eq!(grad.len(), b * t * width);
    assert_eq!(probabilities.len(), b * heads * t * t);
    let d = width / heads;
    let scale = (d as f32).sqrt().recip();
    let mut out = Vec::with_capacity(qkv.len());
    let shared = Shared(out.as_mut_ptr());
    let wide = Strides { row: 3 * width as isize, column: 1 };
    let across = Strides { row: 1, column: 3 * width as isize };
    let narrow = Strides { row: width as isize, column: 1 };
    let square = Strides { row: t as isize, column: 1 };
    let turned = Strides { row: 1, column: t as isize };
    let scratch = || vec![0.0f32; t * t];
    let one_head = |scores: &mut [f32], index: usize, bias_grad: Option<&mut [f32]>| {
        let (item, head) = (index / heads, index % heads);
        let p = &probabilities[index * t * t..(index + 1) * t * t];
        let base = item * t * 3 * width + head * d;
        let part = |i: usize| qkv.as_ptr().wrapping_add(base + i * width);
        let to = |i: usize| (shared.at(base + i * width), wide);
        let g = grad.as_ptr().wrapping_add(item * t * width + head * d);
        // SAFETY: as in `forward`; each task writes its own columns of dQ, dK and dV.
        #[allow(unsafe_code)]
        unsafe {
            let (q, k, v) = (part(0), part(1), part(2));
            let one = Parallelism::None;
            product([t, d, t], to(2), (p.as_ptr(), turned), (g, narrow), false, 1.0, one);
            let dp = (scores.as_mut_ptr(), square);
            product([t, t, d], dp, (g, narrow), (v, across), false, 1.0, one);
            match bias_grad {
                Some(bias_grad) => softmax_bias_backward_rows(p, scores, bias_grad, t, scale),
                None => softmax_backward_rows(p, scores, t, scale),
            }
            let ds = scores.as_ptr();
            product([t, d, t], to(0), (ds, square), (k, wide), false, 1.0, one);
            product([t, d, t], to(1), (ds, turned), (q, wide), false, 1.0, one);
        }
    };
    let bias_grad = match groups {
        None => {
            let indices = (0..b * heads).into_par_iter();
            indices.for_each_init(scratch, |scores, index| one_head(scores, index, None));
            None
        }
        Some(groups) => {
            // One task takes up to `ITEMS` items of a group in order, for one head; the groups and
            // heads of a piece lie together, so that the pieces are whole gradients to be added.
            let (squares, items) = (groups * heads, b / groups);
            let mut pieces = vec![0.0; items.div_ceil(ITEMS) * squares * t * t];
            pieces.par_chunks_mut((t * t).max(1)).enumerate().for_each_init(
                scratch,
                |scores, (task, bias_grad)| {
                    let (piece, square) = (task / squares, task % squares);
                    for item in piece * ITEMS..((piece + 1) * ITEMS).min(items) {
                        one_head(scores, item * squares + square, Some(&mut *bias_grad));
                    }
                },
            );
            Some(add_in_order(pieces.chunks(squares * t * t), squares * t * t))
        }
    };
    // SAFETY: dQ, dK and dV of every item and head, written above, are all of it.
    #[allow(unsafe_code)]
    unsafe {
        out.set_len(qkv.len());
    }
    (out, bias_grad)
}

/// V of every token but the first `skipped`, less its bias: qkv `[b, tokens, 3·width]` to
/// `[b, tokens - skipped, width]`.
fn value_part(
    qkv: &[f32],
    bias: Option<&[f32]>,
    [tokens, width]: [usize; 2],
    skipped: usize,
) -> Vec<f32> {
    let image = tokens * 3 * width;
    let kept = (tokens - skipped) * width;
    // SAFETY: every row of every image's chunk is written.
    #[allow(unsafe_code)]
    unsafe {
        written(qkv.len() / image.max(1) * kept, |out| {
            let images = out.par_chunks_mut(kept.max(1)).zip(qkv.par_chunks(image.max(1)));
            images.for_each(|(out, qkv)| {
                let tokens = qkv.chunks_exact(3 * width).skip(skipped);
                for (out, token) in out.chunks_exact_mut(width).zip(tokens) {
                    let values = &token[2 * width..];
                    match bias {
                        Some(bias) => {
                            for ((out, &v), &b) in out.iter_mut().zip(values).zip(bias) {
                                out.write(v - b);
                            }
                        }
                        None => {
                            out.write_copy_of_slice(values);
                        }
                    }
                }
            });
        })
    }
}

impl<B: HostAccess> AttentionOps for B {
    fn self_attention(
        qkv: FloatTensor<B>,
        heads: usize,
        bias: Option<FloatTensor<B>>,
        precision: Precision,
    ) -> (FloatTensor<B>, AttentionState<B>) {
        if precision != Precision::F32 {
            return plain::self_attention::<B>(qkv, heads, bias, precision);
        }
        let shape = qkv.shape();
        let [b, t, width] = [shape[0], shape[1], shape[2] / 3];
        lent!(
            (qkv; bias) => {
                let own = Forward { qkv: &qkv, dims: [b, t, width], heads, bias: bias.as_deref() };
                let (y, p) = own.with_probabilities();
                let p = B::own(p, [b, heads, t, t].into());
                (B::own(y, [b, t, width].into()), AttentionState::Probabilities(p))
            },
            plain::self_attention::<B>(qkv, heads, bias, Precision::F32)
        )
    }

    fn self_attention_output(
        qkv: FloatTensor<B>,
        heads: usize,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        let shape = qkv.shape();
        let dims = [shape[0], shape[1], shape[2] / 3];
        lent!(
            (qkv; bias) => {
                let own = Forward { qkv: &qkv, dims, heads, bias: bias.as_deref() };
                B::own(own.without_probabilities(), dims.into())
            },
            plain::self_attention::<B>(qkv, heads, bias, Precision::F32).0
        )
    }

    fn self_attention_backward(
        qkv: FloatTensor<B>,
        state: AttentionState<B>,
        grad: FloatTensor<B>,
        (heads, groups): (usize, Option<usize>),
        precision: Precision,
    ) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
        let shape = qkv.shape();
        let [b, t, width] = [shape[0], shape[1], shape[2] / 3];
        let (AttentionState::Probabilities(p), Precision::F32) = (state.clone(), precision) else {
            let of = (heads, groups);
            return plain::self_attention_backward::<B>(qkv, state, grad, of, precision);
        };
        lent!(
            (qkv, p, grad) => {
                let (dx, bias) = backward(&qkv, &p, &grad, [b, t, width], heads, groups);
                let squares = groups.map_or(0, |groups| groups);
                let bias = bias.map(|bias| B::own(bias, [squares, heads, t, t].into()));
                (B::own(dx, shape), bias)
            },
            plain::self_attention_backward::<B>(qkv, state, grad, (heads, groups), Precision::F32)
        )
    }

    fn value_part(
        qkv: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
        skipped: usize,
    ) -> FloatTensor<B> {
        let shape = qkv.shape();
        let [b, t, width] = [shape[0], shape[1], shape[2] / 3];
        lent!(
            (qkv; bias) => {
                let y = value_part(&qkv, bias.as_deref(), [t, width], skipped);
                B::own(y, [b, t - skipped, width].into())
            },
            plain::value_part::<B>(qkv, bias, skipped)
        )
    }
}
