//! AdamW over the parameters of a module, with its state in the open.

use std::collections::{BTreeMap, HashMap};

use burn::module::{AutodiffModule, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{
    FloatDType, Shape, Tensor, TensorData, TensorMetadata, TensorPrimitive,
    backend::{AutodiffBackend, Backend},
    ops::FloatTensor,
};
use serde::{Deserialize, Serialize};
use spvit_core::{
    AdamWStep, FusedOps, TrainBackend,
    fused::{self, AdamWParameter, Clip},
};
use spvit_layers::state::{Path, StateDict};

/// Gradients by parameter, in the order of the module's parameters.
#[derive(Debug, Clone)]
pub struct Gradients<B: FusedOps> {
    /// Identifiers are drawn at random in every process, and so give no order.
    order: Vec<ParamId>,
    /// Each in its parameter's shape, or flat.
    values: HashMap<ParamId, FloatTensor<B>>,
    /// What the values are still to be multiplied with.
    factor: f64,
}

fn primitive<B: Backend, const D: usize>(x: Tensor<B, D>) -> FloatTensor<B> {
    x.into_primitive().tensor()
}

/// Values in a shape of as many.
fn in_shape<B: Backend>(x: FloatTensor<B>, shape: &Shape) -> FloatTensor<B> {
    if x.shape() == *shape { x } else { B::float_reshape(x, shape.clone()) }
}

fn flat<B: Backend>(x: FloatTensor<B>) -> Tensor<B, 1> {
    let count = x.shape().num_elements();
    Tensor::from_primitive(TensorPrimitive::Float(in_shape::<B>(x, &[count].into())))
}

impl<B: FusedOps> Gradients<B> {
    /// The gradients of a module's parameters; those that the loss does not reach are left out.
    pub fn of<A, M>(module: &M, gradients: &mut A::Gradients) -> Self
    where
        A: TrainBackend<InnerBackend = B>,
        M: AutodiffModule<A>,
    {
        struct Collector<'a, A: AutodiffBackend> {
            gradients: &'a mut A::Gradients,
            found: Vec<(ParamId, FloatTensor<A::InnerBackend>)>,
        }
        impl<A: AutodiffBackend> ModuleVisitor<A> for Collector<'_, A> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
                if let Some(grad) = param.val().grad_remove(self.gradients) {
                    self.found.push((param.id, primitive(grad)));
                }
            }
        }
        let mut collector = Collector::<A> { gradients, found: Vec::new() };
        module.visit(&mut collector);
        Self {
            order: collector.found.iter().map(|(id, _)| *id).collect(),
            values: collector.found.into_iter().collect(),
            factor: 1.0,
        }
    }

    /// The gradient of one parameter, flattened.
    pub fn get(&self, id: ParamId) -> Option<Tensor<B, 1>> {
        self.values.get(&id).cloned().map(|grad| flat::<B>(self.times_factor(grad)))
    }

    fn times_factor(&self, grad: FloatTensor<B>) -> FloatTensor<B> {
        match self.factor == 1.0 {
            true => grad,
            false => B::float_mul_scalar(grad, self.factor.into()),
        }
    }

    /// Adds another micro-batch's gradients.
    pub fn add(&mut self, mut other: Self) {
        if self.factor != 1.0 {
            let values = std::mem::take(&mut self.values);
            self.values =
                values.into_iter().map(|(id, grad)| (id, self.times_factor(grad))).collect();
            self.factor = 1.0;
        }
        for id in std::mem::take(&mut other.order) {
            let Some(grad) = other.values.remove(&id) else { continue };
            let grad = other.times_factor(grad);
            let sum = match self.values.remove(&id) {
                Some(before) => B::float_add(before, grad),
                None => {
                    self.order.push(id);
                    grad
                }
            };
            self.values.insert(id, sum);
        }
    }

    /// The parameters that have one, in the module's order.
    pub(crate) fn ids(&self) -> &[ParamId] {
        &self.order
    }

    /// Gradients of these parameters, each of which comes once.
    pub(crate) fn of_values(values: impl IntoIterator<Item = (ParamId, Tensor<B, 1>)>) -> Self {
        let (order, values): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        let pairs = order.iter().copied().zip(values.into_iter().map(primitive));
        Self { values: pairs.collect(), order, factor: 1.0 }
    }

    /// Numbers that add up to the squared norm of all values together, before the factor.
    fn squares(&self) -> Option<Tensor<B, 1>> {
        let all = self.order.iter().filter_map(|id| self.values.get(id).cloned().map(flat::<B>));
        let all: Vec<_> = all.collect();
        (!all.is_empty()).then(|| fused::squared_norms(all))
    }

    /// Multiplies all gradients.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.factor *= factor;
    }

    /// Whether no gradient is infinite or not a number.
    pub fn is_finite(&self) -> bool {
        self.squares().is_none_or(|squares| {
            squares.into_data().iter::<f64>().sum::<f64>().is_finite() && self.factor.is_finite()
        })
    }
}

/// Hyperparameters of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWConfig {
    /// Decay of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay, for tensors of two or more dimensions except those that
    /// [`AdamW::without_decay`] names.
    pub weight_decay: f64,
}

impl AdamWConfig {
    /// The paper's: β = (0.9, 0.999), ε = 1e-8.
    pub fn new(weight_decay: f64) -> Self {
        Self { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay }
    }
}

/// Parameters of two or more dimensions that do not decay in any family, by the last part of their
/// names: tokens, and what stands for a position.
pub const NO_WEIGHT_DECAY: [&str; 7] = [
    "pos_embed",
    "cls_token",
    "dist_token",
    "reg_token",
    "register_tokens",
    "relative_position_bias_table",
    "absolute_pos_embed",
];

/// AdamW with decoupled weight decay. A parameter without a gradient is updated as if its gradient
/// were zero, as in the published code, where every candidate is in the graph.
#[derive(Debug, Clone)]
pub struct AdamW<B: FusedOps> {
    config: AdamWConfig,
    without_decay: Vec<String>,
    count: i32,
    /// Each in its parameter's shape, or flat.
    moments: BTreeMap<String, [FloatTensor<B>; 2]>,
}

impl<B: FusedOps> AdamW<B> {
    /// An optimiser before its first step. [`NO_WEIGHT_DECAY`] does not decay.
    pub fn new(config: AdamWConfig) -> Self {
        let without_decay = NO_WEIGHT_DECAY.map(String::from).to_vec();
        Self { config, without_decay, count: 0, moments: BTreeMap::new() }
    }

    /// The same where these parameters do not decay instead, named by the last part of their names.
    pub fn without_decay(self, without_decay: Vec<String>) -> Self {
        Self { without_decay, ..self }
    }

    /// The same on another device.
    pub fn on_device(&self, device: &B::Device) -> Self {
        let moved = |(name, moments): (&String, &[FloatTensor<B>; 2])| {
            (name.clone(), moments.clone().map(|moment| B::float_to_device(moment, device)))
        };
        Self { moments: self.moments.iter().map(moved).collect(), ..self.clone() }
    }

    /// Updates a module, by gradients whose joint norm is brought down to the limit, if there is one.
    pub fn step<A, M>(
        &mut self,
        module: M,
        gradients: &Gradients<B>,
        limit: Option<f64>,
        learning_rate: f64,
    ) -> M
    where
        A: TrainBackend<InnerBackend = B>,
        M: AutodiffModule<A>,
    {
        self.count += 1;
        let mut parameters = Parameters::<A>::default();
        module.visit(&mut parameters);
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for Parameter { id, name, value, matrix } in parameters.found {
            let shape = value.shape();
            let own = |x: FloatTensor<B>| in_shape::<B>(x, &shape);
            let zeros = || B::float_zeros(shape.clone(), &B::float_device(&value), FloatDType::F32);
            let moments = self.moments.remove(&name).map(|moments| moments.map(own));
            let [first, second] = moments.unwrap_or_else(|| [zeros(), zeros()]);
            let grad = gradients.values.get(&id).cloned().map(own);
            let decays = matrix && !self.without_decay.iter().any(|own| last_part(&name) == own);
            values.push(AdamWParameter { value, first, second, grad, decays });
            names.push((id, name));
        }
        let AdamWConfig { betas, epsilon, weight_decay } = self.config;
        let (count, grad_factor) = (self.count, gradients.factor);
        let step = AdamWStep { learning_rate, weight_decay, betas, epsilon, count, grad_factor };
        let clip =
            limit.and_then(|limit| Some(Clip { squares: primitive(gradients.squares()?), limit }));
        let mut updated = HashMap::new();
        for ((id, name), [value, first, second]) in
            names.into_iter().zip(fused::adamw_update::<B>(values, step, clip))
        {
            updated.insert(id, value);
            self.moments.insert(name, [first, second]);
        }
        module.map(&mut Updater::<A> { updated })
    }

    /// The moments, each flattened, named after their parameters with the prefixes `first.` and `second.`.
    pub fn state(&self) -> StateDict {
        let entries = self.moments.iter().flat_map(|(name, moments)| {
            ["first", "second"].into_iter().zip(moments).map(move |(prefix, moment)| {
                (format!("{prefix}.{name}"), flat::<B>(moment.clone()).into_data())
            })
        });
        entries.collect()
    }

    /// Number of steps taken.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Takes up where a saved optimiser stopped. Moments that are not there stay zero.
    pub fn restore(&mut self, count: i32, state: &StateDict, device: &B::Device) {
        self.count = count;
        self.moments.clear();
        for (name, first) in state {
            let Some(name) = name.strip_prefix("first.") else { continue };
            let Some(second) = state.get(&format!("second.{name}")) else { continue };
            let load = |data: &TensorData| B::float_from_data(data.clone(), device);
            self.moments.insert(name.to_string(), [load(first), load(second)]);
        }
    }
}

/// The last part of a parameter's name.
fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

struct Parameter<B: Backend> {
    id: ParamId,
    name: String,
    value: FloatTensor<B>,
    /// Whether it has two or more dimensions.
    matrix: bool,
}

/// Finds what is trained of a module.
#[derive(Default)]
struct Parameters<A: AutodiffBackend> {
    path: Path,
    found: Vec<Parameter<A::InnerBackend>>,
}

impl<A: AutodiffBackend> ModuleVisitor<A> for Parameters<A> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
        if param.is_require_grad() {
            let (name, _) = self.path.here();
            let value = primitive(param.val().inner());
            self.found.push(Parameter { id: param.id, name, value, matrix: D >= 2 });
        }
    }
}

/// Puts updated values in the parameters' places.
struct Updater<A: AutodiffBackend> {
    updated: HashMap<ParamId, FloatTensor<A::InnerBackend>>,
}

impl<A: AutodiffBackend> ModuleMapper<A> for Updater<A> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let Some(value) = self.updated.remove(&param.id) else { return param };
        param.map(|_| {
            let value = Tensor::from_primitive(TensorPrimitive::Float(value));
            Tensor::from_inner(value).require_grad()
        })
    }
}
