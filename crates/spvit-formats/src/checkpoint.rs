//! Tensors in host memory, under PyTorch's names and in PyTorch's layouts.

use std::collections::BTreeMap;

/// A dense tensor in host memory, row-major (the last dimension runs fastest), always `f32`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostTensor {
    /// The size of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values; as many as the product of `shape`.
    pub data: Vec<f32>,
}

impl HostTensor {
    /// Joins a shape and its values, or gives `None` when their lengths disagree.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Option<Self> {
        let shape = shape.into();
        (element_count(&shape) == Some(data.len())).then_some(Self { shape, data })
    }
}

/// Most values that a tensor may claim: sums of a few shapes do not overflow.
const MOST: usize = isize::MAX as usize / 64;

/// The product of a shape's dimensions, or `None` where it is beyond all memory. So it is where one
/// of them is 0 and the others are: whoever reads the shape computes with them.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    let others = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))?;
    (others <= MOST).then(|| if shape.contains(&0) { 0 } else { others })
}

/// Tensors by name, in the alphabetical order of their names.
pub type StateDict = BTreeMap<String, HostTensor>;

/// What was read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The floating-point tensors, as `f32`.
    pub tensors: StateDict,
    /// Text beside the tensors: the metadata block of a safetensors file; for a PyTorch file the
    /// plain values (text, numbers, booleans) that stand beside the state dict, such as `epoch`.
    pub metadata: BTreeMap<String, String>,
    /// How the tensors were packed, and what was left out.
    pub origin: Origin,
}

/// How a checkpoint was packed, and what was left out on reading it.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The container format, known from the file's content.
    pub container: Container,
    /// The keys under which the state dict lay, outermost first; empty for a plain one.
    pub nested_under: Vec<String>,
    /// The prefixes removed from names: `module.` (data parallelism), `_orig_mod.` (compilation).
    pub stripped_prefixes: Vec<String>,
    /// Entries of the state dict that were left out, with what each was: integer tensors such as
    /// `num_batches_tracked` ("int64 tensor"), and entries that are not tensors.
    pub skipped: BTreeMap<String, String>,
    /// What stood beside a nested state dict and was ignored: `optimizer`, `args`, ...
    pub ignored: Vec<String>,
}

/// The container formats that [`read`](crate::read) knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Container {
    /// A safetensors file.
    Safetensors,
    /// What `torch.save` has written since PyTorch 1.6: a zip archive with a pickle in it.
    PthZip,
    /// What `torch.save` wrote before, and writes with `_use_new_zipfile_serialization=False`.
    PthLegacy,
}
