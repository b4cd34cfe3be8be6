//! The searched attention layer.

use std::{cell::OnceCell, sync::Arc};

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::{FusedOps, Grid, fused, gates, mixing};

use crate::{
    BatchNorm, BlockShape, BottleneckConv, Init, Mode, Msa, Operation, RowGates, SearchSpace,
    attention::{AttentionWeights, free},
};

/// Gates of one attention layer in one step.
#[derive(Debug, Clone)]
pub enum OperationGates<B: Backend> {
    /// The operation is given, and no gate gets a gradient.
    Fixed(Operation),
    /// Sampled gates, cheapest operation first.
    Sampled {
        /// The coefficients of the operations of all layers (Eq. 3, [`gates::coefficients`]), which
        /// carry the gates' gradients, `[operations of all]`.
        coefficients: Tensor<B, 1>,
        /// Where this layer's own begin.
        first: usize,
        /// The layer's own gates on the host, where they decide what is computed.
        open: Vec<bool>,
        /// The operations that they open.
        operations: Arc<[Operation]>,
    },
}

/// UMSA (Eqs. 2 to 10): self-attention whose weights also give bottleneck convolutions.
///
/// A convolution slides over the whole map, also where attention looks at windows.
#[derive(Module, Debug)]
pub struct Umsa<B: Backend> {
    /// Self-attention.
    pub msa: Msa<B>,
    /// Logits z of the head distribution, `[heads, k²]` for the largest kernel (Eq. 5).
    pub head_probs: Param<Tensor<B, 2>>,
    /// One normalisation for every kernel size, smallest first.
    pub bn: Vec<BatchNorm<B>>,
    /// Convolutions with weights of their own, smallest first, in place of those that attention's
    /// weights give; none where these are shared ([`SearchSpace::separate`]).
    pub separate: Vec<BottleneckConv<B>>,
    /// Temperature of the head distribution.
    pub alpha: f64,
    #[module(skip)]
    grids: Vec<Grid>,
    #[module(skip)]
    prefix_tokens: usize,
    #[module(skip)]
    shortcut_adds_norm: bool,
}

/// The weights that a forward pass uses, in the graph or outside it.
struct Weights<B: Backend> {
    msa: AttentionWeights<B>,
    /// The head distribution, once a convolution needs it.
    mix: OnceCell<Tensor<B, 2>>,
    in_graph: bool,
}

impl<B: Backend> Umsa<B> {
    /// A layer with fresh weights.
    pub fn new(shape: &BlockShape, space: &SearchSpace, init: &mut Init<B>) -> Self {
        let positions = space.largest_kernel().pow(2);
        Self {
            msa: Msa::new(shape, init),
            head_probs: init.truncated_normal([shape.heads, positions], 0.02),
            bn: space.kernels.iter().map(|_| BatchNorm::new(shape.head_dim(), init)).collect(),
            separate: match space.separate {
                true => {
                    space.kernels.iter().map(|&k| BottleneckConv::new(shape, k, init)).collect()
                }
                false => Vec::new(),
            },
            alpha: space.alpha,
            grids: space.kernels.iter().map(|&kernel| shape.grid(kernel)).collect(),
            prefix_tokens: shape.prefix_tokens,
            shortcut_adds_norm: shape.style.shortcut_adds_norm,
        }
    }

    /// Sides of the kernels, one for each of [`Umsa::bn`].
    pub fn kernels(&self) -> impl Iterator<Item = usize> {
        self.grids.iter().map(|grid| grid.kernel)
    }

    /// Gives every head the same share of every kernel position (z = 1).
    pub fn reset_head_distribution(&mut self) {
        self.head_probs = self.head_probs.clone().map(|z| z.detach().ones_like());
    }

    fn largest(&self) -> usize {
        self.kernels().max().unwrap_or(1)
    }
}

impl<B: FusedOps> Weights<B> {
    fn of(layer: &Umsa<B>) -> Self {
        Self { msa: layer.msa.weights(true), mix: OnceCell::new(), in_graph: true }
    }

    /// The same outside the graph.
    fn outside(self, layer: &Umsa<B>) -> Self {
        let known = self.mix.into_inner().map(fused::constant).map(OnceCell::from);
        Self { msa: layer.msa.weights(false), mix: known.unwrap_or_default(), in_graph: false }
    }

    fn mix(&self, layer: &Umsa<B>) -> Tensor<B, 2> {
        let fresh =
            || fused::head_distribution(free(&layer.head_probs, self.in_graph), layer.alpha);
        self.mix.get_or_init(fresh).clone()
    }

    /// Weight `[dim, dim]` and bias `[dim]` of V.
    fn value(&self) -> (Tensor<B, 2>, Option<Tensor<B, 1>>) {
        let (w, b) = &self.msa.qkv;
        let dim = w.dims()[0];
        let bias = b.as_ref().map(|b| b.clone().narrow(0, 2 * dim, dim));
        (w.clone().narrow(1, 2 * dim, dim), bias)
    }
}

impl<B: FusedOps> Umsa<B> {
    /// Head distribution of one kernel of the layer, `[heads, k²]` (Eq. 5).
    pub fn kernel_distribution(&self, index: usize) -> Tensor<B, 2> {
        let p = fused::head_distribution(self.head_probs.val(), self.alpha);
        mixing::kernel_distribution(p, self.largest(), self.grids[index].kernel)
    }

    /// Computes the open operation with a graph, and without one the values of the others that a
    /// gate's gradient needs.
    ///
    /// # Shapes
    /// - x: `[batch, tokens, dim]`, the prefix tokens first; output: the same.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        gates: &OperationGates<B>,
        mode: &Mode<B>,
    ) -> Tensor<B, 3> {
        self.forward_heads(x, gates, None, mode)
    }

    /// [`Umsa::forward`] with these gates over attention's heads; the convolutions mix all of them.
    pub fn forward_heads(
        &self,
        x: Tensor<B, 3>,
        gates: &OperationGates<B>,
        heads: Option<&RowGates<B>>,
        mode: &Mode<B>,
    ) -> Tensor<B, 3> {
        match gates {
            OperationGates::Fixed(Operation::Shortcut) if self.shortcut_adds_norm => x,
            OperationGates::Fixed(operation) => {
                self.open_operation(x, *operation, heads, (&Weights::of(self), mode)).0
            }
            OperationGates::Sampled { coefficients, first, open, operations } => {
                let plan = gates::Plan::new(open);
                let opened = plan.open.map_or(Operation::Shortcut, |index| operations[index]);
                let weights = Weights::of(self);
                let (out, qkv) = self.open_operation(x.clone(), opened, heads, (&weights, mode));
                let around = (&weights.outside(self), mode);
                let needed: Vec<Operation> = plan.values.iter().map(|&i| operations[i]).collect();
                let heads = heads.map(RowGates::constant);
                let known = (opened, &out);
                let values = self.values(fused::constant(x), &needed, known, (qkv, heads), around);
                // They follow one another, whatever is open.
                let first = first + plan.values.first().copied().unwrap_or(0);
                fused::with_coefficient_grads(out, coefficients.clone(), first, values)
            }
        }
    }

    /// The output of one operation, and Q, K, V if it is attention.
    fn open_operation(
        &self,
        x: Tensor<B, 3>,
        open: Operation,
        heads: Option<&RowGates<B>>,
        (weights, mode): (&Weights<B>, &Mode<B>),
    ) -> (Tensor<B, 3>, Option<Tensor<B, 3>>) {
        match open {
            Operation::Msa => {
                let gated = weights.msa.clone().gated(heads);
                let shape = x.dims();
                let (out, qkv) = self.msa.layout.forward(x, &gated);
                (out.reshape(shape), Some(qkv))
            }
            Operation::BConv(kernel) => match self.kernels().position(|k| k == kernel) {
                Some(index) if !self.separate.is_empty() => {
                    (self.separate[index].forward(x, mode), None)
                }
                Some(index) => {
                    let values = (kernel > 1).then(|| self.values_of(x.clone(), weights));
                    (self.convolution(index, x, values, weights, mode), None)
                }
                None => (x.detach().zeros_like(), None),
            },
            Operation::Shortcut => (x.detach().zeros_like(), None),
        }
    }

    /// Values of the needed operations, without a graph; that of the open one is known.
    fn values(
        &self,
        x: Tensor<B, 3>,
        needed: &[Operation],
        (opened, out): (Operation, &Tensor<B, 3>),
        (qkv, heads): (Option<Tensor<B, 3>>, Option<RowGates<B>>),
        (weights, mode): (&Weights<B>, &Mode<B>),
    ) -> Vec<Tensor<B, 3>> {
        // V serves every convolution; where attention is open it is a slice of Q, K, V.
        let shared = self.separate.is_empty();
        let qkv = qkv.filter(|_| shared && needed.iter().any(|op| indexes_values(*op)));
        let mut shared =
            qkv.map(|qkv| self.msa.layout.values(qkv, weights.value().1, self.prefix_tokens));
        needed
            .iter()
            .map(|&op| match op {
                _ if op == opened => fused::constant(out.clone()),
                Operation::Msa => {
                    let weights = weights.msa.clone().gated(heads.as_ref());
                    self.msa.layout.forward(x.clone(), &weights).0.reshape(x.dims())
                }
                Operation::Shortcut => x.zeros_like(),
                Operation::BConv(kernel) if !self.separate.is_empty() => {
                    let own = self.kernels().position(|k| k == kernel);
                    match own.and_then(|index| self.separate.get(index)) {
                        Some(own) => own.clone().no_grad().forward(x.clone(), mode),
                        None => x.zeros_like(),
                    }
                }
                Operation::BConv(kernel) => {
                    let values = indexes_values(op).then(|| {
                        shared.get_or_insert_with(|| self.values_of(x.clone(), weights)).clone()
                    });
                    match self.kernels().position(|k| k == kernel) {
                        Some(index) => self.convolution(index, x.clone(), values, weights, mode),
                        None => x.zeros_like(),
                    }
                }
            })
            .collect()
    }

    /// V without its bias, V' of Eq. 6, of the prefix tokens too: `[batch, tokens, dim]`.
    fn values_of(&self, x: Tensor<B, 3>, weights: &Weights<B>) -> Tensor<B, 3> {
        fused::affine(x, weights.value().0, None)
    }

    /// BConv of one kernel (Eqs. 6 to 10). A kernel of side 1 mixes the weights of V, a larger one
    /// indexes its values.
    fn convolution(
        &self,
        index: usize,
        x: Tensor<B, 3>,
        values: Option<Tensor<B, 3>>,
        weights: &Weights<B>,
        mode: &Mode<B>,
    ) -> Tensor<B, 3> {
        let grid = self.grids[index];
        let p = mixing::kernel_distribution(weights.mix(self), self.largest(), grid.kernel);
        let dim = x.dims()[2];
        let d = dim / self.msa.heads();
        let (w, b) = weights.value();
        let beta = match b {
            Some(b) => fused::head_sum(b.reshape([1, dim]), p.clone()).reshape([d]),
            None => Tensor::zeros([d], &x.device()),
        };
        let u = match values {
            Some(values) => fused::mix_shift(values, p.clone(), grid),
            None => {
                let mixed = fused::head_sum(w, p.clone());
                fused::shift_sum(fused::affine(x.clone(), mixed, None), grid)
            }
        };
        let bn = &self.bn[index];
        let [weight, bias] = [&bn.weight, &bn.bias].map(|param| free(param, weights.in_graph));
        let y = bn.relu_with(u, [beta, weight, bias], mode);
        let (w, b) = weights.msa.proj.clone();
        // A head's rows lie together: to the sum they are one row of all heads.
        let w = fused::head_sum(w.reshape([1, dim * dim]), p).reshape([d, dim]);
        let out = fused::affine(y, w, b);
        fused::with_prefix(x, out)
    }
}

/// Whether an operation is a convolution that indexes V.
fn indexes_values(operation: Operation) -> bool {
    matches!(operation, Operation::BConv(kernel) if kernel > 1)
}
