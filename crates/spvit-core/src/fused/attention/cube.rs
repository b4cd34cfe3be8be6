//! [`AttentionOps`] with kernels of CubeCL around the products: one that parts Q, K and V, one that
//! puts their gradients together, and softmax with its backward pass, a row for a cube at a time. The backward
//! pass computes the scores once more.

use burn::tensor::{
    Shape,
    ops::{FloatTensor, FloatTensorOps},
};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, tensor::CubeTensor,
};
use burn_fusion::Fusion;
use cubecl::prelude::*;

use super::{AttentionOps, AttentionState, plain};
use crate::fused::cube::{
    CubeFloat, RowSplit, UNITS, arrays, cube_max, cube_sum, cubes, is_read, known, register_all,
    register_typed, row_cubes, served,
};
use crate::fused::{Precision, PrecisionOps};

impl<R, F, I, BT> AttentionOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn self_attention(
        qkv: FloatTensor<Self>,
        heads: usize,
        bias: Option<FloatTensor<Self>>,
        precision: Precision,
    ) -> (FloatTensor<Self>, AttentionState<Self>) {
        let sizes = Sizes::of(&qkv.shape, heads);
        let Some(split) = sizes.split(&qkv, [], bias.as_ref()) else {
            return plain::self_attention::<Self>(qkv, heads, bias, precision);
        };
        let [q, k, v] = known(part(qkv, None, sizes));
        let scores = Self::float_matmul(q, Self::float_transpose(k));
        let p = softmax(scores, bias.clone(), sizes.scale(), split);
        let output = join(vec![Self::float_matmul(p, v)], sizes);
        (output, AttentionState::Bias(bias))
    }

    fn self_attention_backward(
        qkv: FloatTensor<Self>,
        state: AttentionState<Self>,
        grad: FloatTensor<Self>,
        (heads, groups): (usize, Option<usize>),
        precision: Precision,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        let sizes = Sizes::of(&qkv.shape, heads);
        let own = match &state {
            AttentionState::Bias(bias) => {
                sizes.split(&qkv, [&grad], bias.as_ref()).map(|split| (split, bias.clone()))
            }
            AttentionState::Probabilities(_) => None,
        };
        let Some((split, bias)) = own else {
            let of = (heads, groups);
            return plain::self_attention_backward::<Self>(qkv, state, grad, of, precision);
        };
        let Sizes { batch, tokens, .. } = sizes;
        let [q, k, v, grad] = known(part(qkv, Some(grad), sizes));
        let scores = Self::float_matmul(q.clone(), Self::float_transpose(k.clone()));
        let p_grad = Self::float_matmul(grad.clone(), Self::float_transpose(v));
        let [p, s_grad] = softmax_backward(scores, bias, p_grad, sizes.scale(), split);
        let v_grad = Self::float_matmul(Self::float_transpose(p), grad);
        let bias_grad = groups.map(|groups| {
            let by_group = Shape::new([batch / groups, groups * heads * tokens * tokens]);
            let all = Self::float_reshape(Self::raised(s_grad.clone()), by_group);
            let sum = Self::float_sum_dim(all, 0);
            // The bias is added after the scores are scaled.
            let sum = Self::float_div_scalar(sum, sizes.scale().into());
            Self::float_reshape(sum, Shape::new([groups, heads, tokens, tokens]))
        });
        let q_grad = Self::float_matmul(s_grad.clone(), k);
        let k_grad = Self::float_matmul(Self::float_transpose(s_grad), q);
        (join(vec![q_grad, k_grad, v_grad], sizes), bias_grad)
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    tokens: usize,
    heads: usize,
    d: usize,
}

impl Sizes {
    /// Those of Q, K and V `[b, t, 3·heads·d]`.
    fn of(qkv: &Shape, heads: usize) -> Self {
        Self { batch: qkv[0], tokens: qkv[1], heads, d: qkv[2] / 3 / heads }
    }

    /// How a row of scores is shared among units, where kernels serve Q, K and V, other tensors and the bias.
    fn split<R: CubeRuntime, const N: usize>(
        &self,
        qkv: &CubeFloat<R>,
        others: [&CubeFloat<R>; N],
        bias: Option<&CubeFloat<R>>,
    ) -> Option<RowSplit> {
        let some = is_read(qkv.dtype) && qkv.shape.num_elements() > 0;
        let all = some && served(others) && bias.is_none_or(|bias| served([bias]));
        RowSplit::of(&Shape::new([self.tokens])).filter(|_| all).map(|(split, _)| split)
    }

    fn scale(&self) -> f64 {
        (self.d as f64).powf(-0.5)
    }

    /// Of Q, K or V by head: `[b, heads, t, d]`.
    fn by_head(&self) -> Shape {
        Shape::new([self.batch, self.heads, self.tokens, self.d])
    }
}

/// Q, K and V, each `[b, heads, t, d]`, and, so too and in their type, the output's gradient where it is given.
fn part<R: CubeRuntime>(
    qkv: CubeFloat<R>,
    grad: Option<CubeFloat<R>>,
    sizes: Sizes,
) -> Vec<CubeFloat<R>> {
    let Sizes { tokens, heads, d, .. } = sizes;
    let (elements, dtype) = (sizes.by_head().num_elements(), qkv.dtype);
    let launch = move |mut inputs: Vec<CubeTensor<R>>, mut outputs: Vec<CubeTensor<R>>| {
        let grad = inputs.split_off(1);
        let grad_by_head = outputs.split_off(3);
        let ([qkv], [q, k, v]) = (known(inputs), known(outputs));
        part_kernel::launch::<R>(
            &qkv.client.clone(),
            cubes(elements),
            CubeDim::new_1d(UNITS),
            qkv.into_array_arg(),
            arrays(grad),
            q.into_array_arg(),
            k.into_array_arg(),
            v.into_array_arg(),
            arrays(grad_by_head),
            elements,
            tokens,
            heads,
            d,
            dtype.into(),
        );
    };
    let inputs: Vec<_> = std::iter::once(qkv).chain(grad).collect();
    let outputs = vec![(sizes.by_head(), dtype); 2 + inputs.len()];
    register_typed("parts of attention", inputs, outputs, launch)
}

/// Several `[b, heads, t, d]` side by side in float32, `[b, t, parts·heads·d]`: what [`part`] takes apart.
fn join<R: CubeRuntime>(parts: Vec<CubeFloat<R>>, sizes: Sizes) -> CubeFloat<R> {
    let Sizes { batch, tokens, heads, d } = sizes;
    let (elements, dtype) = (sizes.by_head().num_elements(), parts[0].dtype);
    let shape = Shape::new([batch, tokens, parts.len() * heads * d]);
    let launch = move |parts: Vec<CubeTensor<R>>, outputs: Vec<CubeTensor<R>>| {
        let [output] = known(outputs);
        join_kernel::launch::<R>(
            &output.client.clone(),
            cubes(elements),
            CubeDim::new_1d(UNITS),
            arrays(parts),
            output.into_array_arg(),
            elements,
            tokens,
            heads,
            d,
            dtype.into(),
        );
    };
    let [output] = known(register_all("heads together", parts, vec![shape], launch));
    output
}

/// `softmax(scores·scale + bias)` over the last dimension, in the scores' type: scores `[b, heads, t, t]`, bias
/// `[groups, heads, t, t]`.
fn softmax<R: CubeRuntime>(
    scores: CubeFloat<R>,
    bias: Option<CubeFloat<R>>,
    scale: f64,
    split: RowSplit,
) -> CubeFloat<R> {
    let (shape, dtype) = (scores.shape.clone(), scores.dtype);
    let rows = shape.num_elements() / split.width;
    let bias_rows = bias.as_ref().map_or(1, |bias| bias.shape.num_elements() / split.width);
    let inputs = std::iter::once(scores).chain(bias).collect();
    let launch = move |mut inputs: Vec<CubeTensor<R>>, outputs: Vec<CubeTensor<R>>| {
        let [p] = known(outputs);
        let scores = inputs.remove(0);
        softmax_kernel::launch::<R>(
            &scores.client.clone(),
            row_cubes(rows, u16::MAX as usize),
            split.dim(),
            scores.into_array_arg(),
            arrays(inputs),
            p.into_array_arg(),
            scale as f32,
            rows,
            bias_rows,
            split,
            dtype.into(),
        );
    };
    let [p] = known(register_typed("softmax", inputs, vec![(shape, dtype)], launch));
    p
}

/// What [`softmax`] gives, and the gradient for the scores of one for it.
fn softmax_backward<R: CubeRuntime>(
    scores: CubeFloat<R>,
    bias: Option<CubeFloat<R>>,
    grad: CubeFloat<R>,
    scale: f64,
    split: RowSplit,
) -> [CubeFloat<R>; 2] {
    let (shape, dtype) = (scores.shape.clone(), scores.dtype);
    let rows = shape.num_elements() / split.width;
    let bias_rows = bias.as_ref().map_or(1, |bias| bias.shape.num_elements() / split.width);
    let inputs = [scores, grad].into_iter().chain(bias).collect();
    let launch = move |mut inputs: Vec<CubeTensor<R>>, outputs: Vec<CubeTensor<R>>| {
        let [p, s_grad] = known(outputs);
        let [scores, grad] = known(inputs.drain(..2).collect());
        let client = p.client.clone();
        softmax_backward_kernel::launch::<R>(
            &client,
            row_cubes(rows, u16::MAX as usize),
            split.dim(),
            scores.into_array_arg(),
            arrays(inputs),
            grad.into_array_arg(),
            p.into_array_arg(),
            s_grad.into_array_arg(),
            scale as f32,
            rows,
            bias_rows,
            split,
            dtype.into(),
        );
    };
    let outputs = vec![(shape.clone(), dtype), (shape, dtype)];
    known(register_typed("softmax's gradient", inputs, outputs, launch))
}

/// Where element `i` of the first of several `[b, heads, t, d]` lies in `[b, t, parts·heads·d]`; those of
/// others lie `heads·d` further each.
#[cube]
fn place_of(
    i: usize,
    tokens: usize,
    #[comptime] parts: usize,
    #[comptime] heads: usize,
    #[comptime] d: usize,
) -> usize {
    let (row, column) = (i / d, i % d);
    let (item, h, token) = (row / tokens / heads, row / tokens % heads, row % tokens);
    (item * tokens + token) * comptime!(parts * heads * d) + h * d + column
}

#[cube(launch)]
fn part_kernel<E: Float>(
    qkv: &Array<E>,
    grad: &Sequence<Array<f32>>,
    q: &mut Array<E>,
    k: &mut Array<E>,
    v: &mut Array<E>,
    grad_by_head: &mut Sequence<Array<E>>,
    elements: usize,
    tokens: usize,
    #[comptime] heads: usize,
    #[comptime] d: usize,
    #[define(E)] _dtype: StorageType,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < elements {
        let place = place_of(i, tokens, 3usize, heads, d);
        q[i] = qkv[place];
        k[i] = qkv[place + heads * d];
        v[i] = qkv[place + 2 * heads * d];
        #[unroll]
        for index in 0..grad.len() {
            let place = place_of(i, tokens, 1usize, heads, d);
            grad_by_head.index_mut(index)[i] = E::cast_from(grad.index(index)[place]);
        }
        i += all;
    }
}

#[cube(launch)]
fn join_kernel<E: Float>(
    parts: &Sequence<Array<E>>,
    output: &mut Array<f32>,
    elements: usize,
    tokens: usize,
    #[comptime] heads: usize,
    #[comptime] d: usize,
    #[define(E)] _dtype: StorageType,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < elements {
        let place = place_of(i, tokens, parts.len(), heads, d);
        #[unroll]
        for index in 0..parts.len() {
            output[place + index * heads * d] = f32::cast_from(parts.index(index)[i]);
        }
        i += all;
    }
}

/// The scaled and biased scores of a row, less the greatest of them, as powers of e in `values`, of which each
/// unit has its own; gives the sum of all.
#[cube]
fn softmax_row<E: Float>(
    scores: &Array<E>,
    bias: &Sequence<Array<f32>>,
    values: &mut Array<f32>,
    shared: &mut SharedMemory<f32>,
    scale: f32,
    row: usize,
    bias_rows: usize,
    #[comptime] split: RowSplit,
) -> f32 {
    let RowSplit { width, units, held } = split;
    // Every unit has a value of the row, the first at least.
    let mut most = f32::min_value();
    #[unroll]
    for i in 0..held {
        let column = UNIT_POS_X as usize + i * units;
        if column < width {
            let mut value = f32::cast_from(scores[row * width + column]) * scale;
            #[unroll]
            for of in 0..bias.len() {
                value += bias.index(of)[row % bias_rows * width + column];
            }
            values[i] = value;
            most = max(most, value);
        }
    }
    let most = cube_max(most, shared, units);
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..held {
        if UNIT_POS_X as usize + i * units < width {
            let value = (values[i] - most).exp();
            values[i] = value;
            sum += value;
        }
    }
    cube_sum(sum, shared, units)
}

#[cube(launch)]
fn softmax_kernel<E: Float>(
    scores: &Array<E>,
    bias: &Sequence<Array<f32>>,
    p: &mut Array<E>,
    scale: f32,
    rows: usize,
    bias_rows: usize,
    #[comptime] split: RowSplit,
    #[define(E)] _dtype: StorageType,
) {
    let RowSplit { width, units, held } = split;
    let mut shared = SharedMemory::<f32>::new(units);
    let mut values = Array::<f32>::new(held);
    let mut row = CUBE_POS_X as usize;
    while row < rows {
        let sum = softmax_row(scores, bias, &mut values, &mut shared, scale, row, bias_rows, split);
        #[unroll]
        for i in 0..held {
            let column = UNIT_POS_X as usize + i * units;
            if column < width {
                p[row * width + column] = E::cast_from(values[i] / sum);
            }
        }
        row += CUBE_COUNT_X as usize;
    }
}

#[cube(launch)]
fn softmax_backward_kernel<E: Float>(
    scores: &Array<E>,
    bias: &Sequence<Array<f32>>,
    grad: &Array<E>,
    p: &mut Array<E>,
    s_grad: &mut Array<E>,
    scale: f32,
    rows: usize,
    bias_rows: usize,
    #[comptime] split: RowSplit,
    #[define(E)] _dtype: StorageType,
) {
    let RowSplit { width, units, held } = split;
    let mut shared = SharedMemory::<f32>::new(units);
    let mut values = Array::<f32>::new(held);
    let mut slopes = Array::<f32>::new(held);
    let mut row = CUBE_POS_X as usize;
    while row < rows {
        let start = row * width;
        let sum = softmax_row(scores, bias, &mut values, &mut shared, scale, row, bias_rows, split);
        let mut along = 0.0f32;
        #[unroll]
        for i in 0..held {
            let column = UNIT_POS_X as usize + i * units;
            if column < width {
                values[i] = values[i] / sum;
                slopes[i] = f32::cast_from(grad[start + column]);
                along += values[i] * slopes[i];
            }
        }
        let along = cube_sum(along, &mut shared, units);
        #[unroll]
        for i in 0..held {
            let column = UNIT_POS_X as usize + i * units;
            if column < width {
                p[start + column] = E::cast_from(values[i]);
                s_grad[start + column] = E::cast_from((slopes[i] - along) * values[i] * scale);
            }
        }
        row += CUBE_COUNT_X as usize;
    }
}
