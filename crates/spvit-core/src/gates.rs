//! Gates: sampled and expected, both with straight-through gradients, and the single path.

use burn::tensor::{Tensor, TensorData, activation::sigmoid, backend::Backend};

/// Uniform draws and probabilities are kept this far from 0 and 1 before their logarithm is taken.
const EPSILON: f32 = f32::EPSILON;

/// A hard value with the gradient of a soft one.
///
/// The soft part enters as `soft - soft`, which is exactly zero, so that the result is exactly
/// `hard` and no rounding turns a gate of 1 into 0.99999994.
fn straight_through<B: Backend>(hard: Tensor<B, 1>, soft: Tensor<B, 1>) -> Tensor<B, 1> {
    hard.detach() + (soft.clone() - soft.detach())
}

/// Gate probabilities `p = σ(θ)` of thresholds `θ`, of the same shape.
pub fn probability<B: Backend>(theta: Tensor<B, 1>) -> Tensor<B, 1> {
    sigmoid(theta)
}

/// Sampled gates of a training step (Eq. 1).
///
/// `l = log u - log(1 - u) + log p - log(1 - p)`, `b = 1[l > 0]` in the forward pass, and
/// `db/dl = s(1 - s)` with `s = σ(l)` (temperature 1) in the backward pass.
///
/// As `p = σ(θ)`, its logarithms are θ itself, whose gradient needs no division: Burn's ndarray
/// backend divides by an approximate reciprocal (12 to 14 bits) in a backward pass.
///
/// # Shapes
/// - theta: `[n]`, uniform: `[n]` with values in `(0, 1)`, output: `[n]` of 0 and 1.
pub fn sample<B: Backend>(theta: Tensor<B, 1>, uniform: Tensor<B, 1>) -> Tensor<B, 1> {
    let u = uniform.clamp(EPSILON, 1.0 - EPSILON);
    let drawn = u.clone().log() - (-u + 1.0).log();
    // Keeping p within ε of 0 and 1 keeps θ within this.
    let largest = f64::from(((1.0 - EPSILON) / EPSILON).ln());
    let l = drawn + theta.clamp(-largest, largest);
    let hard = l.clone().detach().greater_elem(0.0).float();
    straight_through(hard, sigmoid(l))
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
pub fn expected<B: Backend>(theta: Tensor<B, 1>) -> Tensor<B, 1> {
    let p = probability(theta);
    let hard = p.clone().detach().greater_elem(0.5).float();
    straight_through(hard, sigmoid(p - 0.5))
}

/// The single path: own gates to cumulative gates `g_i = b_0·b_1·…·b_i` (Eq. 2), so that a
/// costlier operation needs every cheaper gate open.
///
/// # Shapes
/// - own: `[layers, operations]`, cheapest operation first; output: the same.
pub fn single_path<B: Backend>(own: Tensor<B, 2>) -> Tensor<B, 2> {
    let operations = own.dims()[1];
    let mut product: Option<Tensor<B, 2>> = None;
    let mut gates = Vec::with_capacity(operations);
    for i in 0..operations {
        let gate = own.clone().narrow(1, i, 1);
        let next = match product {
            Some(before) => before * gate,
            None => gate,
        };
        gates.push(next.clone());
        product = Some(next);
    }
    Tensor::cat(gates, 1)
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
