use burn::backend::{Autodiff, Flex};
use burn::tensor::Tensor;

use super::{CoefficientOps, plain};
use crate::fused::{
    raw,
    testing::{close, wave},
};

/// Coefficients get the inner products as gradients, and the tensor passes unchanged.
#[test]
fn coefficient_gradients_are_inner_products() {
    type A = Autodiff<Flex>;
    let device = Default::default();
    let x = Tensor::<A, 2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &device).require_grad();
    let c = Tensor::<A, 1>::from_floats([1.0, 0.0], &device).require_grad();
    let values = vec![
        Tensor::<A, 2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device),
        Tensor::<A, 2>::from_floats([[1.0, 1.0], [1.0, 1.0]], &device),
    ];
    let y = super::with_coefficient_grads(x.clone(), c.clone(), values);
    assert_eq!(y.clone().into_data(), x.clone().into_data());
    let grads = y.square().sum().backward();
    let c_grad = c.grad(&grads).unwrap().into_data();
    assert_eq!(c_grad.to_vec::<f32>().unwrap(), [10.0, 20.0]);
    let x_grad: Tensor<Flex, 2> = x.grad(&grads).unwrap();
    assert_eq!(x_grad.into_data().to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0]);
}

#[test]
fn plain_products_equal_the_kernel() {
    let grad = raw(wave::<Flex, 2>([150, 130], 0.4));
    let values: Vec<_> = [0.3, 0.7].map(|f| raw(wave::<Flex, 2>([150, 130], f))).into();
    close::<Flex>(
        "inner products",
        plain::inner_products::<Flex>(grad.clone(), values.clone()),
        Flex::inner_products(grad, values),
    );
}
