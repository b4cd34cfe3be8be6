//! Fused operations against the plain ones, differentiated by autodiff through every step.

use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::{Distribution, Tensor, ops::FloatTensor};

use super::{
    FusedOps, Grid, plain, raw,
    testing::{check, close, wave},
    wrap,
};

/// The second to fourth input.
fn norm_parameters<B: FusedOps>(x: &[FloatTensor<B>]) -> super::NormParameters<B> {
    let [offset, weight, bias] = [1, 2, 3].map(|i| x[i].clone());
    super::NormParameters { offset, weight, bias }
}

/// A batch norm's output with the values of its statistics, which are outside the graph, and the
/// offset added: its own gradient is 0, and all but rounding should be seen.
fn seen<B: FusedOps>(
    [y, mean, variance]: [FloatTensor<B>; 3],
    offset: &FloatTensor<B>,
) -> FloatTensor<B> {
    let [mean, variance, offset] = [mean, variance, offset.clone()].map(wrap::<B, 1>);
    raw(wrap::<B, 3>(y) + (mean.detach() - variance.detach() + offset).unsqueeze())
}

fn operations<B: FusedOps>() {
    macro_rules! check {
        ($name:literal, $shapes:expr, |$x:ident| $fused:expr, $plain:expr) => {
            check::<B>($name, &$shapes, |$x| $fused, |$x| $plain)
        };
    }
    const GRID: Grid = Grid { height: 4, width: 5, kernel: 3 };
    const WIDE: Grid = Grid { height: 4, width: 5, kernel: 5 };
    check!(
        "affine",
        [&[3, 7, 11][..], &[11, 5], &[5]],
        |x| Autodiff::<B>::affine(x[0].clone(), x[1].clone(), Some(x[2].clone())),
        plain::affine::<Autodiff<B>>(x[0].clone(), x[1].clone(), Some(x[2].clone()))
    );
    check!(
        "affine without bias",
        [&[3, 7, 11][..], &[11, 5]],
        |x| Autodiff::<B>::affine(x[0].clone(), x[1].clone(), None),
        plain::affine::<Autodiff<B>>(x[0].clone(), x[1].clone(), None)
    );
    check!(
        "sum",
        [&[3, 7, 19][..], &[3, 7, 19]],
        |x| Autodiff::<B>::sum(x[0].clone(), x[1].clone()),
        raw(wrap::<Autodiff<B>, 3>(x[0].clone()) + wrap(x[1].clone()))
    );
    check!(
        "batch norm",
        [&[3, 7, 19][..], &[19], &[19], &[19]],
        |x| seen::<Autodiff<B>>(
            Autodiff::<B>::batch_norm(x[0].clone(), norm_parameters(&x), 1e-5),
            &x[1]
        ),
        seen::<Autodiff<B>>(
            plain::batch_norm::<Autodiff<B>>(x[0].clone(), norm_parameters(&x), 1e-5),
            &x[1]
        )
    );
    check!(
        "mix_shift 3x3",
        [&[2, 20, 3 * 4][..], &[3, 9]],
        |x| Autodiff::<B>::mix_shift(x[0].clone(), x[1].clone(), GRID),
        plain::mix_shift::<Autodiff<B>>(x[0].clone(), x[1].clone(), GRID)
    );
    check!(
        "mix_shift 5x5",
        [&[2, 20, 3 * 4][..], &[3, 25]],
        |x| Autodiff::<B>::mix_shift(x[0].clone(), x[1].clone(), WIDE),
        plain::mix_shift::<Autodiff<B>>(x[0].clone(), x[1].clone(), WIDE)
    );
    check!(
        "mix_shift 3x3 after a class token",
        [&[2, 21, 3 * 4][..], &[3, 9]],
        |x| Autodiff::<B>::mix_shift(x[0].clone(), x[1].clone(), GRID),
        plain::mix_shift::<Autodiff<B>>(x[0].clone(), x[1].clone(), GRID)
    );
    check!(
        "shift_sum",
        [&[2, 20, 9 * 4][..]],
        |x| Autodiff::<B>::shift_sum(x[0].clone(), GRID),
        plain::shift_sum::<Autodiff<B>>(x[0].clone(), GRID)
    );
    check!(
        "shift_sum after a class token",
        [&[2, 21, 9 * 4][..]],
        |x| Autodiff::<B>::shift_sum(x[0].clone(), GRID),
        plain::shift_sum::<Autodiff<B>>(x[0].clone(), GRID)
    );
}

#[test]
fn fused_equals_plain_on_flex() {
    operations::<Flex>();
    evaluation::<Flex>();
}

#[test]
fn fused_equals_plain_on_ndarray() {
    operations::<NdArray>();
    evaluation::<NdArray>();
}

/// What only evaluation uses: the bottleneck for one image and several, maps of one band and of
/// many, every kernel, with a class token and without.
fn evaluation<B: FusedOps>() {
    let (d, dim) = (16, 24);
    for (batch, skipped) in [(1, 1), (3, 0), (2, 1)] {
        for (kernel, [height, width]) in
            [(1, [4, 5]), (3, [4, 5]), (3, [5, 4]), (5, [7, 3]), (3, [30, 60])]
        {
            let grid = Grid { height, width, kernel };
            let x = raw(wave::<B, 3>([batch, skipped + grid.tokens(), dim], 0.9));
            let weights = super::Bottleneck::<B> {
                kernel: raw(wave::<B, 4>([d, dim, kernel, kernel], 0.7)),
                scale: raw(wave::<B, 1>([d], 1.1)),
                shift: raw(wave::<B, 1>([d], 0.3)),
                w: raw(wave::<B, 2>([d, dim], 0.5)),
                b: raw(wave::<B, 1>([dim], 0.2)),
            };
            close::<B>(
                &format!("bottleneck {batch}x{skipped}+{height}x{width}, kernel {kernel}"),
                B::bottleneck(x.clone(), weights.clone(), grid),
                plain::bottleneck::<B>(x, weights, grid),
            );
        }
    }
}

/// The defaults that GPU backends run: the hand-written backward passes in plain operations.
#[test]
fn plain_backward_passes_equal_the_kernels() {
    let device = Default::default();
    let random = |shape: [usize; 3]| {
        Tensor::<Flex, 3>::random(shape, Distribution::Normal(0.0, 1.0), &device)
    };
    let close = close::<Flex>;
    let grid = Grid { height: 3, width: 4, kernel: 3 };
    let (x, g) = (random([2, 12, 6]), random([2, 12, 6]));
    let vector = || raw(random([1, 1, 6]).flatten::<1>(0, 2));
    let parameters =
        super::NormParameters::<Flex> { offset: vector(), weight: vector(), bias: vector() };
    let [_, mean, variance] = Flex::batch_norm(raw(x.clone()), parameters.clone(), 1e-5);
    let gradients = |backward: fn(_, _, _, _, _) -> [FloatTensor<Flex>; 4]| {
        let statistics = [mean.clone(), variance.clone()];
        backward(raw(x.clone()), parameters.clone(), statistics, raw(g.clone()), 1e-5)
    };
    let [a, b] = [plain::batch_norm_backward::<Flex>, Flex::batch_norm_backward].map(gradients);
    // The second, of the offset, is rounding alone.
    for i in [0, 2, 3] {
        close(&format!("batch norm, {i}"), a[i].clone(), b[i].clone());
    }
    let p: Tensor<Flex, 2> = random([1, 2, 9]).squeeze_dim(0);
    let g: Tensor<Flex, 3> = g.narrow(2, 0, 3);
    let a = plain::mix_shift_backward::<Flex>(raw(x.clone()), raw(p.clone()), raw(g.clone()), grid);
    let b = Flex::mix_shift_backward(raw(x), raw(p), raw(g.clone()), grid);
    close("mix_shift, v", a.0, b.0);
    close("mix_shift, p", a.1, b.1);
    close(
        "shift_sum",
        plain::shift_sum_backward::<Flex>(raw(g.clone()), 1, grid),
        Flex::shift_sum_backward(raw(g), 1, grid),
    );
}

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

/// The update by the kernel, by plain operations, and PyTorch's own figures for one parameter:
/// p = 1, g = 0.5, lr = 0.1, decay 0.05 gives 1·(1 - 0.005) - 0.1 after the first step.
#[test]
fn adamw_updates_agree() {
    let device = Default::default();
    let step = |count| super::AdamWStep {
        learning_rate: 0.1,
        weight_decay: 0.05,
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        count,
    };
    let one = |x: f32| Tensor::<Flex, 1>::from_floats([x], &device);
    let [p, m, v] = super::adamw_update([one(1.0), one(0.0), one(0.0), one(0.5)], step(1));
    assert!((p.clone().into_scalar() - 0.895).abs() < 1e-6);
    let inputs = [p, m, v, one(-0.25)];
    let plain =
        plain::adamw_update::<Flex>(inputs.clone().map(raw), step(2)).map(plain::flat::<Flex>);
    for (a, b) in super::adamw_update(inputs, step(2)).into_iter().zip(plain) {
        assert!((a.into_scalar() - b.into_scalar()).abs() < 1e-7);
    }
}
