use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::ops::FloatTensor;

use super::{BatchNormOps, NormParameters, plain};
use crate::fused::{
    FusedOps, raw,
    testing::{check, close, wave},
    wrap,
};

/// The second to fourth input.
fn parameters<B: FusedOps>(x: &[FloatTensor<B>]) -> NormParameters<B> {
    let [offset, weight, bias] = [1, 2, 3].map(|i| x[i].clone());
    NormParameters { offset, weight, bias }
}

/// A batch norm's output with the values of its statistics, which are outside the graph, and the
/// offset added: its own gradient is 0, and all but rounding should be seen.
fn seen<B: FusedOps>(
    [y, mean, variance, unbiased]: [FloatTensor<B>; 4],
    offset: &FloatTensor<B>,
) -> FloatTensor<B> {
    let offset = wrap::<B, 1>(offset.clone());
    let [mean, variance, unbiased] =
        [mean, variance, unbiased].map(|values| wrap::<B, 1>(values).detach());
    raw(wrap::<B, 3>(y) + (mean - variance + unbiased * 2.0 + offset).unsqueeze())
}

fn fused_equals_plain<B: FusedOps>() {
    // The second has more rows and columns than one cube of a GPU's kernels takes.
    for shape in [[3, 7, 19], [5, 41, 45]] {
        let vector = &shape[2..];
        check::<B>(
            &format!("batch norm, {shape:?}"),
            &[&shape, vector, vector, vector],
            |x| {
                seen::<Autodiff<B>>(
                    Autodiff::<B>::batch_norm_relu(x[0].clone(), parameters(&x), 1e-5),
                    &x[1],
                )
            },
            |x| {
                let outputs =
                    plain::batch_norm_relu::<Autodiff<B>>(x[0].clone(), parameters(&x), 1e-5);
                seen::<Autodiff<B>>(outputs, &x[1])
            },
        );
    }
    let (x, grad) = (raw(wave::<B, 3>([2, 12, 6], 0.4)), raw(wave::<B, 3>([2, 12, 6], 0.7)));
    let [offset, weight, bias] = [0.9, 0.3, 0.2].map(|f| raw(wave::<B, 1>([6], f)));
    let parameters = NormParameters::<B> { offset, weight, bias };
    let [y, mean, variance, _] = B::batch_norm_relu(x.clone(), parameters.clone(), 1e-5);
    let gradients = |backward: fn(_, _, _, _, _) -> [FloatTensor<B>; 4]| {
        let outputs = [y.clone(), mean.clone(), variance.clone()];
        backward(x.clone(), parameters.clone(), outputs, grad.clone(), 1e-5)
    };
    let [a, b] = [plain::batch_norm_relu_backward::<B>, B::batch_norm_relu_backward].map(gradients);
    // The second, of the offset, is rounding alone.
    for i in [0, 2, 3] {
        close::<B>(&format!("plain backward, {i}"), a[i].clone(), b[i].clone());
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

#[cfg(feature = "wgpu")]
#[test]
fn fused_equals_plain_on_wgpu() {
    crate::fused::testing::by_every_compiler(fused_equals_plain::<burn::backend::Wgpu>);
}
