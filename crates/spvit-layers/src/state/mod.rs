//! Models as named tensors, in the names and layouts of PyTorch checkpoints.
//!
//! Names are timm's where timm has the layer; the searched layers have the published search code's
//! (`attn.head_probs`, `attn.bn_3x3`) and bottleneck convolutions its compact layout
//! (`attn.bconv.0`, `.1`, `.3`). Linear weights are `[output, input]` there.

mod published;

pub use published::{merge_qkv, name_as_timm};

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::{SearchVit, VisionTransformer, Vit, model::Names};

/// Named tensors in PyTorch's layouts.
pub type StateDict = BTreeMap<String, TensorData>;

/// Tensors that do not fit the model that they are loaded into.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the weights do not fit the model: {}", describe(.missing, .unexpected, .misshapen))]
pub struct StateError {
    /// Tensors of the model that are not there.
    pub missing: Vec<String>,
    /// Tensors that the model does not have.
    pub unexpected: Vec<String>,
    /// Name, the model's shape and the shape found.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

fn describe(
    missing: &[String],
    unexpected: &[String],
    misshapen: &[(String, Vec<usize>, Vec<usize>)],
) -> String {
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("missing {}", missing.join(", ")));
    }
    if !unexpected.is_empty() {
        parts.push(format!("unexpected {}", unexpected.join(", ")));
    }
    for (name, expected, found) in misshapen {
        parts.push(format!("{name} has shape {found:?} where the model has {expected:?}"));
    }
    parts.join("; ")
}

/// From a parameter's path of fields to its published name. It holds none of the model's tensors.
pub type Naming = Box<dyn Fn(&str) -> String>;

/// A module whose parameters have published names.
pub trait Named<B: Backend>: Module<B> {
    /// How the parameters are named.
    fn naming(&self) -> Naming;
}

/// The family's names for what all models have.
fn family<B: Backend, K>(model: &VisionTransformer<B, K>) -> Naming {
    match model.names().clone() {
        Names::Flat => Box::new(str::to_string),
        Names::Staged(places) => Box::new(move |path| {
            let mut parts = path.splitn(3, '.');
            match (parts.next(), parts.next(), parts.next()) {
                (Some("blocks"), Some(index), Some(rest)) => {
                    let place = index.parse().ok().and_then(|index: usize| places.get(index));
                    let (stage, block) = place.copied().unwrap_or_default();
                    format!("layers.{stage}.blocks.{block}.{rest}")
                }
                (Some("merges"), Some(index), Some(rest)) => {
                    let stage = index.parse().map_or(0, |index: usize| index + 1);
                    format!("layers.{stage}.downsample.{rest}")
                }
                (Some("head"), Some(kind), None) => format!("head.fc.{kind}"),
                _ => path.to_string(),
            }
        }),
    }
}

impl<B: Backend> Named<B> for Vit<B> {
    fn naming(&self) -> Naming {
        let family = family(self);
        Box::new(move |path| {
            let path = path.replace(".attn.conv.", ".attn.bconv.0.");
            family(&path.replace(".attn.bn.", ".attn.bconv.1."))
        })
    }
}

impl<B: Backend> Named<B> for SearchVit<B> {
    fn naming(&self) -> Naming {
        let family = family(self);
        let kernels: Vec<usize> =
            self.blocks.first().map(|block| block.attn.kernels().collect()).unwrap_or_default();
        Box::new(move |path| {
            let mut name = path.to_string();
            for (index, k) in kernels.iter().enumerate() {
                name = name.replace(&format!(".bn.{index}."), &format!(".bn_{k}x{k}."));
            }
            family(&name)
        })
    }
}

/// How a stored tensor differs from the parameter in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Not at all.
    Same,
    /// A linear layer's weight, transposed.
    Transposed,
    /// The same, stored as a convolution with a kernel of side 1.
    Pointwise,
}

/// Follows the path of fields to a parameter; for visitors and mappers.
#[derive(Debug, Default)]
pub struct Path {
    fields: Vec<String>,
    containers: Vec<String>,
}

impl Path {
    /// To be called in `enter_module`.
    pub fn enter(&mut self, name: &str, container: &str) {
        self.fields.push(name.to_string());
        self.containers.push(container.to_string());
    }

    /// To be called in `exit_module`.
    pub fn exit(&mut self) {
        self.fields.pop();
        self.containers.pop();
    }

    fn inside(&self, container: &str) -> bool {
        self.containers.last().is_some_and(|last| last == container)
    }

    /// The dotted path without enum variants and a searched layer's own attention, and the layout
    /// of the stored tensor.
    pub fn here(&self) -> (String, Layout) {
        let inner = |field: &str, container: &str| {
            container.starts_with("Enum:") || (container == "Struct:Umsa" && field == "msa")
        };
        let plain = self.fields.iter().zip(&self.containers).filter(|(f, c)| !inner(f, c));
        let mut name = plain.map(|(field, _)| field.as_str()).collect::<Vec<_>>().join(".");
        let bconv = self.containers.iter().any(|c| c == "Struct:BottleneckConv");
        if bconv && self.fields.iter().any(|field| field == "proj") {
            name = name.replace(".attn.proj.", ".attn.bconv.3.");
        }
        let layout = match self.inside("Struct:Linear") && name.ends_with("weight") {
            false => Layout::Same,
            true if bconv => Layout::Pointwise,
            true => Layout::Transposed,
        };
        (name, layout)
    }
}

struct Exporter {
    path: Path,
    name: Naming,
    out: StateDict,
}

impl<B: Backend> ModuleVisitor<B> for Exporter {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let (name, layout) = self.path.here();
        let tensor = param.val().detach();
        let mut data = match layout {
            Layout::Same => tensor.into_data(),
            Layout::Transposed | Layout::Pointwise => tensor.swap_dims(0, 1).into_data(),
        };
        if layout == Layout::Pointwise {
            data.shape = [data.shape[0], data.shape[1], 1, 1].into();
        }
        self.out.insert((self.name)(&name), data.convert::<f32>());
    }
}

/// Every parameter and buffer of a model, on the host.
pub fn export<B: Backend, M: Named<B>>(model: &M) -> StateDict {
    let name = model.naming();
    let mut exporter = Exporter { path: Path::default(), name, out: StateDict::new() };
    model.visit(&mut exporter);
    exporter.out
}

struct Importer<F> {
    path: Path,
    name: Naming,
    take: F,
    seen: BTreeSet<String>,
    error: StateError,
}

impl<B: Backend, F: FnMut(&str) -> Option<TensorData>> ModuleMapper<B> for Importer<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (path, layout) = self.path.here();
        let name = (self.name)(&path);
        let Some(mut data) = (self.take)(&name) else {
            self.error.missing.push(name);
            return param;
        };
        let own = param.val();
        let mut shape = own.dims().to_vec();
        if layout != Layout::Same {
            shape.swap(0, 1);
        }
        let mut stored = shape.clone();
        if layout == Layout::Pointwise {
            stored.extend([1, 1]);
        }
        self.seen.insert(name.clone());
        if data.shape.to_vec() != stored {
            self.error.misshapen.push((name, stored, data.shape.to_vec()));
            return param;
        }
        data.shape = shape.into();
        let tensor = Tensor::<B, D>::from_data(data.convert::<f32>(), &own.device());
        let tensor = match layout {
            Layout::Same => tensor,
            Layout::Transposed | Layout::Pointwise => contiguous(tensor.swap_dims(0, 1)),
        };
        let trained = own.is_require_grad();
        param.map(|_| tensor.detach().set_require_grad(trained))
    }
}

/// A copy in row-major order, so that no later operation has to make one.
fn contiguous<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Tensor<B, D> {
    let device = tensor.device();
    Tensor::from_data(tensor.into_data(), &device)
}

/// Loads named tensors into a model of the same shape.
///
/// # Errors
/// [`StateError`] with every missing, unexpected or wrongly shaped tensor.
pub fn import<B: Backend, M: Named<B>>(model: M, state: &StateDict) -> Result<M, StateError> {
    import_with(model, state.keys().cloned().collect(), |name| state.get(name).cloned())
}

/// [`import`] that uses the tensors up one by one, so that a large model is not held twice.
///
/// # Errors
/// [`StateError`] with every missing, unexpected or wrongly shaped tensor.
pub fn import_owned<B: Backend, M: Named<B>>(
    model: M,
    mut state: StateDict,
) -> Result<M, StateError> {
    import_with(model, state.keys().cloned().collect(), |name| state.remove(name))
}

fn import_with<B: Backend, M: Named<B>>(
    model: M,
    given: Vec<String>,
    take: impl FnMut(&str) -> Option<TensorData>,
) -> Result<M, StateError> {
    let mut importer = Importer {
        path: Path::default(),
        name: model.naming(),
        take,
        seen: BTreeSet::new(),
        error: StateError { missing: vec![], unexpected: vec![], misshapen: vec![] },
    };
    let model = model.map(&mut importer);
    let Importer { seen, mut error, .. } = importer;
    error.unexpected = given.into_iter().filter(|name| !seen.contains(name)).collect();
    match error.missing.is_empty() && error.unexpected.is_empty() && error.misshapen.is_empty() {
        true => Ok(model),
        false => Err(error),
    }
}

/// Number of trained values: every parameter, without the running statistics.
pub fn parameter_count<B: Backend, M: Module<B>>(model: &M) -> usize {
    #[derive(Default)]
    struct Counter {
        path: Path,
        count: usize,
    }
    impl<B: Backend> ModuleVisitor<B> for Counter {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            if !self.path.fields.last().is_some_and(|field| field.starts_with("running_")) {
                self.count += param.shape().num_elements();
            }
        }
    }
    let mut counter = Counter::default();
    model.visit(&mut counter);
    counter.count
}
