//! [`TokenOps`] in a graph.

use burn::backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy};
use burn::tensor::{TensorMetadata, backend::AutodiffBackend, ops::FloatTensor};

use super::{TokenMap, TokenOps, plain};
use crate::fused::graph::{backward_step, earlier_gradient, record};

backward_step! {
    Tokens of TokenOps, 3 parents, keeping usize =>
    |grad, prefix, _| B::tokens_backward(grad, prefix).map(Some)
}

backward_step! {
    WithPrefix of TokenOps, 2 parents, keeping usize,
    after earlier_gradient: Option<FloatTensor<B>> =>
    |grad, prefix, _, earlier| B::with_prefix_backward(grad, earlier, prefix).map(Some)
}

backward_step! {
    Gather of TokenOps, 1 parents, keeping TokenMap =>
    |grad, back, _| [Some(B::gather_tokens(grad, &back))]
}

impl<B: TokenOps, C: CheckpointStrategy> TokenOps for Autodiff<B, C> {
    fn patch_rows(images: FloatTensor<Self>, p: usize) -> FloatTensor<Self> {
        match images.is_tracked() {
            true => plain::patch_rows::<Self>(images, p),
            false => Self::from_inner(B::patch_rows(images.primitive, p)),
        }
    }

    fn tokens(
        patches: FloatTensor<Self>,
        prefix: FloatTensor<Self>,
        positions: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let count = prefix.primitive.shape()[1];
        let [p, c, e] = [&patches, &prefix, &positions].map(|x| x.primitive.clone());
        record!(Tokens, C, [patches, prefix, positions], count, B::tokens(p, c, e))
    }

    fn with_prefix(x: FloatTensor<Self>, others: FloatTensor<Self>) -> FloatTensor<Self> {
        let prefix = x.primitive.shape()[1] - others.primitive.shape()[1];
        let output = B::with_prefix(x.primitive.clone(), others.primitive.clone());
        record!(WithPrefix, C, [x, others], prefix, output)
    }

    fn gather_tokens(x: FloatTensor<Self>, map: &TokenMap) -> FloatTensor<Self> {
        let output = B::gather_tokens(x.primitive, map);
        record!(Gather, C, [x], map.inverse(), output)
    }
}
