use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use half::{bf16, f16};

use super::Precision;
use super::PrecisionOps;
use crate::fused::{FusedOps, LinearOps, affine, raw, self_attention, testing::wave, wrap};

type Round = fn(f32) -> f32;

const LOW: [(Precision, Round); 2] = [
    (Precision::Bf16, |x| bf16::from_f32(x).to_f32()),
    (Precision::F16, |x| f16::from_f32(x).to_f32()),
];

fn values<B: Backend, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    x.into_data().to_vec().unwrap()
}

/// `a·b` of rounded factors: a `[m, k]`, b `[k, n]`, sums in float64.
fn product(a: &[f32], b: &[f32], [m, k, n]: [usize; 3], round: Round) -> Vec<f32> {
    let element = |i: usize| {
        let (row, column) = (i / n, i % n);
        let terms =
            (0..k).map(|j| f64::from(round(a[row * k + j])) * f64::from(round(b[j * n + column])));
        terms.sum::<f64>() as f32
    };
    (0..m * n).map(element).collect()
}

fn transposed(a: &[f32], [m, n]: [usize; 2]) -> Vec<f32> {
    (0..m * n).map(|i| a[i % m * n + i / m]).collect()
}

#[track_caller]
fn near(found: &[f32], expected: &[f32]) {
    close_to(found, expected, 2e-6);
}

#[track_caller]
fn close_to(found: &[f32], expected: &[f32], most: f32) {
    let scale = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < most * scale, "{a} and {b}");
    }
}

/// Products of rounded factors in both directions; biases, what is summed, and what comes out are float32.
fn products_have_rounded_factors<B: FusedOps>() {
    let [m, k, n] = [6, 11, 5];
    let [x, w, b] = [
        values(wave::<B, 1>([m * k], 0.7)),
        values(wave::<B, 1>([k * n], 0.3)),
        values(wave::<B, 1>([n], 0.9)),
    ];
    let device = Default::default();
    let leaf = |data: &[f32], shape: &[usize]| TensorData::new(data.to_vec(), shape.to_vec());
    for (precision, round) in LOW {
        let wanted = |data| Tensor::<Autodiff<B>, 2>::from_data(data, &device).require_grad();
        let (tx, tw) = (wanted(leaf(&x, &[m, k])), wanted(leaf(&w, &[k, n])));
        let tb = Tensor::<Autodiff<B>, 1>::from_data(leaf(&b, &[n]), &device).require_grad();
        let y = precision.within(|| affine(tx.clone(), tw.clone(), Some(tb.clone())));
        // The backward pass keeps to it outside, too.
        let g = wave::<B, 2>([m, n], 0.37);
        let grads = (y.clone() * Tensor::from_inner(g.clone())).sum().backward();
        let g = values(g);
        let mut expected = product(&x, &w, [m, k, n], round);
        expected.iter_mut().zip(b.iter().cycle()).for_each(|(y, b)| *y += b);
        near(&values(y.inner()), &expected);
        let dx = product(&g, &transposed(&w, [k, n]), [m, n, k], round);
        near(&values(tx.grad(&grads).unwrap()), &dx);
        let dw = product(&transposed(&x, [m, k]), &g, [k, m, n], round);
        near(&values(tw.grad(&grads).unwrap()), &dw);
        let db: Vec<f32> = (0..n).map(|j| (0..m).map(|i| g[i * n + j]).sum()).collect();
        near(&values(tb.grad(&grads).unwrap()), &db);
    }
    // Elsewhere nothing is rounded.
    let whole = |data| Tensor::<Autodiff<B>, 2>::from_data(data, &device);
    let y = affine(whole(leaf(&x, &[m, k])), whole(leaf(&w, &[k, n])), None);
    near(&values(y.inner()), &product(&x, &w, [m, k, n], |x| x));
}

#[test]
fn products_have_rounded_factors_on_flex() {
    products_have_rounded_factors::<Flex>();
}

#[test]
fn products_have_rounded_factors_on_ndarray() {
    products_have_rounded_factors::<NdArray>();
}

/// What GPUs run: tensors that are of the type, through the plain operations, and float32 again.
#[test]
fn tensors_of_the_type_give_such_products() {
    let [x, w] = [wave::<Flex, 2>([6, 11], 0.7), wave::<Flex, 2>([11, 5], 0.3)];
    for (precision, round) in LOW {
        let low = |x| super::plain::lowered::<Flex>(x, precision);
        let [own_x, own_w] = [low(raw(x.clone())), low(raw(w.clone()))];
        assert_eq!(Flex::float_dtype(&own_x), precision.dtype());
        let y = Flex::raised(Flex::affine(own_x, own_w, None));
        assert_eq!(Flex::float_dtype(&y), Precision::F32.dtype());
        let expected = product(&values(x.clone()), &values(w.clone()), [6, 11, 5], round);
        let most = if precision == Precision::Bf16 { 1e-2 } else { 1e-3 };
        close_to(&values(wrap::<Flex, 2>(y)), &expected, most);
    }
}

/// Values and gradients of attention are float32's but for the type's error, and are not float32's.
fn attention_is_as_exact_as_its_type<B: FusedOps>() {
    let device = Default::default();
    let run = |precision: Precision| {
        let qkv =
            Tensor::<Autodiff<B>, 3>::from_inner(wave::<B, 3>([2, 7, 24], 0.7)).require_grad();
        let bias =
            Tensor::<Autodiff<B>, 4>::from_inner(wave::<B, 4>([1, 2, 7, 7], 0.2)).require_grad();
        let y = precision.within(|| self_attention(qkv.clone(), 2, Some(bias.clone())));
        let weights = Tensor::from_inner(wave::<B, 3>([2, 7, 8], 0.41)).to_device(&device);
        let grads = (y.clone() * weights).sum().backward();
        let grad = values(qkv.grad(&grads).unwrap());
        [values(y.inner()), grad, values(bias.grad(&grads).unwrap())]
    };
    let whole = run(Precision::F32);
    for (precision, most) in [(Precision::Bf16, 2e-2), (Precision::F16, 2e-3)] {
        for (found, expected) in run(precision).iter().zip(&whole) {
            let scale = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / scale);
            let error = error.fold(0.0, f32::max);
            assert!(error < most && error > most / 1e3, "{precision:?}: {error:e}");
        }
    }
}

#[test]
fn attention_is_as_exact_as_its_type_on_flex() {
    attention_is_as_exact_as_its_type::<Flex>();
}

#[test]
fn attention_is_as_exact_as_its_type_on_ndarray() {
    attention_is_as_exact_as_its_type::<NdArray>();
}

#[test]
fn a_precision_ends_with_its_work() {
    let inside = Precision::Bf16.within(|| {
        let _ = std::panic::catch_unwind(|| Precision::F16.within(|| panic!("on purpose")));
        Precision::current()
    });
    assert_eq!((inside, Precision::current()), (Precision::Bf16, Precision::F32));
}
