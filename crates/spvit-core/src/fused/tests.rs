//! Fused operations against the plain ones, differentiated by autodiff through every step.

use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::{Distribution, ElementConversion, Tensor, ops::FloatTensor};

use super::{FusedOps, Grid, plain, raw, wrap};

/// Largest difference relative to the largest reference value.
fn error<B: FusedOps, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> f32 {
    let scale: f32 = b.clone().abs().max().into_scalar().elem();
    let difference: f32 = (a - b).abs().max().into_scalar().elem();
    difference / scale.max(1e-6)
}

type Function<B> = fn(Vec<FloatTensor<B>>) -> FloatTensor<B>;

/// Compares values and the gradients of every input of two functions on random inputs.
fn compare<B: FusedOps>(
    name: &str,
    shapes: &[&[usize]],
    fused: Function<Autodiff<B>>,
    reference: Function<Autodiff<B>>,
) {
    let device = B::Device::default();
    let inputs: Vec<Tensor<Autodiff<B>, 1>> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| {
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> =
                (0..count).map(|n| 1.5 * ((n * n + 7 * n + 13 * i) as f32).sin()).collect();
            Tensor::<Autodiff<B>, 1>::from_floats(values.as_slice(), &device).require_grad()
        })
        .collect();
    let run = |function: Function<Autodiff<B>>| {
        let shaped = inputs.iter().zip(shapes).map(|(x, shape)| {
            <Autodiff<B> as burn::tensor::ops::FloatTensorOps<Autodiff<B>>>::float_reshape(
                raw(x.clone()),
                shape.to_vec().into(),
            )
        });
        let y = plain::flat::<Autodiff<B>>(function(shaped.collect()));
        // A weighted sum, so that the incoming gradient differs from place to place.
        let [count] = y.dims();
        let weights = Tensor::<Autodiff<B>, 1, burn::tensor::Int>::arange(0..count as i64, &device);
        let weights = (weights.float() * 0.37).sin();
        let grads = (y.clone() * weights).sum().backward();
        let grads: Vec<_> = inputs.iter().map(|x| x.grad(&grads).unwrap()).collect();
        (y.inner(), grads)
    };
    let (y, grads) = run(fused);
    let (y_reference, grads_reference) = run(reference);
    assert!(error(y, y_reference) < 2e-6, "{name}: values differ");
    for (i, (a, b)) in grads.into_iter().zip(grads_reference).enumerate() {
        let e = error(a, b);
        // The reference itself, differentiated step by step, is this inexact on ndarray.
        assert!(e < 1e-4, "{name}: gradient of input {i} is off by {e:e}");
    }
}

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
            compare::<B>($name, &$shapes, |$x| $fused, |$x| $plain)
        };
    }
    const GRID: Grid = Grid { height: 4, width: 5, kernel: 3 };
    const WIDE: Grid = Grid { height: 4, width: 5, kernel: 5 };
    check!(
        "gelu",
        [&[3, 7, 11][..]],
        |x| Autodiff::<B>::exact_gelu(x[0].clone()),
        plain::gelu::<Autodiff<B>>(x[0].clone())
    );
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
        "layer norm",
        [&[3, 7, 19][..], &[19], &[19]],
        |x| Autodiff::<B>::affine_layer_norm(x[0].clone(), x[1].clone(), x[2].clone(), 1e-6),
        plain::layer_norm::<Autodiff<B>>(x[0].clone(), x[1].clone(), x[2].clone(), 1e-6)
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
        "attention",
        [&[3, 7, 3 * 3 * 4][..]],
        |x| Autodiff::<B>::self_attention(x[0].clone(), 3).0,
        plain::self_attention::<Autodiff<B>>(x[0].clone(), 3).0
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
    check!(
        "tokens",
        [&[3, 4, 5][..], &[1, 1, 5], &[1, 5, 5]],
        |x| Autodiff::<B>::tokens(x[0].clone(), x[1].clone(), x[2].clone()),
        plain::tokens::<Autodiff<B>>(x[0].clone(), x[1].clone(), x[2].clone())
    );
    check!(
        "patch_rows of images that want a gradient",
        [&[2, 3, 6, 8][..]],
        |x| Autodiff::<B>::patch_rows(x[0].clone(), 2),
        plain::patch_rows::<Autodiff<B>>(x[0].clone(), 2)
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

fn wave<B: FusedOps, const D: usize>(shape: [usize; D], frequency: f64) -> Tensor<B, D> {
    let count = shape.iter().product::<usize>() as i64;
    let numbers =
        Tensor::<B, 1, burn::tensor::Int>::arange(0..count, &B::Device::default()).float();
    (numbers * frequency).sin().reshape(shape)
}

/// What only evaluation uses: the bottleneck for one image and several, maps of one band and of
/// many, every kernel, with a class token and without; and patches.
fn evaluation<B: FusedOps>() {
    let close = |name: &str, a: FloatTensor<B>, b: FloatTensor<B>| {
        let e = error::<B, 1>(plain::flat::<B>(a), plain::flat::<B>(b));
        assert!(e < 2e-6, "{name} is off by {e:e}");
    };
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
            close(
                &format!("bottleneck {batch}x{skipped}+{height}x{width}, kernel {kernel}"),
                B::bottleneck(x.clone(), weights.clone(), grid),
                plain::bottleneck::<B>(x, weights, grid),
            );
        }
    }
    let images = raw(wave::<B, 4>([2, 3, 6, 8], 0.4));
    close("patch_rows", B::patch_rows(images.clone(), 2), plain::patch_rows::<B>(images, 2));
}

/// The defaults that GPU backends run: the hand-written backward passes in plain operations.
#[test]
fn plain_backward_passes_equal_the_kernels() {
    let device = Default::default();
    let random = |shape: [usize; 3]| {
        Tensor::<Flex, 3>::random(shape, Distribution::Normal(0.0, 1.0), &device)
    };
    let close = |name: &str, a: FloatTensor<Flex>, b: FloatTensor<Flex>| {
        let e = error::<Flex, 1>(plain::flat::<Flex>(a), plain::flat::<Flex>(b));
        assert!(e < 1e-5, "{name} is off by {e:e}");
    };
    let grid = Grid { height: 3, width: 4, kernel: 3 };
    let (x, g) = (random([2, 12, 6]), random([2, 12, 6]));
    let weight: Tensor<Flex, 1> = random([1, 1, 6]).flatten(0, 2);
    close(
        "gelu",
        plain::gelu_backward::<Flex>(raw(x.clone()), raw(g.clone())),
        Flex::exact_gelu_backward(raw(x.clone()), raw(g.clone())),
    );
    let a = plain::layer_norm_backward::<Flex>(
        raw(x.clone()),
        raw(weight.clone()),
        raw(g.clone()),
        1e-6,
    );
    let b = Flex::affine_layer_norm_backward(raw(x.clone()), raw(weight), raw(g.clone()), 1e-6);
    close("layer norm, x", a.0, b.0);
    close("layer norm, weight", a.1, b.1);
    close("layer norm, bias", a.2, b.2);
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
    let qkv = random([2, 12, 18]);
    let (_, p) = Flex::self_attention(raw(qkv.clone()), 2);
    close(
        "attention",
        plain::self_attention_backward::<Flex>(raw(qkv.clone()), p.clone(), raw(g.clone()), 2),
        Flex::self_attention_backward(raw(qkv), p, raw(g.clone()), 2),
    );
    let bias: Tensor<Flex, 1> = random([1, 1, 6]).flatten(0, 2);
    let values = random([2, 12, 18]);
    close(
        "value_part",
        plain::value_part::<Flex>(raw(values.clone()), raw(bias.clone())),
        Flex::value_part(raw(values), raw(bias)),
    );
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
