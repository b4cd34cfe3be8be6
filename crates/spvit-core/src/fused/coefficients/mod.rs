//! What gates are laid over, and gradients of an operation's coefficient from values outside the graph.

#[cfg(feature = "cube")]
mod cube;
mod graph;
#[cfg(feature = "host")]
mod host;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{FusedOps, raw, wrap};

/// What stays outside the graph, and the gradients that it gives all the same.
pub trait CoefficientOps: Backend {
    /// The tensor outside any graph, even if it is a parameter (of which `detach` makes another
    /// parameter, and a graph of all that is computed from it).
    fn constant(x: FloatTensor<Self>) -> FloatTensor<Self> {
        x
    }

    /// `x`, unchanged, in a graph where the gradient of coefficient `first + i` is `⟨grad, values_i⟩`:
    /// as if `Σ_i (c_{first+i} - c_{first+i})·values_i` had been added. Without a graph this is `x`.
    fn with_coefficient_grads(
        x: FloatTensor<Self>,
        _coefficients: FloatTensor<Self>,
        _first: usize,
        _values: Vec<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        x
    }

    /// Inner products of `grad` with each value, from `first` on among `count` numbers, of which the
    /// others are 0, added to earlier ones: `[count]`.
    fn inner_products(
        grad: FloatTensor<Self>,
        values: Vec<FloatTensor<Self>>,
        [first, count]: [usize; 2],
        earlier: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        plain::inner_products::<Self>(grad, values, [first, count], earlier)
    }

    /// Every row of w `[rows, n]` times its gate, those from `first` on among all: gates `[n of all]`.
    fn gated_rows(
        w: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        first: usize,
    ) -> FloatTensor<Self> {
        plain::gated_rows::<Self>(w, gates, first)
    }

    /// Gradients of [`CoefficientOps::gated_rows`] for w and for all gates, the latter added to earlier
    /// ones.
    fn gated_rows_backward(
        w: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        earlier: Option<FloatTensor<Self>>,
        first: usize,
    ) -> [FloatTensor<Self>; 2] {
        plain::gated_rows_backward::<Self>(w, gates, grad, earlier, first)
    }

    /// Numbers that add up to the squared norm of all these vectors together.
    fn squared_norms(vectors: Vec<FloatTensor<Self>>) -> FloatTensor<Self> {
        plain::squared_norms::<Self>(vectors)
    }
}

/// The tensor outside any graph, even if it is a parameter (of which `detach` makes another
/// parameter, and a graph of all that is computed from it).
///
/// # Shapes
/// - x: any, output: the same.
pub fn constant<B: FusedOps, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    wrap(B::constant(raw(x)))
}

/// `x`, unchanged, in a graph where the gradient of coefficient `first + i` is `⟨grad, values_i⟩`: as
/// if `Σ_i (c_{first+i} - c_{first+i})·values_i` had been added, so that closed operations of Eq. 3
/// need no graph, and layers need no slices of what holds the coefficients of all.
///
/// # Shapes
/// - x and values: any, all the same, coefficients: `[n]`, at least `first + values`, output: as x.
pub fn with_coefficient_grads<B: FusedOps, const D: usize>(
    x: Tensor<B, D>,
    coefficients: Tensor<B, 1>,
    first: usize,
    values: Vec<Tensor<B, D>>,
) -> Tensor<B, D> {
    let values = values.into_iter().map(raw).collect();
    wrap(B::with_coefficient_grads(raw(x), raw(coefficients), first, values))
}

/// Every row of w times its gate, those from `first` on among the gates of all layers.
///
/// # Shapes
/// - w and output: `[rows, n]`, gates: `[gates]`.
///
/// # Panics
/// If there are fewer gates than `first + rows`.
pub fn gated_rows<B: FusedOps>(w: Tensor<B, 2>, gates: Tensor<B, 1>, first: usize) -> Tensor<B, 2> {
    assert!(first + w.dims()[0] <= gates.dims()[0], "a gate for each row");
    wrap(B::gated_rows(raw(w), raw(gates), first))
}

/// Numbers that add up to the squared norm of all these vectors together: one, or one for each.
///
/// # Shapes
/// - vectors: `[n]` each, at least one of them, output: `[numbers]`.
pub fn squared_norms<B: FusedOps>(vectors: Vec<Tensor<B, 1>>) -> Tensor<B, 1> {
    wrap(B::squared_norms(vectors.into_iter().map(raw).collect()))
}
