//! A kernel's launch, and a view of a tensor, as one operation of fusion's stream.

use std::{fmt, slice};

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    CubeRuntime, fusion::FusionCubeRuntime, kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor,
};
use burn_fusion::{
    FusionTensor,
    stream::{Operation, OperationStreams},
};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, TensorIr};

use super::{CubeFloat, CubeHandle, Reader};

/// [`register_all`] of known numbers of inputs and outputs.
pub(in crate::fused) fn register<R: CubeRuntime, const N: usize, const M: usize>(
    name: &'static str,
    inputs: [CubeFloat<R>; N],
    outputs: [Shape; M],
    launch: impl Fn([CubeTensor<R>; N], [CubeTensor<R>; M]) + Send + Sync + 'static,
) -> [CubeFloat<R>; M] {
    let launch = move |inputs, outputs| launch(known(inputs), known(outputs));
    known(register_all(name, inputs.into(), outputs.into(), launch))
}

/// [`register_typed`] with outputs in float32.
pub(in crate::fused) fn register_all<R: CubeRuntime>(
    name: &'static str,
    inputs: Vec<CubeFloat<R>>,
    outputs: Vec<Shape>,
    launch: impl Fn(Vec<CubeTensor<R>>, Vec<CubeTensor<R>>) + Send + Sync + 'static,
) -> Vec<CubeFloat<R>> {
    let outputs = outputs.into_iter().map(|shape| (shape, DType::F32)).collect();
    register_typed(name, inputs, outputs, launch)
}

/// An operation's tensors, of which there are as many as it was registered with.
pub(in crate::fused) fn known<T, const N: usize>(tensors: Vec<T>) -> [T; N] {
    let count = tensors.len();
    tensors.try_into().unwrap_or_else(|_| panic!("{count} tensors of an operation that has {N}"))
}

/// `launch` on the tensors once fusion's stream comes to it, with new outputs of the given shapes and types.
/// There is at least one input.
pub(in crate::fused) fn register_typed<R: CubeRuntime>(
    name: &'static str,
    inputs: Vec<CubeFloat<R>>,
    outputs: Vec<(Shape, DType)>,
    launch: impl Fn(Vec<CubeTensor<R>>, Vec<CubeTensor<R>>) + Send + Sync + 'static,
) -> Vec<CubeFloat<R>> {
    register_changing(name, 0, inputs, outputs, launch)
}

/// [`register_all`] of a kernel that writes the first `changed` inputs where they lie. They come back before the
/// outputs; a tensor that others hold as well is copied first.
pub(in crate::fused) fn register_in_place<R: CubeRuntime>(
    name: &'static str,
    changed: usize,
    inputs: Vec<CubeFloat<R>>,
    outputs: Vec<Shape>,
    launch: impl Fn(Vec<CubeTensor<R>>, Vec<CubeTensor<R>>) + Send + Sync + 'static,
) -> Vec<CubeFloat<R>> {
    let outputs = outputs.into_iter().map(|shape| (shape, DType::F32)).collect();
    register_changing(name, changed, inputs, outputs, launch)
}

fn register_changing<R: CubeRuntime>(
    name: &'static str,
    changed: usize,
    inputs: Vec<CubeFloat<R>>,
    outputs: Vec<(Shape, DType)>,
    launch: impl Fn(Vec<CubeTensor<R>>, Vec<CubeTensor<R>>) + Send + Sync + 'static,
) -> Vec<CubeFloat<R>> {
    let client = inputs[0].client.clone();
    let streams = OperationStreams::with_inputs(&inputs);
    let inputs: Vec<TensorIr> = inputs.into_iter().map(FusionTensor::into_ir).collect();
    let same = inputs[..changed].iter().map(|x| (x.shape.clone(), x.dtype));
    let output = |(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype);
    let outputs: Vec<TensorIr> = same.chain(outputs).map(output).collect();
    let ir = CustomOpIr::new(name, &inputs, &outputs);
    let operation = Launch { name, changed, inputs, outputs, launch };
    client.register(streams, OperationIr::Custom(ir), operation)
}

/// Another view of a tensor: no kernel, and an operation that no chain of others begins with.
///
/// Burn makes a product and the elementwise operations after it one kernel, but not where a reshape of one of
/// their operands comes before the product in the same chain.
pub(in crate::fused) fn view<R: CubeRuntime>(
    x: CubeFloat<R>,
    shape: Shape,
    of: impl Fn(CubeTensor<R>) -> CubeTensor<R> + Send + Sync + 'static,
) -> CubeFloat<R> {
    let client = x.client.clone();
    let streams = OperationStreams::with_inputs([&x]);
    let output = TensorIr::uninit(client.create_empty_handle(), shape, x.dtype);
    let input = x.into_ir();
    let ir = CustomOpIr::new("view", slice::from_ref(&input), slice::from_ref(&output));
    let [view] =
        known(client.register(streams, OperationIr::Custom(ir), View { input, output, of }));
    view
}

struct View<F> {
    input: TensorIr,
    output: TensorIr,
    of: F,
}

impl<F> fmt::Debug for View<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("view")
    }
}

impl<R, F> Operation<FusionCubeRuntime<R>> for View<F>
where
    R: CubeRuntime,
    F: Fn(CubeTensor<R>) -> CubeTensor<R> + Send + Sync,
{
    fn execute(&self, handles: &mut HandleContainer<CubeHandle<R>>) {
        let view = (self.of)(handles.get_float_tensor::<Reader<R>>(&self.input));
        handles.register_float_tensor::<Reader<R>>(&self.output.id, view);
    }
}

struct Launch<F> {
    name: &'static str,
    changed: usize,
    inputs: Vec<TensorIr>,
    outputs: Vec<TensorIr>,
    launch: F,
}

impl<F> fmt::Debug for Launch<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<R, F> Operation<FusionCubeRuntime<R>> for Launch<F>
where
    R: CubeRuntime,
    F: Fn(Vec<CubeTensor<R>>, Vec<CubeTensor<R>>) + Send + Sync,
{
    fn execute(&self, handles: &mut HandleContainer<CubeHandle<R>>) {
        let read = |ir| into_contiguous(handles.get_float_tensor::<Reader<R>>(ir));
        let mut inputs: Vec<CubeTensor<R>> = self.inputs.iter().map(read).collect();
        for changed in &mut inputs[..self.changed] {
            if !changed.can_mut() {
                *changed = changed.copy();
            }
        }
        let new = |ir: &TensorIr| {
            let (client, device) = (inputs[0].client.clone(), inputs[0].device.clone());
            empty_device_contiguous_dtype(client, device, ir.shape.clone(), ir.dtype)
        };
        let new: Vec<CubeTensor<R>> = self.outputs[self.changed..].iter().map(new).collect();
        let all = inputs[..self.changed].iter().chain(&new);
        for (ir, output) in self.outputs.iter().zip(all) {
            handles.register_float_tensor::<Reader<R>>(&ir.id, output.clone());
        }
        (self.launch)(inputs, new);
    }
}
