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
use crate::fused::Precision;
use crate::fused::cube::{
    CubeFloat, RowSplit, UNITS, arrays, cube_max, cube_sum, cubes, known, register, register_all,
    row_cubes, served,
};

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
    ) -> (FloatTensor<Self>, AttentionState<Self>) {
        let sizes = Sizes::of(&qkv.shape, heads);
        let Some(split) = sizes.split([&qkv], bias.as_ref()) else {
            return plain::self_attention::<Self>(qkv, heads, bias, Precision::F32);
        };
        let [q, k, v] = known(part(qkv, None, sizes));
        let scores = Self::float_matmul(q, Self::float_transpose(k));
        let p = softmax(scores, bias.clone(), sizes.scale(), split);
        let output = Self::float_swap_dims(Self::float_matmul(p, v), 1, 2);
        let shape = Shape::new([sizes.batch, sizes.tokens, heads * sizes.d]);
        (Self::float_reshape(output, shape), AttentionState::Bias(bias))
    }

    fn self_attention_backward(
        qkv: FloatTensor<Self>,
        state: AttentionState<Self>,
        grad: FloatTensor<Self>,
        heads: usize,
        groups: Option<usize>,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        let sizes = Sizes::of(&qkv.shape, heads);
        let own = match &state {
            AttentionState::Bias(bias) => {
                sizes.split([&qkv, &grad], bias.as_ref()).map(|split| (split, bias.clone()))
            }
            AttentionState::Probabilities(_) => None,
        };
        let Some((split, bias)) = own else {
            let of = (heads, groups);
            return plain::self_attention_backward::<Self>(qkv, state, grad, of, Precision::F32);
        };
        let Sizes { batch, tokens, .. } = sizes;
        let [q, k, v, grad] = known(part(qkv, Some(grad), sizes));
        let scores = Self::float_matmul(q.clone(), Self::float_transpose(k.clone()));
        let p_grad = Self::float_matmul(grad.clone(), Self::float_transpose(v));
        let [p, s_grad] = softmax_backward(scores, bias, p_grad, sizes.scale(), split);
        let v_grad = Self::float_matmul(Self::float_transpose(p), grad);
        let bias_grad = groups.map(|groups| {
            let by_group = Shape::new([batch / groups, groups * heads * tokens * tokens]);
            let sum = Self::float_sum_dim(Self::float_reshape(s_grad.clone(), by_group), 0);
            // The bias is added after the scores are scaled.
            let sum = Self::float_div_scalar(sum, sizes.scale().into());
            Self::float_reshape(sum, Shape::new([groups, heads, tokens, tokens]))
        });
        let q_grad = Self::float_matmul(s_grad.clone(), k);
        let k_grad = Self::float_matmul(Self::float_transpose(s_grad), q);
        (join([q_grad, k_grad, v_grad], sizes), bias_grad)
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

    /// How a row of scores is shared among units, where kernels serve these tensors and the bias.
    fn split<R: CubeRuntime, const N: usize>(
        &self,
        tensors: [&CubeFloat<R>; N],
        bias: Option<&CubeFloat<R>>,
    ) -> Option<RowSplit> {
        let all = served(tensors) && bias.is_none_or(|bias| served([bias]));
        RowSplit::of(&Shape::new([self.tokens])).filter(|_| all).map(|(split, _)| split)
    }

    fn scale(&self) -> f64 {
        (self.d as f64).powf(-0.5)
    }

    /// Of Q, K or V by head: `[b, heads, t, d]`.
    fn by_head(&self) -> Shape {
        Shape::new([self.batch, self.heads, self.tokens, self.d])
    }

    fn together(&self) -> Shape {
        Shape::new([self.batch, self.tokens, 3 * self.heads * self.d])
    }
}

/// Q, K and V, each `[b, heads, t, d]`, and, so too, the output's gradient where it is given.
fn part<R: CubeRuntime>(
    qkv: CubeFloat<R>,
    grad: Option<CubeFloat<R>>,
    sizes: Sizes,
) -> Vec<CubeFloat<R>> {
    let Sizes { tokens, heads, d, .. } = sizes;
    let elements = sizes.by_head().num_elements();
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
        );
    };
    let inputs: Vec<_> = std::iter::once(qkv).chain(grad).collect();
    let outputs = vec![sizes.by_head(); 2 + inputs.len()];
    register_all("parts of attention", inputs, outputs, launch)
}

/// What [`part`] takes apart.
fn join<R: CubeRuntime>(parts: [CubeFloat<R>; 3], sizes: Sizes) -> CubeFloat<R> {
    let Sizes { tokens, heads, d, .. } = sizes;
    let elements = sizes.by_head().num_elements();
    let launch = move |[q, k, v]: [CubeTensor<R>; 3], [qkv]: [CubeTensor<R>; 1]| {
        join_kernel::launch::<R>(
            &q.client.clone(),
            cubes(elements),
            CubeDim::new_1d(UNITS),
            q.into_array_arg(),
            k.into_array_arg(),
            v.into_array_arg(),
            qkv.into_array_arg(),
            elements,
            tokens,
            heads,
            d,
        );
    };
    let [qkv] = register("attention's gradients together", parts, [sizes.together()], launch);
    qkv
}

/// `softmax(scores·scale + bias)` over the last dimension: scores `[b, heads, t, t]`, bias
/// `[groups, heads, t, t]`.
fn softmax<R: CubeRuntime>(
    scores: CubeFloat<R>,
    bias: Option<CubeFloat<R>>,
    scale: f64,
    split: RowSplit,
) -> CubeFloat<R> {
    let shape = scores.shape.clone();
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
        );
    };
    let [p] = known(register_all("softmax", inputs, vec![shape], launch));
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
    let shape = scores.shape.clone();
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
        );
    };
    known(register_all("softmax's gradient", inputs, vec![shape.clone(), shape], launch))
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
fn part_kernel(
    qkv: &Array<f32>,
    grad: &Sequence<Array<f32>>,
    q: &mut Array<f32>,
    k: &mut Array<f32>,
    v: &mut Array<f32>,
    grad_by_head: &mut Sequence<Array<f32>>,
    elements: usize,
    tokens: usize,
    #[comptime] heads: usize,
    #[comptime] d: usize,
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
            grad_by_head.index_mut(index)[i] = grad.index(index)[place];
        }
        i += all;
    }
}

#[cube(launch)]
fn join_kernel(
    q: &Array<f32>,
    k: &Array<f32>,
    v: &Array<f32>,
    qkv: &mut Array<f32>,
    elements: usize,
    tokens: usize,
    #[comptime] heads: usize,
    #[comptime] d: usize,
) {
    let all = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut i = ABSOLUTE_POS;
    while i < elements {
        let place = place_of(i, tokens, 3usize, heads, d);
        qkv[place] = q[i];
        qkv[place + heads * d] = k[i];
        qkv[place + 2 * heads * d] = v[i];
        i += all;
    }
}

/// The scaled and biased scores of a row, less the greatest of them, as powers of e in `values`, of which each
/// unit has its own; gives the sum of all.
#[cube]
fn softmax_row(
    scores: &Array<f32>,
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
            let mut value = scores[row * width + column] * scale;
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
fn softmax_kernel(
    scores: &Array<f32>,
    bias: &Sequence<Array<f32>>,
    p: &mut Array<f32>,
    scale: f32,
    rows: usize,
    bias_rows: usize,
    #[comptime] split: RowSplit,
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
                p[row * width + column] = values[i] / sum;
            }
        }
        row += CUBE_COUNT_X as usize;
    }
}

#[cube(launch)]
fn softmax_backward_kernel(
    scores: &Array<f32>,
    bias: &Sequence<Array<f32>>,
    grad: &Array<f32>,
    p: &mut Array<f32>,
    s_grad: &mut Array<f32>,
    scale: f32,
    rows: usize,
    bias_rows: usize,
    #[comptime] split: RowSplit,
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
                slopes[i] = grad[start + column];
                along += values[i] * slopes[i];
            }
        }
        let along = cube_sum(along, &mut shared, units);
        #[unroll]
        for i in 0..held {
            let column = UNIT_POS_X as usize + i * units;
            if column < width {
                p[start + column] = values[i];
                s_grad[start + column] = (slopes[i] - along) * values[i] * scale;
            }
        }
        row += CUBE_COUNT_X as usize;
    }
}
