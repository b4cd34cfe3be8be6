//! [`ShiftOps`] over slices.

use burn::tensor::{TensorMetadata, ops::FloatTensor};
use rayon::prelude::*;

use super::{Grid, ShiftOps, plain};
use crate::fused::host::{
    HostAccess, dims3, lent,
    simd::{simd_fn, sum2},
    sums::add_in_order,
};

#[inline(always)]
fn add_scaled(y: &mut [f32], x: &[f32], factor: f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

simd_fn! {
    fn mix_image(v: &[f32], p: &[f32], heads: usize, grid: Grid, y: &mut [f32]) {
        let positions = grid.positions();
        let d = y.len() / grid.tokens();
        for (n, y) in y.chunks_exact_mut(d).enumerate() {
            for k in 0..positions {
                let Some(m) = grid.neighbour(n, k) else { continue };
                let token = &v[m * heads * d..(m + 1) * heads * d];
                for (h, value) in token.chunks_exact(d).enumerate() {
                    add_scaled(y, value, p[h * positions + k]);
                }
            }
        }
    }
}

simd_fn! {
    fn mix_image_backward(
        v: &[f32],
        p: &[f32],
        grad: &[f32],
        heads: usize,
        grid: Grid,
        v_grad: &mut [f32],
        p_grad: &mut [f32],
    ) {
        let positions = grid.positions();
        let d = grad.len() / grid.tokens();
        for (n, g) in grad.chunks_exact(d).enumerate() {
            for k in 0..positions {
                let Some(m) = grid.neighbour(n, k) else { continue };
                let token = m * heads * d..(m + 1) * heads * d;
                let values = v[token.clone()].chunks_exact(d);
                let grads = v_grad[token].chunks_exact_mut(d);
                for (h, (value, dv)) in values.zip(grads).enumerate() {
                    add_scaled(dv, g, p[h * positions + k]);
                    p_grad[h * positions + k] += sum2(g, value, |g, v| g * v);
                }
            }
        }
    }
}

simd_fn! {
    fn sum_image(u: &[f32], grid: Grid, y: &mut [f32]) {
        let positions = grid.positions();
        let d = y.len() / grid.tokens();
        for (n, y) in y.chunks_exact_mut(d).enumerate() {
            for k in 0..positions {
                if let Some(m) = grid.neighbour(n, k) {
                    let start = (m * positions + k) * d;
                    add_scaled(y, &u[start..start + d], 1.0);
                }
            }
        }
    }
}

/// v `[b, s + n, width]`, p `[heads, k²]` to `[b, n, width/heads]`; the first `s` tokens of every
/// image are skipped.
fn mix_shift(v: &[f32], [batch, tokens, width]: [usize; 3], p: &[f32], grid: Grid) -> Vec<f32> {
    let heads = p.len() / grid.positions();
    let (skipped, image) = ((tokens - grid.tokens()) * width, grid.tokens() * width / heads);
    let mut y = vec![0.0; batch * image];
    y.par_chunks_mut(image.max(1))
        .zip(v.par_chunks((tokens * width).max(1)))
        .for_each(|(y, v)| mix_image(&v[skipped..], p, heads, grid, y));
    y
}

/// Gradients for v and p.
fn mix_shift_backward(
    v: &[f32],
    [_, tokens, width]: [usize; 3],
    p: &[f32],
    grad: &[f32],
    grid: Grid,
) -> [Vec<f32>; 2] {
    let heads = p.len() / grid.positions();
    let (skipped, image) = ((tokens - grid.tokens()) * width, grid.tokens() * width / heads);
    let mut v_grad = vec![0.0; v.len()];
    let parts: Vec<Vec<f32>> = v_grad
        .par_chunks_mut((tokens * width).max(1))
        .zip(v.par_chunks((tokens * width).max(1)))
        .zip(grad.par_chunks(image.max(1)))
        .map(|((dv, v), g)| {
            let mut dp = vec![0.0; p.len()];
            let (dv, v) = (&mut dv[skipped..], &v[skipped..]);
            mix_image_backward(v, p, g, heads, grid, dv, &mut dp);
            dp
        })
        .collect();
    [v_grad, add_in_order(parts, p.len())]
}

/// u `[b, s + n, k²·d]` to `[b, n, d]`.
fn shift_sum(u: &[f32], [batch, tokens, width]: [usize; 3], grid: Grid) -> Vec<f32> {
    let image = grid.tokens() * width / grid.positions();
    let skipped = (tokens - grid.tokens()) * width;
    let mut y = vec![0.0; batch * image];
    y.par_chunks_mut(image.max(1))
        .zip(u.par_chunks((tokens * width).max(1)))
        .for_each(|(y, u)| sum_image(&u[skipped..], grid, y));
    y
}

/// Gradient of [`shift_sum`], with zeros for the skipped tokens.
fn shift_sum_backward(
    grad: &[f32],
    [batch, _, d]: [usize; 3],
    skipped: usize,
    grid: Grid,
) -> Vec<f32> {
    let positions = grid.positions();
    let image = (skipped + grid.tokens()) * positions * d;
    let mut u_grad = vec![0.0; batch * image];
    let grads = grad.par_chunks((grid.tokens() * d).max(1));
    u_grad.par_chunks_mut(image.max(1)).zip(grads).for_each(|(du, g)| {
        let du = &mut du[skipped * positions * d..];
        for (n, g) in g.chunks_exact(d).enumerate() {
            for k in 0..positions {
                if let Some(m) = grid.neighbour(n, k) {
                    let start = (m * positions + k) * d;
                    du[start..start + d].copy_from_slice(g);
                }
            }
        }
    });
    u_grad
}

impl<B: HostAccess> ShiftOps for B {
    fn mix_shift(v: FloatTensor<B>, p: FloatTensor<B>, grid: Grid) -> FloatTensor<B> {
        let (dims, heads) = (dims3(&v.shape()), p.shape()[0]);
        let shape = [dims[0], grid.tokens(), dims[2] / heads];
        lent!(
            (v, p) => B::own(mix_shift(&v, dims, &p, grid), shape.into()),
            plain::mix_shift::<B>(v, p, grid)
        )
    }

    fn mix_shift_backward(
        v: FloatTensor<B>,
        p: FloatTensor<B>,
        grad: FloatTensor<B>,
        grid: Grid,
    ) -> [FloatTensor<B>; 2] {
        let (shape, p_shape) = (v.shape(), p.shape());
        lent!(
            (v, p, grad) => {
                let [dv, dp] = mix_shift_backward(&v, dims3(&shape), &p, &grad, grid);
                [B::own(dv, shape), B::own(dp, p_shape)]
            },
            plain::mix_shift_backward::<B>(v, p, grad, grid)
        )
    }

    fn shift_sum(u: FloatTensor<B>, grid: Grid) -> FloatTensor<B> {
        let dims = dims3(&u.shape());
        let shape = [dims[0], grid.tokens(), dims[2] / grid.positions()];
        lent!(
            (u) => B::own(shift_sum(&u, dims, grid), shape.into()),
            plain::shift_sum::<B>(u, grid)
        )
    }

    fn shift_sum_backward(grad: FloatTensor<B>, skipped: usize, grid: Grid) -> FloatTensor<B> {
        let dims = dims3(&grad.shape());
        let shape = [dims[0], skipped + grid.tokens(), dims[2] * grid.positions()];
        lent!(
            (grad) => B::own(shift_sum_backward(&grad, dims, skipped, grid), shape.into()),
            plain::shift_sum_backward::<B>(grad, skipped, grid)
        )
    }
}
