//! Gates and head distributions by the formulas of Eqs. 1, 2, 3, 5 and 12, in float64.

use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, fused, gates};

macro_rules! on_both_backends {
    ($($name:ident),* $(,)?) => {
        mod flex {
            $(#[test] fn $name() { super::$name::<super::Flex>(); })*
        }
        mod ndarray {
            $(#[test] fn $name() { super::$name::<super::NdArray>(); })*
        }
    };
}

on_both_backends!(
    sampled_gates,
    sampled_gates_at_the_ends,
    expected_gates,
    a_threshold_of_zero_is_closed,
    coefficients_of_every_pattern,
    head_distribution,
);

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn logit(p: f64) -> f64 {
    p.ln() - (1.0 - p).ln()
}

/// Thresholds and draws over their ranges: 41 of the ones by 23 of the others.
fn grid() -> Vec<(f64, f64)> {
    let thetas = (-20..=20).map(|i| f64::from(i) * 0.31);
    thetas.flat_map(|theta| (1..24).map(move |j| (theta, f64::from(j) / 24.0))).collect()
}

fn upload<B: Backend>(values: impl IntoIterator<Item = f64>) -> Tensor<B, 1> {
    let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
    Tensor::from_floats(values.as_slice(), &B::Device::default())
}

fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Values and gradients of gates, whose n-th one receives the gradient n mod 5 - 1.
fn gates_and_gradients<B: FusedOps>(
    thetas: &[f64],
    gates: impl Fn(Tensor<Autodiff<B>, 1>) -> Tensor<Autodiff<B>, 1>,
) -> (Vec<f64>, Vec<f64>) {
    let theta = upload::<Autodiff<B>>(thetas.iter().copied()).require_grad();
    let out = gates(theta.clone());
    let incoming = upload(incoming(thetas.len()));
    let grads = (out.clone() * incoming).sum().backward();
    (host(out), host(theta.grad(&grads).unwrap()))
}

fn incoming(count: usize) -> Vec<f64> {
    (0..count).map(|n| (n % 5) as f64 - 1.0).collect()
}

/// Each within 1e-5 of the largest expected one.
#[track_caller]
fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 1e-5 * scale, "{n}: {found} for {expected}");
    }
}

fn sampled_gates<B: FusedOps>() {
    let grid = grid();
    let (thetas, draws): (Vec<f64>, Vec<f64>) = grid.iter().copied().unzip();
    let (found, gradients) =
        gates_and_gradients::<B>(&thetas, |theta| gates::sample(theta, upload(draws.clone())));

    // Eq. 1, with the probability and its logarithms as written.
    let l = |&(theta, u): &(f64, f64)| logit(u) + logit(sigmoid(theta));
    for (found, at) in found.iter().zip(&grid) {
        // Where rounding decides, either is right.
        if l(at).abs() > 1e-5 {
            assert_eq!(*found, f64::from(u8::from(l(at) > 0.0)), "θ, u = {at:?}");
        }
    }
    assert!(found.contains(&0.0) && found.contains(&1.0));
    // dl/dθ = 1, as p(1 - p)·(1/p + 1/(1 - p)) = 1.
    let slope = |at| sigmoid(l(at)) * (1.0 - sigmoid(l(at)));
    let expected: Vec<f64> =
        grid.iter().map(slope).zip(incoming(grid.len())).map(|(a, b)| a * b).collect();
    close(&gradients, &expected);
}

/// Draws and probabilities of 0 and 1 are kept ε away from them, so that no gate is NaN. Where the
/// probability is held, its gradient is 0.
fn sampled_gates_at_the_ends<B: FusedOps>() {
    let cases = [
        (0.0, 0.0, 0.0),
        (0.0, 1.0, 1.0),
        (40.0, 0.5, 1.0),
        (-40.0, 0.5, 0.0),
        (40.0, 1e-6, 1.0),
        (-40.0, 1.0 - 1e-6, 0.0),
    ];
    let (found, gradients) = gates_and_gradients::<B>(&cases.map(|case| case.0), |theta| {
        gates::sample(theta, upload(cases.map(|case| case.1)))
    });
    assert_eq!(found, cases.map(|case| case.2));
    assert!(gradients.iter().all(|gradient| gradient.is_finite()), "{gradients:?}");
    assert_eq!(gradients[2..], [0.0; 4]);
}

fn expected_gates<B: FusedOps>() {
    let thetas: Vec<f64> = (-60..=60).map(|i| f64::from(i) * 0.1).collect();
    let (found, gradients) = gates_and_gradients::<B>(&thetas, gates::expected);
    // Eq. 12.
    let hard: Vec<f64> = thetas.iter().map(|&t| f64::from(u8::from(t > 0.0))).collect();
    assert_eq!(found, hard);
    let slope = |&theta: &f64| {
        let p = sigmoid(theta);
        let q = sigmoid(p - 0.5);
        q * (1.0 - q) * p * (1.0 - p)
    };
    let expected: Vec<f64> =
        thetas.iter().map(slope).zip(incoming(thetas.len())).map(|(a, b)| a * b).collect();
    close(&gradients, &expected);
}

fn a_threshold_of_zero_is_closed<B: FusedOps>() {
    let thetas = || upload::<B>([-1e-3, 0.0, 1e-3]);
    assert_eq!(host(gates::deterministic(thetas())), [0.0, 0.0, 1.0]);
    assert_eq!(host(gates::expected(thetas())), [0.0, 0.0, 1.0]);
}

/// Eqs. 2 and 3.
fn coefficients(own: &[f64]) -> Vec<f64> {
    let cumulative: Vec<f64> = (0..own.len()).map(|i| own[..=i].iter().product()).collect();
    let closed = |i: usize| cumulative[i + 1..].iter().map(|g| 1.0 - g).product::<f64>();
    (0..own.len()).map(|i| cumulative[i] * closed(i)).collect()
}

/// The coefficients of every pattern of up to five gates, their derivatives, and the plan: it
/// needs the value of an operation exactly where its coefficient has a derivative.
fn coefficients_of_every_pattern<B: FusedOps>() {
    for operations in 1..=5 {
        for pattern in 0..1u32 << operations {
            let bits: Vec<bool> = (0..operations).map(|i| pattern >> i & 1 == 1).collect();
            let own: Vec<f64> = bits.iter().map(|&bit| f64::from(u8::from(bit))).collect();
            let tensor = upload::<Autodiff<B>>(own.iter().copied()).require_grad();
            let rows = || tensor.clone().reshape([1, operations]);
            assert_eq!(host(gates::coefficients(rows(), &bits)), coefficients(&own), "{bits:?}");
            let cumulative: Vec<f64> =
                (0..operations).map(|i| own[..=i].iter().product()).collect();
            assert_eq!(host(gates::single_path(rows())), cumulative, "{bits:?}");

            let mut needed = Vec::new();
            for op in 0..operations {
                let grads = gates::coefficients(rows(), &bits).narrow(1, op, 1).sum().backward();
                let gradient = tensor.grad(&grads).map_or(vec![0.0; operations], host);
                for (gate, gradient) in gradient.iter().enumerate() {
                    // The coefficients are polynomials of the gates.
                    let at = |shift: f64| {
                        let mut own = own.clone();
                        own[gate] += shift;
                        coefficients(&own)[op]
                    };
                    let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                    assert!((gradient - slope).abs() < 1e-6, "{bits:?}: dc{op}/db{gate}");
                }
                if gradient.iter().any(|&gradient| gradient != 0.0) {
                    needed.push(op);
                }
            }
            let plan = gates::Plan::new(&bits);
            assert_eq!(plan.values, needed, "{bits:?}");
            let (first, count) = (needed[0], needed.len());
            assert!(needed.into_iter().eq(first..first + count), "{bits:?}: one after another");
            assert_eq!(plan.open, coefficients(&own).iter().position(|&c| c == 1.0), "{bits:?}");
        }
    }
}

/// Eq. 5 and its gradient, for as many columns as a kernel of side 7 has: Burn's backends take
/// other paths from 32 values on.
fn head_distribution<B: FusedOps>() {
    const HEADS: usize = 3;
    const COLUMNS: usize = 49;
    const ALPHA: f64 = 0.01;
    let values: Vec<f64> =
        (0..HEADS * COLUMNS).map(|n| 0.02 * ((n * n + 3 * n) as f64).sin()).collect();
    let z = upload::<Autodiff<B>>(values.iter().copied()).require_grad();
    let p = fused::head_distribution(z.clone().reshape([HEADS, COLUMNS]), ALPHA);
    let weights = incoming(HEADS * COLUMNS);
    let weight = upload(weights.iter().copied()).reshape([HEADS, COLUMNS]);
    let grads = (p.clone() * weight).sum().backward();

    let at = |h: usize, k: usize| h * COLUMNS + k;
    let mut expected = vec![0.0; HEADS * COLUMNS];
    let mut slopes = expected.clone();
    for k in 0..COLUMNS {
        let e: Vec<f64> =
            (0..HEADS).map(|h| (f64::from(values[at(h, k)] as f32) / ALPHA).exp()).collect();
        let sum: f64 = e.iter().sum();
        let mean: f64 = (0..HEADS).map(|h| e[h] / sum * weights[at(h, k)]).sum();
        for h in 0..HEADS {
            expected[at(h, k)] = e[h] / sum;
            slopes[at(h, k)] = e[h] / sum * (weights[at(h, k)] - mean) / ALPHA;
        }
    }
    close(&host(p), &expected);
    close(&host(z.grad(&grads).unwrap()), &slopes);
}
