use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, ops::FloatTensor};

use super::{CoefficientOps, plain};
use crate::fused::{
    FusedOps,
    plain::flat,
    raw,
    testing::{check, close, wave},
};

/// Coefficients get the inner products as gradients, and the tensor passes unchanged.
#[test]
fn coefficient_gradients_are_inner_products() {
    type A = Autodiff<Flex>;
    let device = Default::default();
    let x = Tensor::<A, 2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &device).require_grad();
    let c = Tensor::<A, 1>::from_floats([0.0, 1.0, 0.0, 1.0], &device).require_grad();
    let values = vec![
        Tensor::<A, 2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device),
        Tensor::<A, 2>::from_floats([[1.0, 1.0], [1.0, 1.0]], &device),
    ];
    let y = super::with_coefficient_grads(x.clone(), c.clone(), 1, values);
    assert_eq!(y.clone().into_data(), x.clone().into_data());
    let grads = y.square().sum().backward();
    let c_grad = c.grad(&grads).unwrap().into_data();
    assert_eq!(c_grad.to_vec::<f32>().unwrap(), [0.0, 10.0, 20.0, 0.0]);
    let x_grad: Tensor<Flex, 2> = x.grad(&grads).unwrap();
    assert_eq!(x_grad.into_data().to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0]);
}

fn plain_products_equal_the_kernel<B: FusedOps>() {
    let grad = raw(wave::<B, 2>([150, 130], 0.4));
    let values: Vec<_> = [0.3, 0.7].map(|f| raw(wave::<B, 2>([150, 130], f))).into();
    let earlier = || Some(raw(wave::<B, 1>([7], 0.5)));
    close::<B>(
        "inner products",
        plain::inner_products::<B>(grad.clone(), values.clone(), [2, 7], earlier()),
        B::inner_products(grad, values, [2, 7], earlier()),
    );
}

/// Rows and width of three layers.
const LAYERS: [[usize; 2]; 3] = [[2, 300], [37, 11], [5, 700]];

type Graph<B> = FloatTensor<Autodiff<B>>;

/// The layers' rows, which follow the gates of all, gated by this operation.
fn gated_layers<B: FusedOps>(
    gated: fn(Graph<B>, Graph<B>, usize) -> Graph<B>,
    x: Vec<Graph<B>>,
) -> Graph<B> {
    let mut first = 0;
    let parts = x[1..].iter().zip(LAYERS).map(|(w, [rows, _])| {
        first += rows;
        flat::<Autodiff<B>>(gated(w.clone(), x[0].clone(), first - rows))
    });
    raw(Tensor::cat(parts.collect(), 0))
}

/// Three layers' gates among those of all.
fn gated_rows_equal_products<B: FusedOps>() {
    let all: &[usize] = &[44];
    let shapes: Vec<_> = std::iter::once(all).chain(LAYERS.iter().map(|s| &s[..])).collect();
    check::<B>(
        "gated rows",
        &shapes,
        |x| gated_layers::<B>(Autodiff::<B>::gated_rows, x),
        |x| gated_layers::<B>(plain::gated_rows::<Autodiff<B>>, x),
    );
    let [w, grad] = [0.4, 0.7].map(|f| raw(wave::<B, 2>([37, 11], f)));
    let gates = raw(wave::<B, 1>([44], 0.3));
    for earlier in [None, Some(raw(wave::<B, 1>([44], 0.5)))] {
        let inputs = || (w.clone(), gates.clone(), grad.clone(), earlier.clone());
        let (w, g, grad, before) = inputs();
        let expected = plain::gated_rows_backward::<B>(w, g, grad, before, 3);
        let (w, g, grad, before) = inputs();
        for (a, b) in expected.into_iter().zip(B::gated_rows_backward(w, g, grad, before, 3)) {
            close::<B>("gated rows' gradients", a, b);
        }
    }
}

#[test]
fn gated_rows_equal_products_on_flex() {
    gated_rows_equal_products::<Flex>();
}

fn squared_norms_add_up<B: FusedOps>() {
    // More than a kernel takes, and one of more than a part.
    let vectors =
        |n: usize| wave::<B, 1>([if n == 3 { 5000 } else { 1 + n }], 0.3 + 0.01 * n as f64);
    let sum = |x: Tensor<B, 1>| x.into_data().iter::<f64>().sum::<f64>();
    let all = sum(super::squared_norms((0..100).map(vectors).collect()));
    let each: f64 = (0..100).map(|n| sum(vectors(n).square())).sum();
    assert!((all / each - 1.0).abs() < 1e-5, "{all}, not {each}");
}

#[test]
fn squared_norms_add_up_on_flex() {
    squared_norms_add_up::<Flex>();
}

#[test]
fn plain_products_equal_the_kernel_on_flex() {
    plain_products_equal_the_kernel::<Flex>();
}

#[cfg(feature = "wgpu")]
#[test]
fn kernels_equal_plain_operations_on_wgpu() {
    crate::fused::testing::by_every_compiler(|| {
        plain_products_equal_the_kernel::<burn::backend::Wgpu>();
        squared_norms_add_up::<burn::backend::Wgpu>();
        gated_rows_equal_products::<burn::backend::Wgpu>();
    });
}
