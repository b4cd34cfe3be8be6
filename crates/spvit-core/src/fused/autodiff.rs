//! One node of the graph for each forward and backward pair of [`FusedOps`].

use burn::backend::{
    Autodiff,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
};
use burn::tensor::{FloatDType, TensorMetadata, backend::AutodiffBackend, ops::FloatTensor};

use super::{FusedOps, Grid, NormParameters, plain};

/// Declares a backward step: parents, the state it keeps, and what it does with the gradient.
///
/// `$grads` is called with the gradient and the state, and returns one optional gradient for each
/// parent; it is told which parents want one.
macro_rules! backward_step {
    ($(#[$doc:meta])* $name:ident<$n:literal>($state:ty) = $grads:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        struct $name;

        impl<B: FusedOps> Backward<B, $n> for $name {
            type State = $state;

            fn backward(
                self,
                ops: Ops<Self::State, $n>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<B>(&ops.node);
                let wanted = ops.parents.each_ref().map(Option::is_some);
                let step: fn(FloatTensor<B>, $state, [bool; $n]) -> [Option<FloatTensor<B>>; $n] =
                    $grads;
                let results = step(grad, ops.state, wanted);
                for (parent, result) in ops.parents.into_iter().zip(results) {
                    if let (Some(parent), Some(result)) = (parent, result) {
                        grads.register::<B>(parent.id, result);
                    }
                }
            }
        }
    };
}

backward_step!(Gelu<1>(FloatTensor<B>) = |grad, x, _| [Some(B::exact_gelu_backward(x, grad))]);

backward_step!(
    Affine<3>((FloatTensor<B>, FloatTensor<B>)) = |grad, (x, w), [for_x, for_w, for_b]| [
        for_x.then(|| B::affine_x_backward(w, grad.clone())),
        for_w.then(|| B::affine_w_backward(x, grad.clone())),
        for_b.then(|| B::affine_b_backward(grad)),
    ]
);

backward_step!(
    LayerNorm<3>((FloatTensor<B>, FloatTensor<B>, f64)) = |grad, (x, weight, epsilon), _| {
        let (x, weight, bias) = B::affine_layer_norm_backward(x, weight, grad, epsilon);
        [Some(x), Some(weight), Some(bias)]
    }
);

backward_step!(Sum<2>(()) = |grad, (), _| [Some(grad.clone()), Some(grad)]);

backward_step!(
    BatchNorm<4>((FloatTensor<B>, NormParameters<B>, [FloatTensor<B>; 2], f64)) =
        |grad, (x, parameters, statistics, epsilon), _| {
            B::batch_norm_backward(x, parameters, statistics, grad, epsilon).map(Some)
        }
);

backward_step!(
    Attention<1>((FloatTensor<B>, FloatTensor<B>, usize)) = |grad, (qkv, p, heads), _| [Some(
        B::self_attention_backward(qkv, p, grad, heads)
    )]
);

backward_step!(
    MixShift<2>((FloatTensor<B>, FloatTensor<B>, Grid)) = |grad, (v, p, grid), _| {
        let (v, p) = B::mix_shift_backward(v, p, grad, grid);
        [Some(v), Some(p)]
    }
);

backward_step!(
    ShiftSum<1>((usize, Grid)) = |grad, (skipped, grid), _| [Some(B::shift_sum_backward(
        grad, skipped, grid
    ))]
);

backward_step!(Tokens<3>(()) = |grad, (), _| B::tokens_backward(grad).map(Some));

backward_step!(
    CoefficientGrads<2>(Vec<FloatTensor<B>>) = |grad, values, [_, for_gates]| [
        Some(grad.clone()),
        for_gates.then(|| B::inner_products(grad, values)),
    ]
);

/// Registers `output` as computed from `parents` by `step`.
macro_rules! record {
    ($step:expr, $c:ty, [$($parent:expr),+], $state:expr, $output:expr) => {
        match $step.prepare::<$c>([$($parent.node.clone()),+]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish($state, $output),
            OpsKind::UnTracked(prep) => prep.finish($output),
        }
    };
}

impl<B: FusedOps, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::exact_gelu(x.primitive.clone());
        record!(Gelu, C, [x], x.primitive, output)
    }

    fn affine(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        // Without a bias the third parent is an empty tensor that wants no gradient.
        let output = B::affine(
            x.primitive.clone(),
            w.primitive.clone(),
            b.as_ref().map(|b| b.primitive.clone()),
        );
        let b = b.unwrap_or_else(|| {
            let device = B::float_device(&w.primitive);
            Self::from_inner(B::float_zeros([0].into(), &device, FloatDType::F32))
        });
        record!(Affine, C, [x, w, b], (x.primitive, w.primitive), output)
    }

    fn affine_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let output = B::affine_layer_norm(
            x.primitive.clone(),
            weight.primitive.clone(),
            bias.primitive.clone(),
            epsilon,
        );
        let state = (x.primitive, weight.primitive, epsilon);
        record!(LayerNorm, C, [x, weight, bias], state, output)
    }

    fn sum(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::sum(x.primitive.clone(), y.primitive.clone());
        record!(Sum, C, [x, y], (), output)
    }

    fn batch_norm(
        x: FloatTensor<Self>,
        parameters: NormParameters<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 3] {
        let NormParameters { offset, weight, bias } = parameters;
        let inner = NormParameters {
            offset: offset.primitive.clone(),
            weight: weight.primitive.clone(),
            bias: bias.primitive.clone(),
        };
        let [y, mean, variance] = B::batch_norm(x.primitive.clone(), inner.clone(), epsilon);
        let statistics = [mean, variance];
        let [mean, variance] = statistics.clone().map(Self::from_inner);
        let state = (x.primitive, inner, statistics, epsilon);
        [record!(BatchNorm, C, [x, offset, weight, bias], state, y), mean, variance]
    }

    fn self_attention(
        qkv: FloatTensor<Self>,
        heads: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (output, p) = B::self_attention(qkv.primitive.clone(), heads);
        let probabilities = Self::from_inner(p.clone());
        let state = (qkv.primitive, p, heads);
        (record!(Attention, C, [qkv], state, output), probabilities)
    }

    fn value_part(qkv: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(B::value_part(qkv.primitive, bias.primitive))
    }

    fn mix_shift(v: FloatTensor<Self>, p: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        let output = B::mix_shift(v.primitive.clone(), p.primitive.clone(), grid);
        record!(MixShift, C, [v, p], (v.primitive, p.primitive, grid), output)
    }

    fn shift_sum(u: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        let skipped = u.primitive.shape()[1] - grid.tokens();
        let output = B::shift_sum(u.primitive, grid);
        record!(ShiftSum, C, [u], (skipped, grid), output)
    }

    fn patch_rows(images: FloatTensor<Self>, p: usize) -> FloatTensor<Self> {
        match images.is_tracked() {
            true => plain::patch_rows::<Self>(images, p),
            false => Self::from_inner(B::patch_rows(images.primitive, p)),
        }
    }

    fn tokens(
        patches: FloatTensor<Self>,
        class: FloatTensor<Self>,
        positions: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let inputs = [&patches, &class, &positions].map(|x| x.primitive.clone());
        let [p, c, e] = inputs;
        record!(Tokens, C, [patches, class, positions], (), B::tokens(p, c, e))
    }

    fn constant(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(x.primitive)
    }

    fn with_coefficient_grads(
        x: FloatTensor<Self>,
        coefficients: FloatTensor<Self>,
        values: Vec<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let values = values.into_iter().map(|value| value.primitive).collect();
        record!(CoefficientGrads, C, [x, coefficients], values, x.primitive)
    }
}
