//! [`LinearOps`] in Burn's products, in such an order that what follows one can be part of its kernel.

use burn::tensor::{
    Shape,
    ops::{FloatTensor, FloatTensorOps},
};
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use burn_fusion::Fusion;

use super::{LinearOps, plain};
use crate::fused::PrecisionOps;
use crate::fused::cube::{CubeFloat, Reader, known_sums, view};
use crate::fused::plain::with_last;

impl<R, F, I, BT> LinearOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn affine(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let shape = with_last(x.shape.to_vec(), w.shape[1]);
        let row = |b: CubeFloat<R>| {
            let shape = Shape::new([1, b.shape[0]]);
            view(b, shape.clone(), move |b| Reader::<R>::float_reshape(b, shape.clone()))
        };
        let (x, b) = (rows(x), b.map(row));
        let product = Self::raised(Self::float_matmul(x, w));
        let y = match b {
            Some(b) => Self::float_add(product, b),
            None => product,
        };
        Self::float_reshape(y, shape)
    }

    fn affine_x_backward(w: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = with_last(grad.shape.to_vec(), w.shape[0]);
        let product = Self::float_matmul(rows(grad), transposed(w));
        Self::float_reshape(Self::raised(product), shape)
    }

    fn affine_w_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(transposed(rows(x)), rows(grad))
    }

    fn affine_b_backward(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        known_sums(&grad).unwrap_or_else(|| plain::affine_b_backward::<Self>(grad))
    }
}

/// Leading dimensions folded into one.
fn rows<R: CubeRuntime>(x: CubeFloat<R>) -> CubeFloat<R> {
    let dims = x.shape.to_vec();
    let Some((last, leading)) = dims.split_last().filter(|(_, leading)| leading.len() != 1) else {
        return x;
    };
    let shape = Shape::new([leading.iter().product(), *last]);
    view(x, shape.clone(), move |x| Reader::<R>::float_reshape(x, shape.clone()))
}

fn transposed<R: CubeRuntime>(x: CubeFloat<R>) -> CubeFloat<R> {
    let shape = Shape::new([x.shape[1], x.shape[0]]);
    view(x, shape, Reader::<R>::float_transpose)
}
