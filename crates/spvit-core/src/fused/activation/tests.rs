use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::Tensor;

use super::{Activation, ActivationOps, plain};
use crate::fused::{
    FusedOps, raw,
    testing::{check, close, wave},
};

const ALL: [Activation; 6] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Silu,
    Activation::Tanh,
];

fn fused_equals_plain<B: FusedOps>() {
    for activation in ALL {
        check::<B>(
            &format!("{activation:?}"),
            &[&[3, 7, 11]],
            |x| Autodiff::<B>::activate(x[0].clone(), activation),
            |x| plain::activate::<Autodiff<B>>(x[0].clone(), activation),
        );
        let (x, g) = (wave::<B, 2>([40, 40], 0.11) * 9.0, wave::<B, 2>([40, 40], 0.7));
        close::<B>(
            &format!("{activation:?}, plain backward"),
            plain::activate_backward::<B>(raw(x.clone()), raw(g.clone()), activation),
            B::activate_backward(raw(x), raw(g), activation),
        );
    }
}

#[test]
fn fused_equals_plain_on_flex() {
    fused_equals_plain::<Flex>();
}

#[test]
fn fused_equals_plain_on_ndarray() {
    fused_equals_plain::<NdArray>();
}

/// Values of the definitions in double precision, at their ends too.
#[test]
fn activations_are_what_they_say() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for activation in ALL {
        for x in [-200.0, -30.0, -3.5, -0.7, 0.0, 0.3, 2.9, 30.0, 200.0] {
            let expected = match activation {
                Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
                Activation::GeluTanh => {
                    let u = std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044715 * x * x * x);
                    0.5 * x * (1.0 + u.tanh())
                }
                Activation::QuickGelu => x * sigmoid(1.702 * x),
                Activation::Relu => x.max(0.0),
                Activation::Tanh => x.tanh(),
                Activation::Silu => x * sigmoid(x),
            };
            let input = Tensor::<Flex, 1>::from_floats([x as f32], &Default::default());
            let y = f64::from(super::activate(input, activation).into_scalar());
            assert!((y - expected).abs() < 2e-6 * x.abs().max(1.0), "{activation:?}({x}) = {y}");
        }
    }
}
