//! The searched attention layer.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation::relu, backend::Backend};
use spvit_core::{FusedOps, Grid, fused, gates, mixing};

use crate::{BatchNorm, Init, Linear, Mode, Operation, VitConfig, bconv::with_class_token_of};

/// Gates of one attention layer in one step.
#[derive(Debug, Clone)]
pub enum OperationGates<B: Backend> {
    /// The operation is given, and no gate gets a gradient.
    Fixed(Operation),
    /// Sampled gates, cheapest operation first.
    Sampled {
        /// The operations' coefficients (Eq. 3, [`gates::coefficients`]), which carry the gates'
        /// gradients, `[operations]`.
        coefficients: Tensor<B, 1>,
        /// The layer's own gates on the host, where they decide what is computed.
        open: Vec<bool>,
    },
}

/// UMSA (Eqs. 2 to 10): self-attention whose weights also give bottleneck convolutions.
#[derive(Module, Debug)]
pub struct Umsa<B: Backend> {
    /// Q, K and V in one map, `[dim, 3·dim]`.
    pub qkv: Linear<B>,
    /// Output projection, `[dim, dim]`.
    pub proj: Linear<B>,
    /// Logits z of the head distribution, `[heads, k²]` for the largest kernel (Eq. 5).
    pub head_probs: Param<Tensor<B, 2>>,
    /// One normalisation for every kernel size, smallest first.
    pub bn: Vec<BatchNorm<B>>,
    /// Number of heads.
    pub heads: usize,
    /// Temperature of the head distribution.
    pub alpha: f64,
    #[module(skip)]
    grids: Vec<Grid>,
    #[module(skip)]
    shortcut_adds_norm: bool,
}

/// The weights that a forward pass uses, in the graph or outside it.
struct Weights<B: Backend> {
    qkv: (Tensor<B, 2>, Tensor<B, 1>),
    proj: (Tensor<B, 2>, Tensor<B, 1>),
    mix: Tensor<B, 2>,
    in_graph: bool,
}

impl<B: Backend> Umsa<B> {
    /// A layer with fresh weights.
    pub fn new(config: &VitConfig, init: &mut Init<B>) -> Self {
        let positions = config.largest_kernel().pow(2);
        Self {
            qkv: Linear::new(config.dim, 3 * config.dim, init),
            proj: Linear::new(config.dim, config.dim, init),
            head_probs: init.truncated_normal([config.heads, positions], 0.02),
            bn: config.kernels.iter().map(|_| BatchNorm::new(config.head_dim(), init)).collect(),
            heads: config.heads,
            alpha: config.alpha,
            grids: config.kernels.iter().map(|&kernel| config.grid(kernel)).collect(),
            shortcut_adds_norm: config.shortcut_adds_norm,
        }
    }

    /// Head distribution of one kernel of the layer, `[heads, k²]` (Eq. 5).
    pub fn kernel_distribution(&self, index: usize) -> Tensor<B, 2> {
        let p = mixing::head_distribution(self.head_probs.val(), self.alpha);
        mixing::kernel_distribution(p, self.largest(), self.grids[index].kernel)
    }

    /// Gives every head the same share of every kernel position (z = 1).
    pub fn reset_head_distribution(&mut self) {
        self.head_probs = self.head_probs.clone().map(|z| z.detach().ones_like());
    }

    fn largest(&self) -> usize {
        self.grids.iter().map(|grid| grid.kernel).max().unwrap_or(1)
    }
}

impl<B: FusedOps> Weights<B> {
    fn of(layer: &Umsa<B>, in_graph: bool) -> Self {
        let one = |x: &Param<Tensor<B, 1>>| free(x.val(), in_graph);
        let two = |x: &Param<Tensor<B, 2>>| free(x.val(), in_graph);
        Self {
            qkv: (two(&layer.qkv.weight), one(&layer.qkv.bias)),
            proj: (two(&layer.proj.weight), one(&layer.proj.bias)),
            mix: mixing::head_distribution(two(&layer.head_probs), layer.alpha),
            in_graph,
        }
    }
}

fn free<B: FusedOps, const D: usize>(x: Tensor<B, D>, in_graph: bool) -> Tensor<B, D> {
    match in_graph {
        true => x,
        false => fused::constant(x),
    }
}

impl<B: FusedOps> Umsa<B> {
    /// Computes the open operation with a graph, and without one the values of the others that a
    /// gate's gradient needs.
    ///
    /// # Shapes
    /// - x: `[batch, 1 + patches, dim]`, the class token first; output: the same.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        gates: &OperationGates<B>,
        mode: &Mode<B>,
    ) -> Tensor<B, 3> {
        match gates {
            OperationGates::Fixed(Operation::Shortcut) if self.shortcut_adds_norm => x,
            OperationGates::Fixed(operation) => {
                let open = match operation {
                    Operation::Shortcut => None,
                    Operation::Msa => Some(self.grids.len()),
                    Operation::BConv(k) => self.grids.iter().position(|grid| grid.kernel == *k),
                };
                self.open_operation(x, open, mode).0
            }
            OperationGates::Sampled { coefficients, open } => {
                let plan = gates::Plan::new(open);
                let (out, qkv) = self.open_operation(x.clone(), plan.open, mode);
                let values = self.values(fused::constant(x), &plan, &out, qkv, mode);
                let needed = plan.values.iter().map(|&op| coefficients.clone().narrow(0, op, 1));
                fused::with_coefficient_grads(out, Tensor::cat(needed.collect(), 0), values)
            }
        }
    }

    /// The output of one operation, and Q, K, V if it is attention.
    fn open_operation(
        &self,
        x: Tensor<B, 3>,
        open: Option<usize>,
        mode: &Mode<B>,
    ) -> (Tensor<B, 3>, Option<Tensor<B, 3>>) {
        match open {
            None => (x.detach().zeros_like(), None),
            Some(index) if index == self.grids.len() => {
                let (out, qkv) = self.attention(x, &Weights::of(self, true));
                (out, Some(qkv))
            }
            Some(index) => {
                let weights = Weights::of(self, true);
                let values =
                    (self.grids[index].kernel > 1).then(|| self.values_of(x.clone(), &weights));
                (self.convolution(index, x, values, &weights, mode), None)
            }
        }
    }

    /// Values of the planned operations, without a graph.
    fn values(
        &self,
        x: Tensor<B, 3>,
        plan: &gates::Plan,
        out: &Tensor<B, 3>,
        qkv: Option<Tensor<B, 3>>,
        mode: &Mode<B>,
    ) -> Vec<Tensor<B, 3>> {
        let weights = Weights::of(self, false);
        let attention = self.grids.len();
        // V serves every convolution; where attention is open it is a slice of Q, K, V.
        let mut shared = qkv.map(|qkv| {
            let width = qkv.dims()[2] / 3;
            let bias = weights.qkv.1.clone().narrow(0, 2 * width, width);
            fused::value_part(qkv, Some(bias), 1)
        });
        plan.values
            .iter()
            .map(|&op| {
                if plan.open == Some(op) {
                    fused::constant(out.clone())
                } else if op == attention {
                    self.attention(x.clone(), &weights).0
                } else {
                    let values = (self.grids[op].kernel > 1).then(|| {
                        shared.get_or_insert_with(|| self.values_of(x.clone(), &weights)).clone()
                    });
                    self.convolution(op, x.clone(), values, &weights, mode)
                }
            })
            .collect()
    }

    /// Eq. 4; also returns Q, K, V.
    fn attention(&self, x: Tensor<B, 3>, weights: &Weights<B>) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let (w, b) = weights.qkv.clone();
        let qkv = fused::affine(x, w, Some(b));
        let mixed = fused::self_attention(qkv.clone(), self.heads, None);
        let (w, b) = weights.proj.clone();
        (fused::affine(mixed, w, Some(b)), qkv)
    }

    /// V without its bias, V' of Eq. 6, of the class token too: `[batch, 1 + patches, dim]`.
    fn values_of(&self, x: Tensor<B, 3>, weights: &Weights<B>) -> Tensor<B, 3> {
        let (w, _) = &weights.qkv;
        let dim = w.dims()[0];
        fused::affine(x, w.clone().narrow(1, 2 * dim, dim), None)
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
        let p = mixing::kernel_distribution(weights.mix.clone(), self.largest(), grid.kernel);
        let dim = x.dims()[2];
        let (heads, d) = (self.heads, dim / self.heads);
        let share = p.clone().sum_dim(1);

        let (w, b) = &weights.qkv;
        let value_bias = b.clone().narrow(0, 2 * dim, dim).reshape([heads, d]);
        let beta = (value_bias * share.clone()).sum_dim(0).squeeze_dim::<1>(0);
        let u = match values {
            Some(values) => fused::mix_shift(values, p, grid),
            None => {
                let w = w.clone().narrow(1, 2 * dim, dim).reshape([dim, heads, d]);
                let mixed = (w * p.reshape([1, heads, 1])).sum_dim(1).squeeze_dim::<2>(1);
                fused::shift_sum(fused::affine(x.clone(), mixed, None), grid)
            }
        };
        let bn = &self.bn[index];
        let [weight, bias] =
            [&bn.weight, &bn.bias].map(|param| free(param.val(), weights.in_graph));
        let normal = bn.normalise(u, [beta, weight, bias], mode);
        let (w, b) = weights.proj.clone();
        let w = (w.reshape([heads, d, dim]) * share.reshape([heads, 1, 1])).sum_dim(0);
        let out = fused::affine(relu(normal), w.squeeze_dim::<2>(0), Some(b));
        with_class_token_of(x, out)
    }
}
