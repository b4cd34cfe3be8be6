//! What kernels of our own share on the backends that CubeCL compiles them for.
//!
//! A kernel stands in fusion's stream as one operation, with contiguous inputs and outputs. It
//! computes in float32; other types run the plain default.

use std::fmt;

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    CubeBackend, CubeRuntime, fusion::FusionCubeRuntime, kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor,
};
use burn_fusion::{
    FusionRuntime, FusionTensor,
    stream::{Operation, OperationStreams},
};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, TensorIr};
use cubecl::prelude::*;

/// A float tensor of `Fusion<CubeBackend<R, ..>>`.
pub(super) type CubeFloat<R> = FusionTensor<FusionCubeRuntime<R>>;

type CubeHandle<R> = <FusionCubeRuntime<R> as FusionRuntime>::FusionHandle;

/// How a tensor's handle is read; its element types are those of the tensor itself.
type Reader<R> = CubeBackend<R, f32, i32, u8>;

/// Units of a cube where each computes elements of its own.
pub(super) const UNITS: u32 = 256;

/// Cubes for that many elements; a unit takes more than one where they would be too many.
pub(super) fn cubes(elements: usize) -> CubeCount {
    CubeCount::Static(elements.div_ceil(UNITS as usize).min(u16::MAX as usize) as u32, 1, 1)
}

/// Whether all are float32 and hold something.
pub(super) fn served<R: CubeRuntime, const N: usize>(tensors: [&CubeFloat<R>; N]) -> bool {
    tensors.iter().all(|x| x.dtype == DType::F32 && x.shape.num_elements() > 0)
}

/// [`register_all`] of a known number of inputs.
pub(super) fn register<R: CubeRuntime, const N: usize, const M: usize>(
    name: &'static str,
    inputs: [CubeFloat<R>; N],
    outputs: [Shape; M],
    launch: impl Fn([CubeTensor<R>; N], [CubeTensor<R>; M]) + Send + Sync + 'static,
) -> [CubeFloat<R>; M] {
    register_all(name, inputs.into(), outputs, move |inputs, outputs| {
        let inputs =
            inputs.try_into().expect("an operation has the inputs that it was registered with");
        launch(inputs, outputs);
    })
}

/// `launch` on the tensors once fusion's stream comes to it, with new outputs of the given shapes.
/// There is at least one input.
pub(super) fn register_all<R: CubeRuntime, const M: usize>(
    name: &'static str,
    inputs: Vec<CubeFloat<R>>,
    outputs: [Shape; M],
    launch: impl Fn(Vec<CubeTensor<R>>, [CubeTensor<R>; M]) + Send + Sync + 'static,
) -> [CubeFloat<R>; M] {
    let client = inputs[0].client.clone();
    let streams = OperationStreams::with_inputs(&inputs);
    let inputs: Vec<TensorIr> = inputs.into_iter().map(FusionTensor::into_ir).collect();
    let outputs =
        outputs.map(|shape| TensorIr::uninit(client.create_empty_handle(), shape, DType::F32));
    let ir = CustomOpIr::new(name, &inputs, &outputs);
    let operation = Launch { name, inputs, outputs, launch };
    let outputs = client.register(streams, OperationIr::Custom(ir), operation);
    outputs.try_into().expect("an operation has the outputs that it was registered with")
}

struct Launch<F, const M: usize> {
    name: &'static str,
    inputs: Vec<TensorIr>,
    outputs: [TensorIr; M],
    launch: F,
}

impl<F, const M: usize> fmt::Debug for Launch<F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<R, F, const M: usize> Operation<FusionCubeRuntime<R>> for Launch<F, M>
where
    R: CubeRuntime,
    F: Fn(Vec<CubeTensor<R>>, [CubeTensor<R>; M]) + Send + Sync,
{
    fn execute(&self, handles: &mut HandleContainer<CubeHandle<R>>) {
        let read = |ir| into_contiguous(handles.get_float_tensor::<Reader<R>>(ir));
        let inputs: Vec<CubeTensor<R>> = self.inputs.iter().map(read).collect();
        let outputs = self.outputs.each_ref().map(|ir| {
            let (client, device) = (inputs[0].client.clone(), inputs[0].device.clone());
            empty_device_contiguous_dtype(client, device, ir.shape.clone(), ir.dtype)
        });
        for (ir, output) in self.outputs.iter().zip(&outputs) {
            handles.register_float_tensor::<Reader<R>>(&ir.id, output.clone());
        }
        (self.launch)(inputs, outputs);
    }
}

/// Sum of a value over the units of a cube of one dimension, whose number is a power of two;
/// every unit has the sum.
#[cube]
pub(super) fn cube_sum(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] units: usize,
) -> f32 {
    let unit = UNIT_POS_X as usize;
    // Others may still read the sum before this one.
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let steps = comptime!(units.ilog2());
    #[unroll]
    for step in 0..steps {
        let half = comptime!(units >> (step + 1));
        if unit < half {
            let other = shared[unit + half];
            shared[unit] += other;
        }
        sync_cube();
    }
    shared[0]
}
