//! [`PrecisionOps`] over slices: values are rounded, and stay float32.

use burn::tensor::{TensorMetadata, ops::FloatTensor};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{Precision, PrecisionOps, plain};
use crate::fused::host::{CHUNK, HostAccess, lent, written};

/// Every value by `round`.
fn rounded(x: &[f32], round: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    // SAFETY: the chunks cover the buffer, and every element of each is written.
    #[allow(unsafe_code)]
    unsafe {
        written(x.len(), |y| {
            y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
                for (y, &x) in y.iter_mut().zip(x) {
                    y.write(round(x));
                }
            });
        })
    }
}

impl<B: HostAccess> PrecisionOps for B {
    const EMULATED: bool = true;

    fn lowered(x: FloatTensor<B>, to: Precision) -> FloatTensor<B> {
        let shape = x.shape();
        match to {
            Precision::F32 => x,
            Precision::Bf16 => lent!(
                (x) => B::own(rounded(&x, |x| bf16::from_f32(x).to_f32()), shape),
                plain::lowered::<B>(x, to)
            ),
            Precision::F16 => lent!(
                (x) => B::own(rounded(&x, |x| f16::from_f32(x).to_f32()), shape),
                plain::lowered::<B>(x, to)
            ),
        }
    }
}
