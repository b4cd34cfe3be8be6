//! Normalisation of tokens, heads and weights of attention, in float32 whatever the products are in.

use super::graph::GraphBuilder;
use super::network::{NormKind, Normalisation};
use super::proto::Attribute;
use crate::error::Fault;

impl GraphBuilder<'_> {
    /// The norm `name` over the last dimension, of `dim` values.
    pub(super) fn norm(
        &mut self,
        x: &str,
        name: &str,
        dim: usize,
        norm: Normalisation,
    ) -> Result<String, Fault> {
        let weight = self.full_weight(&format!("{name}.weight"), &[dim])?;
        let epsilon = norm.epsilon as f32;
        self.in_full(x, name, |graph, x, out| match norm.kind {
            NormKind::Layer => {
                let bias = graph.full_weight(&format!("{name}.bias"), &[dim])?;
                let attributes = [Attribute::int("axis", -1), Attribute::float("epsilon", epsilon)];
                Ok(graph.node("LayerNormalization", out, &[x, &weight, &bias], &attributes))
            }
            // RMSNormalization came with opset 23, which few runtimes know.
            NormKind::Rms => {
                let epsilon =
                    graph.full_floats(&format!("epsilon.{epsilon:e}"), &[], vec![epsilon]);
                let square = graph.node("Mul", format!("{name}.square"), &[x, x], &[]);
                let last = [Attribute::ints("axes", &[-1]), Attribute::int("keepdims", 1)];
                let mean = graph.node("ReduceMean", format!("{name}.mean"), &[&square], &last);
                let sum = graph.node("Add", format!("{name}.sum"), &[&mean, &epsilon], &[]);
                let root = graph.node("Sqrt", format!("{name}.root"), &[&sum], &[]);
                let normal = graph.node("Div", format!("{name}.normal"), &[x, &root], &[]);
                Ok(graph.node("Mul", out, &[&normal, &weight], &[]))
            }
        })
    }

    /// Softmax over the last dimension.
    pub(super) fn softmax(&mut self, x: &str, name: &str) -> Result<String, Fault> {
        let axis = [Attribute::int("axis", -1)];
        self.in_full(x, name, |graph, x, out| Ok(graph.node("Softmax", out, &[x], &axis)))
    }

    /// Takes the tensors of a norm that changes nothing: checkpoints have them all the same.
    pub(super) fn unused_norm(
        &mut self,
        name: &str,
        dim: usize,
        norm: Normalisation,
    ) -> Result<(), Fault> {
        self.tensor(&format!("{name}.weight"), &[dim])?;
        if norm.kind == NormKind::Layer {
            self.tensor(&format!("{name}.bias"), &[dim])?;
        }
        Ok(())
    }
}
