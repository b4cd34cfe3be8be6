//! A graph under construction: nodes, initialisers, and which tensors of the state dict went in.

use std::collections::BTreeSet;

use half::f16;

use super::proto::{self, Attribute, Node};
use crate::checkpoint::{HostTensor, StateDict, element_count};
use crate::error::Fault;

/// The values of an initialiser; weights stay where they are until they are written.
pub(super) enum Values<'a> {
    Weight(&'a HostTensor),
    /// A matrix, to be written transposed: PyTorch keeps `[out, in]`, MatMul wants `[in, out]`.
    Transposed(&'a HostTensor),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
}

/// A named constant of the graph.
pub(super) struct Initializer<'a> {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) values: Values<'a>,
    /// One of [`proto`]'s types.
    pub(super) data_type: i32,
}

pub(super) struct GraphBuilder<'a> {
    state: &'a StateDict,
    /// Whether weights and products are in float16.
    half: bool,
    used: BTreeSet<String>,
    pub(super) nodes: Vec<Node>,
    pub(super) initializers: Vec<Initializer<'a>>,
    constants: BTreeSet<String>,
}

impl<'a> GraphBuilder<'a> {
    pub(super) fn new(state: &'a StateDict, half: bool) -> Self {
        Self {
            state,
            half,
            used: BTreeSet::new(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            constants: BTreeSet::new(),
        }
    }

    /// The tensor `name`, which must have this shape.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<&'a HostTensor, Fault> {
        let advice = "The weights must be those of the network described, in the compact layout.";
        let tensor = self.state.get(name).ok_or_else(|| {
            Fault::invalid(format!("the tensor {name} of shape {shape:?}"), "none", advice)
        })?;
        if tensor.shape != shape || element_count(shape) != Some(tensor.data.len()) {
            return Err(Fault::invalid(
                format!("the tensor {name} of shape {shape:?}"),
                format!("shape {:?} with {} values", tensor.shape, tensor.data.len()),
                advice,
            ));
        }
        let largest = f16::MAX.to_f32();
        if self.half
            && let Some(x) = tensor.data.iter().find(|x| x.abs() > largest)
        {
            return Err(Fault::invalid(
                format!("values of {name} up to {largest}, float16's largest"),
                x.to_string(),
                "Write the network in float32.",
            ));
        }
        self.used.insert(name.to_owned());
        Ok(tensor)
    }

    /// Writes a constant unless one of this name is there; gives the name.
    fn constant(
        &mut self,
        name: String,
        dims: &[usize],
        data_type: i32,
        values: impl FnOnce() -> Values<'a>,
    ) -> String {
        if self.constants.insert(name.clone()) {
            let (name, dims) = (name.clone(), dims.to_vec());
            self.initializers.push(Initializer { name, dims, values: values(), data_type });
        }
        name
    }

    /// The type of weights and products.
    fn low(&self) -> i32 {
        if self.half { proto::FLOAT16 } else { proto::FLOAT }
    }

    /// A tensor of the low type in float32.
    pub(super) fn full(&mut self, x: &str, name: impl Into<String>) -> String {
        self.cast(x, name, proto::FLOAT)
    }

    /// What `compute` makes of a tensor of the low type, in float32 and under the name that it is told;
    /// comes back in the low type as `name`.
    pub(super) fn in_full(
        &mut self,
        x: &str,
        name: &str,
        compute: impl FnOnce(&mut Self, &str, String) -> Result<String, Fault>,
    ) -> Result<String, Fault> {
        let x = self.full(x, format!("{name}.from"));
        let inner = if self.half { format!("{name}.float32") } else { name.to_owned() };
        let out = compute(self, &x, inner)?;
        Ok(self.lowered(&out, name))
    }

    /// A tensor of float32 in the low type.
    pub(super) fn lowered(&mut self, x: &str, name: impl Into<String>) -> String {
        self.cast(x, name, proto::FLOAT16)
    }

    /// Where all is in float32, nothing is cast.
    fn cast(&mut self, x: &str, name: impl Into<String>, to: i32) -> String {
        match self.half {
            true => self.node("Cast", name, &[x], &[Attribute::int("to", i64::from(to))]),
            false => x.to_owned(),
        }
    }

    /// The name of what [`GraphBuilder::full`] turns into `name`.
    pub(super) fn before_full(&self, name: &str) -> String {
        if self.half { format!("{name}.float16") } else { name.to_owned() }
    }

    /// A tensor of the state dict under its own name; gives that name.
    pub(super) fn weight(&mut self, name: &str, shape: &[usize]) -> Result<String, Fault> {
        let tensor = self.tensor(name, shape)?;
        Ok(self.constant(name.into(), shape, self.low(), || Values::Weight(tensor)))
    }

    /// [`GraphBuilder::weight`] in float32 whatever the low type is.
    pub(super) fn full_weight(&mut self, name: &str, shape: &[usize]) -> Result<String, Fault> {
        let tensor = self.tensor(name, shape)?;
        Ok(self.constant(name.into(), shape, proto::FLOAT, || Values::Weight(tensor)))
    }

    /// The matrix `name`, `[out, in]` such as the weight of a linear layer, as `[in, out]`.
    pub(super) fn transposed(
        &mut self,
        name: &str,
        [out, inp]: [usize; 2],
    ) -> Result<String, Fault> {
        let tensor = self.tensor(name, &[out, inp])?;
        let name = format!("{name}.transposed");
        Ok(self.constant(name, &[inp, out], self.low(), || Values::Transposed(tensor)))
    }

    /// A list of integers, such as a shape or an axis. Equal lists are written once.
    pub(super) fn ints(&mut self, values: &[i64]) -> String {
        let list: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("const.ints.{}", list.join("_"));
        self.constant(name, &[values.len()], proto::INT64, || Values::Ints(values.to_vec()))
    }

    /// A number.
    pub(super) fn float(&mut self, name: &str, value: f32) -> String {
        self.constant(format!("const.{name}"), &[], self.low(), || Values::Floats(vec![value]))
    }

    /// A tensor that is computed here, in float32 whatever the low type is.
    pub(super) fn full_floats(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> String {
        self.constant(format!("const.{name}"), shape, proto::FLOAT, || Values::Floats(values))
    }

    /// A tensor that is computed here. Equal names must mean equal values: it is written once.
    pub(super) fn floats(
        &mut self,
        name: &str,
        shape: &[usize],
        values: impl FnOnce() -> Vec<f32>,
    ) -> String {
        self.constant(format!("const.{name}"), shape, self.low(), || Values::Floats(values()))
    }

    /// A node with one output, which is named like the node itself.
    pub(super) fn node(
        &mut self,
        op: &str,
        name: impl Into<String>,
        inputs: &[&str],
        attributes: &[Attribute],
    ) -> String {
        let name = name.into();
        self.node_with_outputs(op, &name, inputs, attributes, vec![name.clone()]);
        name
    }

    fn node_with_outputs(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: &[Attribute],
        output: Vec<String>,
    ) {
        self.nodes.push(Node {
            input: inputs.iter().map(|&s| s.to_owned()).collect(),
            output,
            name: name.to_owned(),
            op_type: op.to_owned(),
            attribute: attributes.to_vec(),
        });
    }

    /// x·Wᵀ + b over the last dimension, with the weights `{name}.weight` and `{name}.bias`, if it
    /// has one.
    pub(super) fn linear(
        &mut self,
        x: &str,
        name: &str,
        shape: [usize; 2],
        bias: bool,
    ) -> Result<String, Fault> {
        let weight = self.transposed(&format!("{name}.weight"), shape)?;
        if !bias {
            return Ok(self.node("MatMul", name, &[x, &weight], &[]));
        }
        let bias = self.weight(&format!("{name}.bias"), &shape[..1])?;
        let product = self.node("MatMul", format!("{name}.matmul"), &[x, &weight], &[]);
        Ok(self.node("Add", name, &[&product, &bias], &[]))
    }

    pub(super) fn reshape(&mut self, x: &str, name: String, shape: &[i64]) -> String {
        let shape = self.ints(shape);
        self.node("Reshape", name, &[x, &shape], &[])
    }

    pub(super) fn transpose(&mut self, x: &str, name: String, order: &[i64]) -> String {
        self.node("Transpose", name, &[x], &[Attribute::ints("perm", order)])
    }

    /// Rows `from..to` of the tokens (axis 1).
    pub(super) fn rows(&mut self, x: &str, name: String, from: usize, to: usize) -> String {
        let [from, to, axis] = [from, to, 1].map(|n| self.ints(&[n as i64]));
        self.node("Slice", name, &[x, &from, &to, &axis], &[])
    }

    /// Cuts the last axis into parts of equal lengths, under these names.
    pub(super) fn split<const N: usize>(
        &mut self,
        x: &str,
        name: &str,
        length: usize,
        parts: [String; N],
    ) -> [String; N] {
        let lengths = self.ints(&[length as i64; N]);
        let axis = [Attribute::int("axis", -1)];
        self.node_with_outputs("Split", name, &[x, &lengths], &axis, parts.to_vec());
        parts
    }

    /// These of `count` rows of the tokens (axis 1), zeros for `None`. `index` names the list: equal
    /// names must mean equal lists.
    pub(super) fn gather_rows(
        &mut self,
        x: &str,
        name: &str,
        index: &str,
        rows: &[Option<usize>],
        count: usize,
    ) -> String {
        if rows.len() == count && rows.iter().enumerate().all(|(i, row)| *row == Some(i)) {
            return x.to_owned();
        }
        let mut x = x.to_owned();
        if rows.contains(&None) {
            // The zeros are one more row, after the others.
            let after = self.ints(&[0, 0, 0, 0, 1, 0]);
            x = self.node("Pad", format!("{name}.padded"), &[&x, &after], &[]);
        }
        let list = || rows.iter().map(|row| row.unwrap_or(count) as i64).collect();
        self.gather(&x, name, index, rows.len(), 1, list)
    }

    /// Elements of an axis, by their places in it. `index` names the list of `count` places: equal
    /// names must mean equal lists.
    pub(super) fn gather(
        &mut self,
        x: &str,
        name: &str,
        index: &str,
        count: usize,
        axis: i64,
        places: impl FnOnce() -> Vec<i64>,
    ) -> String {
        let index = format!("const.{index}");
        let index = self.constant(index, &[count], proto::INT64, || Values::Ints(places()));
        self.node("Gather", name, &[x, &index], &[Attribute::int("axis", axis)])
    }

    /// [B, D, h, w] → [B, N, D]
    pub(super) fn tokens_of_map(
        &mut self,
        x: &str,
        name: &str,
        dim: usize,
        patches: usize,
    ) -> String {
        let flat = self.reshape(x, format!("{name}.flat"), &[0, dim as i64, patches as i64]);
        self.transpose(&flat, format!("{name}.tokens"), &[0, 2, 1])
    }

    /// Fails where the state dict holds a tensor that the network did not use.
    pub(super) fn check_all_used(&self) -> Result<(), Fault> {
        let extra: Vec<&String> =
            self.state.keys().filter(|name| !self.used.contains(*name)).collect();
        let Some(first) = extra.first() else {
            return Ok(());
        };
        Err(Fault::invalid(
            format!("the {} tensors of the network described", self.used.len()),
            format!("{} more, such as {first}", extra.len()),
            "Describe the network these weights belong to, or remove the extra tensors.",
        ))
    }
}
