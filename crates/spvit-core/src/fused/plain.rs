//! What the operations' plain defaults share.

use burn::tensor::{
    Shape, Tensor, TensorMetadata, TensorPrimitive, backend::Backend, ops::FloatTensor,
};

use super::{raw, wrap};

/// Leading dimensions folded into one.
pub(super) fn rows<B: Backend>(x: FloatTensor<B>) -> Tensor<B, 2> {
    let shape = x.shape();
    let last = shape[shape.num_dims() - 1];
    wrap(B::float_reshape(x, [shape.num_elements() / last.max(1), last].into()))
}

pub(super) fn flat<B: Backend>(x: FloatTensor<B>) -> Tensor<B, 1> {
    let count = x.shape().num_elements();
    Tensor::from_primitive(TensorPrimitive::Float(B::float_reshape(x, [count].into())))
}

/// Rows in the shape of `dims` with another last dimension.
pub(super) fn unfold<B: Backend>(x: Tensor<B, 2>, dims: Vec<usize>) -> FloatTensor<B> {
    let [_, last] = x.dims();
    B::float_reshape(raw(x), with_last(dims, last))
}

/// Dimensions with another last one.
pub(super) fn with_last(mut dims: Vec<usize>, last: usize) -> Shape {
    if let Some(own) = dims.last_mut() {
        *own = last;
    }
    dims.into()
}

pub(super) fn dims<B: Backend>(x: &FloatTensor<B>) -> Vec<usize> {
    x.shape().to_vec()
}

/// Not a root and a reciprocal, which Burn's ndarray backend approximates to 12 to 14 bits.
pub(super) fn inverse_root<B: Backend>(variance: Tensor<B, 2>, epsilon: f64) -> Tensor<B, 2> {
    (variance + epsilon).powf_scalar(-0.5)
}

/// A gradient, added to an earlier one if there is one.
pub(super) fn with_earlier<B: Backend>(
    grad: FloatTensor<B>,
    earlier: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    match earlier {
        Some(earlier) => B::float_add(grad, earlier),
        None => grad,
    }
}
