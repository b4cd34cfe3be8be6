//! Images cut into patches, patches made tokens, and tokens moved to other places.

#[cfg(feature = "cube")]
mod cube;
mod graph;
#[cfg(feature = "host")]
mod host;
mod map;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

pub use map::TokenMap;

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{FusedOps, raw, wrap};

/// Making and moving tokens, with its own backward pass.
pub trait TokenOps: Backend {
    /// Square patches of images as rows: `[b, c, h·p, w·p]` to `[b, h·w, c·p²]`, patches row-major.
    fn patch_rows(images: FloatTensor<Self>, p: usize) -> FloatTensor<Self> {
        plain::patch_rows::<Self>(images, p)
    }

    /// The prefix tokens before the patches, and the position embedding added to both: patches
    /// `[b, n, d]`, prefix `[1, p, d]`, positions `[1, p + n, d]` to `[b, p + n, d]`.
    fn tokens(
        patches: FloatTensor<Self>,
        prefix: FloatTensor<Self>,
        positions: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        plain::tokens::<Self>(patches, prefix, positions)
    }

    /// Gradients of [`TokenOps::tokens`] for patches, `prefix` tokens and positions.
    fn tokens_backward(grad: FloatTensor<Self>, prefix: usize) -> [FloatTensor<Self>; 3] {
        plain::tokens_backward::<Self>(grad, prefix)
    }

    /// The first tokens of x before others: x `[b, p + n, d]`, others `[b, n, d]` to `[b, p + n, d]`.
    fn with_prefix(x: FloatTensor<Self>, others: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::with_prefix::<Self>(x, others)
    }

    /// Gradients of [`TokenOps::with_prefix`] for x, added to an earlier one, and for the others, which come
    /// after `prefix` tokens.
    fn with_prefix_backward(
        grad: FloatTensor<Self>,
        earlier: Option<FloatTensor<Self>>,
        prefix: usize,
    ) -> [FloatTensor<Self>; 2] {
        plain::with_prefix_backward::<Self>(grad, earlier, prefix)
    }

    /// `out[b, j] = x[b, source of j]`, or zeros where j has none: x `[b, n, d]` to `[b, m, d]`.
    /// The inverse map makes of the output's gradient the input's.
    fn gather_tokens(x: FloatTensor<Self>, map: &TokenMap) -> FloatTensor<Self> {
        plain::gather_tokens::<Self>(x, map)
    }
}

/// Square patches of images as rows.
///
/// # Shapes
/// - images: `[batch, channels, h·p, w·p]`, output: `[batch, h·w, channels·p²]`, patches row-major.
pub fn patch_rows<B: FusedOps>(images: Tensor<B, 4>, p: usize) -> Tensor<B, 3> {
    wrap(B::patch_rows(raw(images), p))
}

/// The tokens of an image: the prefix (class, distillation and register tokens) before the patches,
/// and the position embedding added to all.
///
/// # Shapes
/// - patches: `[batch, patches, dim]`, prefix: `[1, p, dim]` with at least one token, positions:
///   `[1, p + patches, dim]`, output: `[batch, p + patches, dim]`.
pub fn tokens<B: FusedOps>(
    patches: Tensor<B, 3>,
    prefix: Tensor<B, 3>,
    positions: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let ([_, n, d], [_, p, _]) = (patches.dims(), prefix.dims());
    let expected = [1, p + n, d];
    assert_eq!(positions.dims(), expected, "{p} and {n} tokens want as many positions");
    wrap(B::tokens(raw(patches), raw(prefix), raw(positions)))
}

/// The first tokens of x before others, such as a convolution's map, in place of its own.
///
/// # Shapes
/// - x: `[batch, prefix + patches, dim]`, others: `[batch, patches, dim]`, output: as x.
pub fn with_prefix<B: FusedOps>(x: Tensor<B, 3>, others: Tensor<B, 3>) -> Tensor<B, 3> {
    match x.dims() == others.dims() {
        true => others,
        false => wrap(B::with_prefix(raw(x), raw(others))),
    }
}

/// Tokens in other places: `out[b, j] = x[b, source of j]`, or zeros where the map names none.
///
/// # Shapes
/// - x: `[batch, map.inputs(), dim]`, output: `[batch, map.outputs(), dim]`.
pub fn gather_tokens<B: FusedOps>(x: Tensor<B, 3>, map: &TokenMap) -> Tensor<B, 3> {
    assert_eq!(x.dims()[1], map.inputs(), "the map is of another number of tokens");
    wrap(B::gather_tokens(raw(x), map))
}
