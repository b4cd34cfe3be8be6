//! The ndarray backend.

use burn::backend::{NdArray, ndarray::NdArrayTensor};
use burn::tensor::{Shape, TensorData};

use super::HostAccess;

/// A contiguous ndarray tensor of `f32`.
pub struct Buffer(NdArrayTensor);

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // `lend` has checked the type and made the array contiguous.
        match &self.0 {
            NdArrayTensor::F32(array) => array.view().to_slice().unwrap_or_default(),
            _ => &[],
        }
    }
}

impl HostAccess for NdArray {
    type Buffer = Buffer;

    fn lend(tensor: &NdArrayTensor) -> Option<Buffer> {
        let NdArrayTensor::F32(array) = tensor else { return None };
        if array.view().is_standard_layout() {
            return Some(Buffer(tensor.clone()));
        }
        let contiguous = array.view().as_standard_layout().into_owned().into_shared();
        Some(Buffer(NdArrayTensor::from(contiguous)))
    }

    fn own(data: Vec<f32>, shape: Shape) -> NdArrayTensor {
        NdArrayTensor::from_data(TensorData::new(data, shape))
    }
}
