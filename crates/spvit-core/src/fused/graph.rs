//! How an operation and its backward pass become one node of an autodiff graph.

use burn::backend::{
    Autodiff,
    autodiff::{checkpoint::strategy::CheckpointStrategy, grads::Gradients, ops::Ops},
};
use burn::tensor::{
    FloatDType,
    backend::{AutodiffBackend, Backend},
    ops::FloatTensor,
};

/// Declares a backward step: its operation's trait, its parents, the state it keeps, and what it
/// does with the gradient.
///
/// `$grads` is called with the gradient, the state, and which parents want a gradient; it returns
/// one optional gradient for each parent. `B` is the backend without a graph. A step that is `after`
/// [`earlier_gradient`] is given that, too, and adds it to what it returns for its first parent.
macro_rules! backward_step {
    (
        $name:ident of $ops:ident, $n:literal parents, keeping $state:ty
            $(, after $earlier:ident: $given:ty)? => $grads:expr
    ) => {
        #[derive(Debug)]
        struct $name;

        impl<B: $ops> burn::backend::autodiff::ops::Backward<B, $n> for $name {
            type State = $state;

            fn backward(
                self,
                ops: burn::backend::autodiff::ops::Ops<Self::State, $n>,
                grads: &mut burn::backend::autodiff::grads::Gradients,
                _: &mut burn::backend::autodiff::checkpoint::base::Checkpointer,
            ) {
                let grad = grads.consume::<B>(&ops.node);
                let wanted = ops.parents.each_ref().map(Option::is_some);
                $(let earlier: $given = $earlier::<B, _, $n>(&ops, grads, &grad);)?
                let step: fn(
                    FloatTensor<B>,
                    $state,
                    [bool; $n]
                    $(, $given)?
                ) -> [Option<FloatTensor<B>>; $n] = $grads;
                let results = step(grad, ops.state, wanted $(, { let _: $given; earlier })?);
                for (parent, result) in ops.parents.into_iter().zip(results) {
                    if let (Some(parent), Some(result)) = (parent, result) {
                        grads.register::<B>(parent.id, result);
                    }
                }
            }
        }
    };
}
pub(super) use backward_step;

/// What the first parent has been given by what was computed from it later, and is taken away again.
pub(super) fn earlier_gradient<B: Backend, S, const N: usize>(
    ops: &Ops<S, N>,
    grads: &mut Gradients,
    any: &FloatTensor<B>,
) -> Option<FloatTensor<B>> {
    let parent = ops.parents[0].clone()?;
    // Gradients are asked for by tensors: this one stands for the parent's.
    let mut tensor = Autodiff::<B>::from_inner(any.clone());
    tensor.node = parent;
    grads.remove::<B>(&tensor)
}

/// Registers `output` as computed from `parents` by `step`.
macro_rules! record {
    ($step:expr, $c:ty, [$($parent:expr),+], $state:expr, $output:expr $(,)?) => {{
        use burn::backend::autodiff::ops::{Backward, OpsKind};

        match $step.prepare::<$c>([$($parent.node.clone()),+]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish($state, $output),
            OpsKind::UnTracked(prep) => prep.finish($output),
        }
    }};
}
pub(super) use record;

/// The parent that stands for an operand that is not given: empty, and wanting no gradient.
pub(super) fn absent<B: Backend, C: CheckpointStrategy>(
    device: &B::Device,
) -> FloatTensor<Autodiff<B, C>> {
    Autodiff::<B, C>::from_inner(B::float_zeros([0].into(), device, FloatDType::F32))
}
