//! The flex backend.

use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::{Shape, TensorData};

use super::HostAccess;

/// A contiguous flex tensor.
pub struct Buffer(FlexTensor);

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // `lend` has made the tensor contiguous and checked its type.
        self.0.as_slice::<f32>().unwrap_or_default()
    }
}

impl HostAccess for Flex {
    type Buffer = Buffer;

    fn lend(tensor: &FlexTensor) -> Option<Buffer> {
        if tensor.dtype() != burn::tensor::DType::F32 {
            return None;
        }
        let contiguous = match tensor.as_slice::<f32>() {
            Some(_) => tensor.clone(),
            None => tensor.to_contiguous(),
        };
        Some(Buffer(contiguous))
    }

    fn own(data: Vec<f32>, shape: Shape) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(data, shape))
    }
}
