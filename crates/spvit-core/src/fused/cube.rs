//! What kernels of our own share on the backends that CubeCL compiles them for.
//!
//! A kernel stands in fusion's stream as one operation, with contiguous inputs and outputs. It
//! computes in float32; other types run the plain default.

use std::{
    any::Any,
    collections::VecDeque,
    fmt, iter,
    sync::{Mutex, PoisonError},
};

use burn::tensor::{DType, Device, Shape};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, fusion::FusionCubeRuntime,
    kernel::into_contiguous, ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor,
};
use burn_fusion::{
    Fusion, FusionRuntime, FusionTensor,
    stream::{Operation, OperationStreams},
};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, TensorId, TensorIr};
use cubecl::prelude::*;

use super::{ActivationOps, BottleneckOps, MemoryOps, PoolOps, PrecisionOps};

/// Operations that need no kernel of ours.
macro_rules! run_the_defaults {
    ($($ops:ident),* $(,)?) => {
        $(
            impl<R, F, I, BT> $ops for Fusion<CubeBackend<R, F, I, BT>>
            where
                R: CubeRuntime,
                F: FloatElement,
                I: IntElement,
                BT: BoolElement,
            {
            }
        )*
    };
}

run_the_defaults!(ActivationOps, BottleneckOps, PoolOps, PrecisionOps);

impl<R, F, I, BT> MemoryOps for Fusion<CubeBackend<R, F, I, BT>>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    // CubeCL gives no buffer that is larger than a page of its memory.
    fn largest_piece(device: &Device<Self>) -> Option<u64> {
        Some(R::client(device).properties().memory.max_page_size)
    }

    fn reserved(device: &Device<Self>) -> Option<u64> {
        R::client(device).memory_usage().ok().map(|usage| usage.bytes_reserved)
    }
}

/// A float tensor of `Fusion<CubeBackend<R, ..>>`.
pub(super) type CubeFloat<R> = FusionTensor<FusionCubeRuntime<R>>;

type CubeHandle<R> = <FusionCubeRuntime<R> as FusionRuntime>::FusionHandle;

/// How a tensor's handle is read; its element types are those of the tensor itself.
pub(super) type Reader<R> = CubeBackend<R, f32, i32, u8>;

/// Units of a cube where each computes elements of its own.
pub(super) const UNITS: u32 = 256;

/// Columns and lanes of a cube that adds up columns.
pub(super) const COLUMNS: u32 = 32;
pub(super) const LANES: u32 = 8;

/// Values of a row that a unit holds at most.
const HELD: usize = 16;

/// Tensors, or sets of tensors, that a kernel goes over at most: each is code of its own in it.
const GROUP: usize = 32;

/// Cubes for that many elements; a unit takes more than one where they would be too many.
pub(super) fn cubes(elements: usize) -> CubeCount {
    CubeCount::Static(elements.div_ceil(UNITS as usize).min(u16::MAX as usize) as u32, 1, 1)
}

/// Whether a float's type is one that kernels read and write; they compute in float32.
pub(super) fn is_read(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// Whether all are float32 and hold something.
pub(super) fn served<R: CubeRuntime, const N: usize>(tensors: [&CubeFloat<R>; N]) -> bool {
    tensors.iter().all(|x| x.dtype == DType::F32 && x.shape.num_elements() > 0)
}

/// [`register_all`] of known numbers of inputs and outputs.
pub(super) fn register<R: CubeRuntime, const N: usize, const M: usize>(
    name: &'static str,
    inputs: [CubeFloat<R>; N],
    outputs: [Shape; M],
    launch: impl Fn([CubeTensor<R>; N], [CubeTensor<R>; M]) + Send + Sync + 'static,
) -> [CubeFloat<R>; M] {
    let launch = move |inputs, outputs| launch(known(inputs), known(outputs));
    known(register_all(name, inputs.into(), outputs.into(), launch))
}

/// [`register_typed`] with outputs in float32.
pub(super) fn register_all<R: CubeRuntime>(
    name: &'static str,
    inputs: Vec<CubeFloat<R>>,
    outputs: Vec<Shape>,
    launch: impl Fn(Vec<CubeTensor<R>>, Vec<CubeTensor<R>>) + Send + Sync + 'static,
) -> Vec<CubeFloat<R>> {
    let outputs = outputs.into_iter().map(|shape| (shape, DType::F32)).collect();
    register_typed(name, inputs, outputs, launch)
}

/// An operation's tensors, of which there are as many as it was registered with.
pub(super) fn known<T, const N: usize>(tensors: Vec<T>) -> [T; N] {
    let count = tensors.len();
    tensors.try_into().unwrap_or_else(|_| panic!("{count} tensors of an operation that has {N}"))
}

/// `launch` on the tensors once fusion's stream comes to it, with new outputs of the given shapes and types.
/// There is at least one input.
pub(super) fn register_typed<R: CubeRuntime>(
    name: &'static str,
    inputs: Vec<CubeFloat<R>>,
    outputs: Vec<(Shape, DType)>,
    launch: impl Fn(Vec<CubeTensor<R>>, Vec<CubeTensor<R>>) + Send + Sync + 'static,
) -> Vec<CubeFloat<R>> {
    register_changing(name, 0, inputs, outputs, launch)
}

/// [`register_all`] of a kernel that writes the first `changed` inputs where they lie. They come back before the
/// outputs; a tensor that others hold as well is copied first.
pub(super) fn register_in_place<R: CubeRuntime>(
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
pub(super) fn view<R: CubeRuntime>(
    x: CubeFloat<R>,
    shape: Shape,
    of: impl Fn(CubeTensor<R>) -> CubeTensor<R> + Send + Sync + 'static,
) -> CubeFloat<R> {
    let client = x.client.clone();
    let streams = OperationStreams::with_inputs([&x]);
    let output = TensorIr::uninit(client.create_empty_handle(), shape, x.dtype);
    let input = x.into_ir();
    let ir = CustomOpIr::new("view", std::slice::from_ref(&input), std::slice::from_ref(&output));
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

/// What a kernel takes several of, cut into groups: it binds `each` buffers for one of them, of which
/// `tensor` is one, and `besides` for them all.
pub(super) fn groups<R: CubeRuntime, T>(
    all: Vec<T>,
    [each, besides]: [usize; 2],
    tensor: impl Fn(&T) -> &CubeFloat<R>,
) -> Vec<Vec<T>> {
    let Some(first) = all.first() else { return Vec::new() };
    let client = R::client(tensor(first).client.device());
    // One more holds numbers.
    let bound = (client.properties().hardware.max_bindings as usize).saturating_sub(1 + besides);
    let most = (bound / each).clamp(1, GROUP);
    let mut rest = all.into_iter().peekable();
    iter::from_fn(|| rest.peek().is_some().then(|| rest.by_ref().take(most).collect())).collect()
}

/// Several tensors as one argument of a kernel.
pub(super) fn arrays<R: CubeRuntime, E: CubePrimitive>(
    tensors: impl IntoIterator<Item = CubeTensor<R>>,
) -> SequenceArg<R, Array<E>> {
    tensors.into_iter().map(CubeTensor::into_array_arg).collect()
}

/// Numbers of elements.
pub(super) fn lengths<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> Vec<usize> {
    tensors.iter().map(|tensor| tensor.meta.shape().num_elements()).collect()
}

/// [`cubes`] for the longest of several tensors.
pub(super) fn unit_cubes(elements: &[usize]) -> CubeCount {
    cubes(elements.iter().copied().max().unwrap_or_default())
}

/// What an earlier gradient has at a place, if there is one.
#[cube]
pub(super) fn earlier_at(earlier: &Sequence<Array<f32>>, place: usize) -> f32 {
    let mut value = 0.0f32;
    #[unroll]
    for index in 0..earlier.len() {
        value += earlier.index(index)[place];
    }
    value
}

/// Sums over the rows of `[rows, N·width]`, its N parts `[width]` apart.
pub(super) fn column_sums<R: CubeRuntime, const N: usize>(all: CubeFloat<R>) -> [CubeFloat<R>; N] {
    let (rows, width) = (all.shape[0], all.shape[1] / N);
    let launch = move |[all]: [CubeTensor<R>; 1], parts: [CubeTensor<R>; N]| {
        let client = all.client.clone();
        column_sums_kernel::launch::<R>(
            &client,
            CubeCount::Static((N * width).div_ceil(COLUMNS as usize) as u32, 1, 1),
            CubeDim::new_2d(COLUMNS, LANES),
            all.into_array_arg(),
            arrays(parts),
            rows,
            width,
        );
    };
    register("sums over rows", [all], [(); N].map(|()| Shape::new([width])), launch)
}

/// A gradient, and the sums over its rows that came of computing it.
type KnownSums = (TensorId, Box<dyn Any + Send>);

/// Those of the last gradients of all devices that have them.
static KNOWN_SUMS: Mutex<VecDeque<KnownSums>> = Mutex::new(VecDeque::new());

/// As many gradients' sums are kept: more than devices compute one at a time.
const KEPT: usize = 64;

/// Keeps the sums `[width]` over a gradient's rows: they cost little where it is computed, and where they are
/// asked for, [`known_sums`] saves reading all of it.
pub(super) fn keep_sums<R: CubeRuntime>(grad: &CubeFloat<R>, sums: CubeFloat<R>) {
    let mut all = KNOWN_SUMS.lock().unwrap_or_else(PoisonError::into_inner);
    all.truncate(KEPT - 1);
    all.push_front((grad.id, Box::new(sums)));
}

/// What [`keep_sums`] was given for this gradient, if that is not long ago.
pub(super) fn known_sums<R: CubeRuntime>(grad: &CubeFloat<R>) -> Option<CubeFloat<R>> {
    let mut all = KNOWN_SUMS.lock().unwrap_or_else(PoisonError::into_inner);
    let place = all.iter().position(|(id, _)| *id == grad.id)?;
    let (_, sums) = all.remove(place)?;
    sums.downcast().ok().map(|sums| *sums)
}

#[cube(launch)]
fn column_sums_kernel(
    x: &Array<f32>,
    parts: &mut Sequence<Array<f32>>,
    rows: usize,
    #[comptime] width: usize,
) {
    let all = comptime!(parts.len() * width);
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * LANES) as usize));
    let column = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    let mut sum = 0.0f32;
    if column < all {
        let mut row = UNIT_POS_Y as usize;
        while row < rows {
            sum += x[row * all + column];
            row += CUBE_DIM_Y as usize;
        }
    }
    let sum = column_sum(sum, &mut shared);
    if UNIT_POS_Y == 0 {
        #[unroll]
        for part in 0..parts.len() {
            let first = comptime!(part * width);
            if column >= first && column < first + width {
                parts.index_mut(part)[column - first] = sum;
            }
        }
    }
}

/// Sum of a value over the lanes of a cube of [`COLUMNS`] times [`LANES`] units; every unit has its
/// column's.
#[cube]
pub(super) fn column_sum(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let columns = CUBE_DIM_X as usize;
    // Others may still read the sums before these.
    sync_cube();
    shared[UNIT_POS_Y as usize * columns + UNIT_POS_X as usize] = value;
    sync_cube();
    let mut sum = 0.0f32;
    for lane in 0..CUBE_DIM_Y as usize {
        sum += shared[lane * columns + UNIT_POS_X as usize];
    }
    sum
}

/// How a cube's units share the values of a row: what a kernel is compiled for, which any number of
/// rows runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RowSplit {
    pub(super) width: usize,
    pub(super) units: usize,
    /// Values that a unit holds.
    pub(super) held: usize,
}

impl RowSplit {
    /// That of the last dimension, and how many rows there are; none where a row is too long.
    pub(super) fn of(shape: &Shape) -> Option<(Self, usize)> {
        let width = *shape.as_slice().last()?;
        // Fewer units than values: adding up over a cube costs more than a few values a unit.
        let units = (width.next_power_of_two() / 4).clamp(32, UNITS as usize);
        let held = width.div_ceil(units);
        let fits = width > 0 && held <= HELD;
        fits.then(|| (Self { width, units, held }, shape.num_elements() / width))
    }

    pub(super) fn dim(&self) -> CubeDim {
        CubeDim::new_1d(self.units as u32)
    }
}

/// Cubes that share so many rows, at most as many as said.
pub(super) fn row_cubes(rows: usize, most: usize) -> CubeCount {
    CubeCount::Static(rows.min(most) as u32, 1, 1)
}

/// Sum of a value over the units of a cube of one dimension, whose number is a power of two;
/// every unit has the sum.
#[cube]
pub(super) fn cube_sum(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] units: usize,
) -> f32 {
    cube_fold(value, shared, units, false)
}

/// The greatest value, as [`cube_sum`].
#[cube]
pub(super) fn cube_max(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] units: usize,
) -> f32 {
    cube_fold(value, shared, units, true)
}

#[cube]
fn cube_fold(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] units: usize,
    #[comptime] greatest: bool,
) -> f32 {
    let unit = UNIT_POS_X as usize;
    // Others may still read what came of the values before these.
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let steps = comptime!(units.ilog2());
    #[unroll]
    for step in 0..steps {
        let half = comptime!(units >> (step + 1));
        if unit < half {
            let other = shared[unit + half];
            if greatest {
                shared[unit] = max(shared[unit], other);
            } else {
                shared[unit] += other;
            }
        }
        sync_cube();
    }
    shared[0]
}
