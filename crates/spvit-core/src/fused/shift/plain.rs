//! [`ShiftOps`](super::ShiftOps) in plain tensor operations.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, backend::Backend, ops::FloatTensor};

use super::Grid;
use crate::fused::{raw, wrap};

/// For every output token and kernel position, the row of `row(token, position)` that it reads;
/// tokens off the map read `outside`.
fn neighbour_rows<B: Backend>(
    grid: Grid,
    row: impl Fn(usize, usize) -> usize,
    outside: usize,
    device: &B::Device,
) -> Tensor<B, 1, Int> {
    let rows: Vec<i32> = (0..grid.tokens())
        .flat_map(|n| {
            let row = &row;
            (0..grid.positions())
                .map(move |k| grid.neighbour(n, k).map_or(outside, |m| row(m, k)) as i32)
        })
        .collect();
    Tensor::from_ints(rows.as_slice(), device)
}

pub(super) fn mix_shift<B: Backend>(
    v: FloatTensor<B>,
    p: FloatTensor<B>,
    grid: Grid,
) -> FloatTensor<B> {
    shift_sum::<B>(raw(mix::<B>(wrap(v), wrap(p))), grid)
}

/// `[b, n, heads·d]` and `[heads, k]` to `[b, n, k·d]`.
fn mix<B: Backend>(v: Tensor<B, 3>, p: Tensor<B, 2>) -> Tensor<B, 3> {
    let [b, n, width] = v.dims();
    let [heads, positions] = p.dims();
    let d = width / heads;
    let p = p.transpose().unsqueeze::<3>();
    let mixed = p.matmul(v.reshape([b * n, heads, d]));
    mixed.reshape([b, n, positions * d])
}

pub(super) fn mix_shift_backward<B: Backend>(
    v: FloatTensor<B>,
    p: FloatTensor<B>,
    grad: FloatTensor<B>,
    grid: Grid,
) -> [FloatTensor<B>; 2] {
    let (v, skipped) = on_map::<B>(v, grid);
    let p = wrap::<B, 2>(p);
    let [b, n, width] = v.dims();
    let [heads, positions] = p.dims();
    let d = width / heads;
    let mixed = wrap::<B, 3>(shift_sum_backward::<B>(grad, 0, grid));
    let v_grad = pad(mix(mixed.clone(), p.transpose()), skipped);
    let by_head = |x: Tensor<B, 3>, parts: usize| {
        x.reshape([b * n, parts, d]).swap_dims(0, 1).reshape([parts, b * n * d])
    };
    let p_grad = by_head(v, heads).matmul(by_head(mixed, positions).transpose());
    [raw(v_grad), raw(p_grad)]
}

/// The tokens of the map, without those before them, and how many those are.
fn on_map<B: Backend>(x: FloatTensor<B>, grid: Grid) -> (Tensor<B, 3>, usize) {
    let x = wrap::<B, 3>(x);
    let skipped = x.dims()[1] - grid.tokens();
    match skipped {
        0 => (x, 0),
        _ => (x.narrow(1, skipped, grid.tokens()), skipped),
    }
}

/// Rows of zeros before the tokens of the map.
fn pad<B: Backend>(x: Tensor<B, 3>, skipped: usize) -> Tensor<B, 3> {
    let [b, _, width] = x.dims();
    match skipped {
        0 => x,
        _ => Tensor::cat(vec![Tensor::zeros([b, skipped, width], &x.device()), x], 1),
    }
}

pub(super) fn shift_sum<B: Backend>(u: FloatTensor<B>, grid: Grid) -> FloatTensor<B> {
    let (u, _) = on_map::<B>(u, grid);
    let [b, n, width] = u.dims();
    let positions = grid.positions();
    let d = width / positions;
    let device = u.device();
    let u = u.reshape([b, n * positions, d]);
    let padded = Tensor::cat(vec![u, Tensor::zeros([b, 1, d], &device)], 1);
    let index = neighbour_rows::<B>(grid, |m, k| m * positions + k, n * positions, &device);
    let picked = padded.select(1, index).reshape([b, n, positions, d]);
    raw(picked.sum_dim(2).squeeze_dim::<3>(2))
}

pub(super) fn shift_sum_backward<B: Backend>(
    grad: FloatTensor<B>,
    skipped: usize,
    grid: Grid,
) -> FloatTensor<B> {
    let grad = wrap::<B, 3>(grad);
    let [b, n, d] = grad.dims();
    let positions = grid.positions();
    let device = grad.device();
    let index = neighbour_rows::<B>(grid, |m, k| m * positions + k, n * positions, &device);
    let spread = grad.unsqueeze_dim::<4>(2).repeat_dim(2, positions).reshape([b, n * positions, d]);
    let zeros = Tensor::zeros([b, n * positions + 1, d], &device);
    let all = zeros.select_assign(1, index, spread, IndexingUpdateOp::Add);
    raw(pad(all.narrow(1, 0, n * positions).reshape([b, n, positions * d]), skipped))
}
