//! Gates: sampled and expected, both with straight-through gradients, and the single path.

use burn::tensor::{Tensor, TensorData, activation::sigmoid, backend::Backend};

use crate::fused::{FusedOps, raw, wrap};

/// Gate probabilities `p = σ(θ)` of thresholds `θ`, of the same shape.
pub fn probability<B: Backend>(theta: Tensor<B, 1>) -> Tensor<B, 1> {
    sigmoid(theta)
}

/// Sampled gates of a training step (Eq. 1).
///
/// `l = log u - log(1 - u) + log p - log(1 - p)`, `b = 1[l > 0]` in the forward pass, and
/// `db/dl = s(1 - s)` with `s = σ(l)` (temperature 1) in the backward pass.
///
/// # Shapes
/// - theta: `[n]`, uniform: `[n]` with values in `(0, 1)`, output: `[n]` of 0 and 1.
pub fn sample<B: FusedOps>(theta: Tensor<B, 1>, uniform: Tensor<B, 1>) -> Tensor<B, 1> {
    wrap(B::sampled_gates(raw(theta), raw(uniform)))
}

/// Deterministic gates of evaluation (Eq. 1): `b = 1[σ(θ) > 0.5]`, strictly, so that θ = 0 is
/// closed.
///
/// # Shapes
/// - theta: `[n]`, output: `[n]` of 0 and 1, without a gradient.
pub fn deterministic<B: Backend>(theta: Tensor<B, 1>) -> Tensor<B, 1> {
    probability(theta.detach()).greater_elem(0.5).float()
}

/// Expected gates, which only the cost sees (Eq. 12).
///
/// `e = 1[p > 0.5]` in the forward pass and `de/dθ = q(1 - q)·p(1 - p)` with `q = σ(p - 0.5)` in
/// the backward pass.
///
/// # Shapes
/// - theta: `[n]`, output: `[n]` of 0 and 1.
pub fn expected<B: FusedOps>(theta: Tensor<B, 1>) -> Tensor<B, 1> {
    wrap(B::expected_gates(raw(theta)))
}

/// The single path: own gates to cumulative gates `g_i = b_0·b_1·…·b_i` (Eq. 2), so that a
/// costlier operation needs every cheaper gate open.
///
/// # Shapes
/// - own: `[layers, operations]`, cheapest operation first; output: the same.
pub fn single_path<B: FusedOps>(own: Tensor<B, 2>) -> Tensor<B, 2> {
    wrap(B::single_path(raw(own)))
}

/// Coefficients of the operations in the output of a UMSA layer (Eq. 3):
/// `c_i = g_i·Π_{j>i}(1 - g_j)` with the cumulative gates `g` of [`single_path`].
///
/// As the gates' hard values are known, so are the coefficients and their derivatives, -1, 0 or 1, which are
/// laid over the gates at once.
///
/// # Shapes
/// - own: `[layers, operations]`, open: `layers·operations`, whether each of `own` is 1 or 0; output: as own.
pub fn coefficients<B: Backend>(own: Tensor<B, 2>, open: &[bool]) -> Tensor<B, 2> {
    let ([layers, operations], device) = (own.dims(), own.device());
    let every = |of: fn(&[bool], usize, usize) -> i32, gates: usize| -> Vec<f32> {
        let layer = |own: &[bool]| {
            let pairs = (0..operations).flat_map(|op| (0..gates).map(move |gate| (op, gate)));
            pairs.map(|(op, gate)| of(own, op, gate) as f32).collect::<Vec<_>>()
        };
        open.chunks(operations.max(1)).flat_map(layer).collect()
    };
    let value = |own: &[bool], op: usize, _| i32::from(Plan::new(own).open == Some(op));
    let values = TensorData::new(every(value, 1), [layers, operations]);
    let slopes = TensorData::new(every(derivative, operations), [layers, operations, operations]);
    let soft = own.clone() - own.detach();
    // Not a matrix product, whose factors a device may round.
    let along = soft.unsqueeze_dim::<3>(1) * Tensor::from_data(slopes, &device);
    Tensor::from_data(values, &device) + along.sum_dim(2).squeeze_dim::<2>(2)
}

/// What a step has to compute in a UMSA layer, given the hard values of its own gates ("One
/// branch" of `docs/method.md`).
///
/// With hard gates exactly one operation is open (or none), and the others' values matter only
/// where a gate's gradient needs them: where the coefficient has a derivative other than 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Index of the open operation, cheapest first; `None` is the shortcut.
    pub open: Option<usize>,
    /// Operations whose value some gate's gradient needs (the open one may be among them).
    pub values: Vec<usize>,
}

impl Plan {
    /// The plan for one layer's own gates, cheapest operation first.
    pub fn new(own: &[bool]) -> Self {
        let open = own.iter().take_while(|&&gate| gate).count().checked_sub(1);
        let values = (0..own.len())
            .filter(|&op| (0..own.len()).any(|gate| derivative(own, op, gate) != 0))
            .collect();
        Self { open, values }
    }
}

/// Derivative of an operation's coefficient (Eq. 3) for one own gate, at hard gates.
fn derivative(own: &[bool], op: usize, gate: usize) -> i32 {
    // A cumulative gate and its derivative, as 0 or 1.
    let product =
        |i: usize, skip: Option<usize>| i32::from((0..=i).all(|n| own[n] || Some(n) == skip));
    let factors: Vec<(i32, i32)> = (op..own.len())
        .map(|i| {
            let slope = if gate <= i { product(i, Some(gate)) } else { 0 };
            match i == op {
                true => (product(i, None), slope),
                false => (1 - product(i, None), -slope),
            }
        })
        .collect();
    let others = |skip: usize| -> i32 {
        factors
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != skip)
            .map(|(_, (value, _))| value)
            .product()
    };
    factors.iter().enumerate().map(|(i, (_, slope))| slope * others(i)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The table under "One branch" of docs/method.md, for operations C1 < C3 < M.
    #[test]
    fn plan_matches_the_table_of_the_method() {
        let plan = |bits: [u8; 3]| {
            let plan = Plan::new(&bits.map(|b| b == 1));
            (plan.open, plan.values)
        };
        assert_eq!(plan([1, 1, 1]), (Some(2), vec![1, 2]));
        assert_eq!(plan([1, 1, 0]), (Some(1), vec![0, 1, 2]));
        assert_eq!(plan([1, 0, 0]), (Some(0), vec![0, 1]));
        assert_eq!(plan([1, 0, 1]), (Some(0), vec![0, 1, 2]));
        assert_eq!(plan([0, 0, 0]), (None, vec![0]));
        assert_eq!(plan([0, 1, 0]), (None, vec![0, 1]));
        assert_eq!(plan([0, 1, 1]), (None, vec![0, 1, 2]));
        assert_eq!(plan([0, 0, 1]), (None, vec![0]));
    }
}
