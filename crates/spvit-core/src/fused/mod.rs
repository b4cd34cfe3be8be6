//! Inner operations of the layers with their own backward pass.
//!
//! [`FusedOps`] extends a backend. Its defaults are plain tensor operations, so that one empty
//! `impl` makes a backend usable; the CPU backends override them with kernels over slices (the
//! `host` module), and [`burn::backend::Autodiff`] wraps each forward and backward pair into one
//! node of the graph.
//!
//! The functions of this module take [`Tensor`]s and are what layers call.

mod activation;
mod attention;
mod autodiff;
mod functions;
mod graph;
#[cfg(feature = "host")]
mod host;
mod norm;
mod plain;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod testing;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;
mod tokens;

pub use activation::{Activation, ActivationOps, activate, gelu};
pub use attention::{AttentionOps, AttentionState, self_attention, value_part};
pub use functions::*;
pub use norm::{NormOps, layer_norm, rms_norm};
pub use tokens::{TokenMap, TokenOps, gather_tokens, patch_rows, tokens};

use burn::tensor::{
    Tensor, TensorPrimitive,
    backend::{AutodiffBackend, Backend},
    ops::FloatTensor,
};

/// The map that a sequence of tokens lies on, and the square kernel that slides over it.
///
/// Tokens are row-major. Kernel positions are column-major, as in the published DeiT code:
/// position `k` reads the token at `(y + k mod kernel - kernel/2, x + k div kernel - kernel/2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
    /// Side of the kernel, odd.
    pub kernel: usize,
}

impl Grid {
    /// Number of tokens of the map.
    pub fn tokens(&self) -> usize {
        self.height * self.width
    }

    /// Number of kernel positions.
    pub fn positions(&self) -> usize {
        self.kernel * self.kernel
    }

    /// The token that kernel position `k` reads for output token `n`, if it lies on the map.
    pub fn neighbour(&self, n: usize, k: usize) -> Option<usize> {
        let half = self.kernel / 2;
        let y = (n / self.width + k % self.kernel).checked_sub(half)?;
        let x = (n % self.width + k / self.kernel).checked_sub(half)?;
        (y < self.height && x < self.width).then_some(y * self.width + x)
    }
}

/// Vectors of [`FusedOps::batch_norm`], each `[d]`.
#[derive(Debug, Clone)]
pub struct NormParameters<B: Backend> {
    /// Added to the input.
    pub offset: FloatTensor<B>,
    /// Factor of the normalised input.
    pub weight: FloatTensor<B>,
    /// Added to it.
    pub bias: FloatTensor<B>,
}

/// Weights of [`FusedOps::bottleneck`].
#[derive(Debug, Clone)]
pub struct Bottleneck<B: Backend> {
    /// Convolution `[d, dim, k, k]`.
    pub kernel: FloatTensor<B>,
    /// Factor of every channel `[d]`.
    pub scale: FloatTensor<B>,
    /// Summand of every channel `[d]`.
    pub shift: FloatTensor<B>,
    /// Projection `[d, dim]`.
    pub w: FloatTensor<B>,
    /// Its bias `[dim]`.
    pub b: FloatTensor<B>,
}

/// Scalars of one AdamW update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Number of this step, from 1.
    pub count: i32,
}

impl AdamWStep {
    /// Bias corrections `1 - β^count` of the two moments.
    pub fn corrections(&self) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powi(self.count))
    }
}

/// Backend operations with their own backward pass. Every method has a default in plain tensor
/// operations; a method and its `_backward` are overridden together.
///
/// Shapes are written with leading dimensions `..` where any number of them is accepted.
pub trait FusedOps: ActivationOps + AttentionOps + NormOps + TokenOps {
    /// `x·w + b`: x `[.., k]`, w `[k, n]`, b `[n]` to `[.., n]`.
    fn affine(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        plain::affine::<Self>(x, w, b)
    }

    /// Gradient of [`FusedOps::affine`] for x: `grad·wᵀ`.
    fn affine_x_backward(w: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::affine_x_backward::<Self>(w, grad)
    }

    /// Gradient of [`FusedOps::affine`] for w: `xᵀ·grad`.
    fn affine_w_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::affine_w_backward::<Self>(x, grad)
    }

    /// Gradient of [`FusedOps::affine`] for b: the sum of the rows.
    fn affine_b_backward(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::affine_b_backward::<Self>(grad)
    }

    /// Sum of two tensors of one shape, such as a residual and its branch.
    fn sum(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(x, y)
    }

    /// Batch normalisation of `x + offset` by the batch's own statistics: x `[.., d]`, offset,
    /// weight and bias `[d]`, to the output, and the mean and biased variance `[d]` of
    /// `x + offset`, which have no gradient.
    fn batch_norm(
        x: FloatTensor<Self>,
        parameters: NormParameters<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 3] {
        plain::batch_norm::<Self>(x, parameters, epsilon)
    }

    /// Gradients of [`FusedOps::batch_norm`] for x, offset, weight and bias, given its second and
    /// third output.
    fn batch_norm_backward(
        x: FloatTensor<Self>,
        parameters: NormParameters<Self>,
        statistics: [FloatTensor<Self>; 2],
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 4] {
        plain::batch_norm_backward::<Self>(x, parameters, statistics, grad, epsilon)
    }

    /// Search-time convolution by indexing values (Eqs. 6 and 7, without the bias):
    /// v `[b, s + n, heads·d]`, p `[heads, k²]` to `[b, n, d]`,
    /// `y(t) = Σ_k Σ_h P[h, k]·v_h(neighbour k of t)`, tokens outside the map counting 0. The
    /// first `s` tokens, those before the map's `n` (a class token), are skipped.
    fn mix_shift(v: FloatTensor<Self>, p: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        plain::mix_shift::<Self>(v, p, grid)
    }

    /// Gradients of [`FusedOps::mix_shift`] for v and p.
    fn mix_shift_backward(
        v: FloatTensor<Self>,
        p: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        grid: Grid,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::mix_shift_backward::<Self>(v, p, grad, grid)
    }

    /// The shift-and-add half of a convolution whose products are done: u `[b, s + n, k²·d]` to
    /// `[b, n, d]`, `y(t) = Σ_k u(neighbour k of t)[k]`; the first `s` tokens are skipped.
    fn shift_sum(u: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
        plain::shift_sum::<Self>(u, grid)
    }

    /// Gradient of [`FusedOps::shift_sum`], with zeros for the `skipped` tokens.
    fn shift_sum_backward(
        grad: FloatTensor<Self>,
        skipped: usize,
        grid: Grid,
    ) -> FloatTensor<Self> {
        plain::shift_sum_backward::<Self>(grad, skipped, grid)
    }

    /// A whole bottleneck convolution with folded normalisation (Eqs. 8 to 10, for evaluation):
    /// x `[b, s + n, dim]` to the same shape, the first `s` tokens unchanged, the map
    /// `relu(conv(x)·scale + shift)·w + b`.
    fn bottleneck(
        x: FloatTensor<Self>,
        weights: Bottleneck<Self>,
        grid: Grid,
    ) -> FloatTensor<Self> {
        plain::bottleneck::<Self>(x, weights, grid)
    }

    /// The tensor outside any graph, even if it is a parameter (of which `detach` makes another
    /// parameter, and a graph of all that is computed from it).
    fn constant(x: FloatTensor<Self>) -> FloatTensor<Self> {
        x
    }

    /// `x`, unchanged, in a graph where the i-th coefficient's gradient is `⟨grad, values_i⟩`:
    /// as if `Σ_i (c_i - c_i)·values_i` had been added. Without a graph this is `x`.
    fn with_coefficient_grads(
        x: FloatTensor<Self>,
        _coefficients: FloatTensor<Self>,
        _values: Vec<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        x
    }

    /// One AdamW update of a parameter `[n]` and its two moments (Loshchilov and Hutter, 2019), as
    /// PyTorch computes it: decoupled decay, then the bias-corrected step.
    fn adamw_update(
        [parameter, first, second, grad]: [FloatTensor<Self>; 4],
        step: AdamWStep,
    ) -> [FloatTensor<Self>; 3] {
        plain::adamw_update::<Self>([parameter, first, second, grad], step)
    }

    /// Inner products of `grad` with each value, `[values]`.
    fn inner_products(
        grad: FloatTensor<Self>,
        values: Vec<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        plain::inner_products::<Self>(grad, values)
    }
}

/// A backend to train on: autodiff, with fused operations with and without a graph.
pub trait TrainBackend: AutodiffBackend<InnerBackend: FusedOps> + FusedOps {}

impl<B> TrainBackend for B where B: AutodiffBackend<InnerBackend: FusedOps> + FusedOps {}

/// Backends that run the defaults.
macro_rules! run_the_defaults {
    ($($(#[$feature:meta])* $backend:ty),* $(,)?) => {
        $(
            $(#[$feature])* impl ActivationOps for $backend {}
            $(#[$feature])* impl AttentionOps for $backend {}
            $(#[$feature])* impl NormOps for $backend {}
            $(#[$feature])* impl TokenOps for $backend {}
            $(#[$feature])* impl FusedOps for $backend {}
        )*
    };
}

run_the_defaults!(
    #[cfg(feature = "cuda")]
    burn::backend::Cuda,
    #[cfg(feature = "cuda")]
    burn::backend::Cuda<burn::tensor::bf16>,
    #[cfg(feature = "wgpu")]
    burn::backend::Wgpu,
    #[cfg(feature = "vulkan")]
    burn::backend::Vulkan,
    #[cfg(feature = "tch")]
    burn::backend::LibTorch,
);

fn raw<B: Backend, const D: usize>(x: Tensor<B, D>) -> FloatTensor<B> {
    x.into_primitive().tensor()
}

fn wrap<B: Backend, const D: usize>(x: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}
