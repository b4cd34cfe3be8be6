//! The defaults of [`FusedOps`](super::FusedOps), in plain tensor operations.

use burn::tensor::{
    IndexingUpdateOp, Int, Tensor, TensorMetadata, TensorPrimitive, activation::relu,
    backend::Backend, ops::FloatTensor,
};

use super::{AdamWStep, Bottleneck, FusedOps, Grid, NormParameters, raw, wrap};

/// Leading dimensions folded into one.
pub(super) fn rows<B: Backend>(x: FloatTensor<B>) -> Tensor<B, 2> {
    let shape = x.shape();
    let last = shape[shape.num_dims() - 1];
    flat::<B>(x).reshape([-1, last as i32])
}

pub(super) fn flat<B: Backend>(x: FloatTensor<B>) -> Tensor<B, 1> {
    let count = x.shape().num_elements();
    Tensor::from_primitive(TensorPrimitive::Float(B::float_reshape(x, [count].into())))
}

/// `x` in the shape of `like` with another last dimension.
pub(super) fn unfold<B: Backend>(x: Tensor<B, 2>, mut dims: Vec<usize>) -> FloatTensor<B> {
    let [_, last] = x.dims();
    if let Some(d) = dims.last_mut() {
        *d = last;
    }
    B::float_reshape(raw(x), dims.into())
}

pub(super) fn dims<B: Backend>(x: &FloatTensor<B>) -> Vec<usize> {
    x.shape().to_vec()
}

pub(super) fn affine<B: Backend>(
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    b: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let dims = dims::<B>(&x);
    let y = rows::<B>(x).matmul(wrap(w));
    let y = match b {
        Some(b) => y + wrap::<B, 1>(b).unsqueeze(),
        None => y,
    };
    unfold(y, dims)
}

pub(super) fn affine_x_backward<B: Backend>(
    w: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let dims = dims::<B>(&grad);
    unfold(rows::<B>(grad).matmul(wrap::<B, 2>(w).transpose()), dims)
}

pub(super) fn affine_w_backward<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    raw(rows::<B>(x).transpose().matmul(rows::<B>(grad)))
}

pub(super) fn affine_b_backward<B: Backend>(grad: FloatTensor<B>) -> FloatTensor<B> {
    raw(rows::<B>(grad).sum_dim(0).squeeze_dim::<1>(0))
}

pub(super) fn batch_norm<B: Backend>(
    x: FloatTensor<B>,
    parameters: NormParameters<B>,
    epsilon: f64,
) -> [FloatTensor<B>; 3] {
    let dims = dims::<B>(&x);
    let [offset, weight, bias] = row_vectors(parameters);
    let x = rows::<B>(x) + offset;
    let mean = x.clone().mean_dim(0);
    let centred = x - mean.clone();
    let variance = centred.clone().square().mean_dim(0);
    let y = centred * inverse_root(variance.clone(), epsilon) * weight + bias;
    let d = mean.dims()[1];
    let [mean, variance] = [mean, variance].map(|row| raw(row.reshape([d])));
    [unfold(y, dims), mean, variance]
}

pub(super) fn batch_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    parameters: NormParameters<B>,
    statistics: [FloatTensor<B>; 2],
    grad: FloatTensor<B>,
    epsilon: f64,
) -> [FloatTensor<B>; 4] {
    let dims = dims::<B>(&x);
    let [offset, weight, _] = row_vectors(parameters);
    let [mean, variance] = statistics.map(|s| wrap::<B, 1>(s).unsqueeze::<2>());
    let inverse = inverse_root(variance, epsilon);
    let normal = (rows::<B>(x) + offset - mean) * inverse.clone();
    let grad = rows::<B>(grad);
    let [count, d] = grad.dims();
    let bias_grad = grad.clone().sum_dim(0);
    let weight_grad = (grad.clone() * normal.clone()).sum_dim(0);
    let common = (bias_grad.clone() + normal * weight_grad.clone()) / count as f64;
    let x_grad = (grad - common) * inverse * weight;
    let offset_grad = x_grad.clone().sum_dim(0);
    let [offset_grad, weight_grad, bias_grad] =
        [offset_grad, weight_grad, bias_grad].map(|sum| raw(sum.reshape([d])));
    [unfold(x_grad, dims), offset_grad, weight_grad, bias_grad]
}

/// Offset, weight and bias as rows.
fn row_vectors<B: Backend>(parameters: NormParameters<B>) -> [Tensor<B, 2>; 3] {
    let NormParameters { offset, weight, bias } = parameters;
    [offset, weight, bias].map(|vector| wrap::<B, 1>(vector).unsqueeze())
}

/// Not a root and a reciprocal, which Burn's ndarray backend approximates to 12 to 14 bits.
pub(super) fn inverse_root<B: Backend>(variance: Tensor<B, 2>, epsilon: f64) -> Tensor<B, 2> {
    (variance + epsilon).powf_scalar(-0.5)
}

/// For every output token and kernel position, the row of `row(token, position)` that it reads; tokens off the map read `outside`.
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
) -> (FloatTensor<B>, FloatTensor<B>) {
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
    (raw(v_grad), raw(p_grad))
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

pub(super) fn bottleneck<B: FusedOps>(
    x: FloatTensor<B>,
    weights: Bottleneck<B>,
    grid: Grid,
) -> FloatTensor<B> {
    let kernel = wrap::<B, 4>(weights.kernel);
    let [d, dim, k, _] = kernel.dims();
    let kernel = kernel.permute([1, 3, 2, 0]).reshape([dim, k * k * d]);
    let products = B::affine(x.clone(), raw(kernel), None);
    let sums = wrap::<B, 3>(B::shift_sum(products, grid));
    let row = |x: FloatTensor<B>| wrap::<B, 1>(x).unsqueeze::<3>();
    let y = relu(sums * row(weights.scale) + row(weights.shift));
    let y = wrap::<B, 3>(B::affine(raw(y), weights.w, Some(weights.b)));
    let x = wrap::<B, 3>(x);
    let skipped = x.dims()[1] - grid.tokens();
    match skipped {
        0 => raw(y),
        _ => raw(Tensor::cat(vec![x.narrow(1, 0, skipped), y], 1)),
    }
}

pub(super) fn inner_products<B: Backend>(
    grad: FloatTensor<B>,
    values: Vec<FloatTensor<B>>,
) -> FloatTensor<B> {
    let grad = flat::<B>(grad);
    let products = values.into_iter().map(|value| (grad.clone() * flat::<B>(value)).sum());
    raw(Tensor::cat(products.collect(), 0))
}

pub(super) fn adamw_update<B: Backend>(
    inputs: [FloatTensor<B>; 4],
    step: AdamWStep,
) -> [FloatTensor<B>; 3] {
    let [p, m, v, g] = inputs.map(wrap::<B, 1>);
    let [beta1, beta2] = step.betas;
    let [correction1, correction2] = step.corrections();
    let p = p * (1.0 - step.learning_rate * step.weight_decay);
    let m = m * beta1 + g.clone() * (1.0 - beta1);
    let v = v * beta2 + g.square() * (1.0 - beta2);
    let root = v.clone().sqrt() / correction2.sqrt() + step.epsilon;
    let p = p - m.clone() / root * (step.learning_rate / correction1);
    [raw(p), raw(m), raw(v)]
}
