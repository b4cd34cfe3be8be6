//! [`CoefficientOps`] over slices.

use burn::tensor::ops::FloatTensor;
use rayon::prelude::*;

use super::{CoefficientOps, plain};
use crate::fused::host::{
    HostAccess,
    simd::{simd_fn, sum2},
};
use crate::fused::plain::with_earlier;

/// Elements of a partial sum; a matter of the result's bits.
const PART: usize = 1 << 14;

simd_fn! {
    fn dot_chunk(a: &[f32], b: &[f32]) -> f32 {
        sum2(a, b, |a, b| a * b)
    }
}

/// Inner product; partial sums are added in order, in double precision.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let parts: Vec<f32> =
        a.par_chunks(PART).zip(b.par_chunks(PART)).map(|(a, b)| dot_chunk(a, b)).collect();
    parts.into_iter().map(f64::from).sum::<f64>() as f32
}

impl<B: HostAccess> CoefficientOps for B {
    fn inner_products(
        grad: FloatTensor<B>,
        values: Vec<FloatTensor<B>>,
        [first, count]: [usize; 2],
        earlier: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        let lent: Option<Vec<_>> = values.iter().map(B::lend).collect();
        match (B::lend(&grad), lent) {
            (Some(grad), Some(lent)) => {
                let mut dots = vec![0.0; count];
                for (place, value) in dots[first..].iter_mut().zip(&lent) {
                    *place = dot(&grad, value);
                }
                let own = B::own(dots, [count].into());
                with_earlier::<B>(own, earlier)
            }
            _ => plain::inner_products::<B>(grad, values, [first, count], earlier),
        }
    }

    fn squared_norms(vectors: Vec<FloatTensor<B>>) -> FloatTensor<B> {
        let lent: Option<Vec<_>> = vectors.iter().map(B::lend).collect();
        match lent {
            Some(lent) => {
                let squares: Vec<f32> = lent.iter().map(|vector| dot(vector, vector)).collect();
                let shape = [squares.len()].into();
                B::own(squares, shape)
            }
            None => plain::squared_norms::<B>(vectors),
        }
    }
}
