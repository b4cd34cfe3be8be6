//! Normalisation of tokens and heads.

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
        let weight = self.weight(&format!("{name}.weight"), &[dim])?;
        let epsilon = norm.epsilon as f32;
        match norm.kind {
            NormKind::Layer => {
                let bias = self.weight(&format!("{name}.bias"), &[dim])?;
                let attributes = [Attribute::int("axis", -1), Attribute::float("epsilon", epsilon)];
                Ok(self.node("LayerNormalization", name, &[x, &weight, &bias], &attributes))
            }
            // RMSNormalization came with opset 23, which few runtimes know.
            NormKind::Rms => {
                let epsilon = self.float(&format!("epsilon.{epsilon:e}"), epsilon);
                let square = self.node("Mul", format!("{name}.square"), &[x, x], &[]);
                let last = [Attribute::ints("axes", &[-1]), Attribute::int("keepdims", 1)];
                let mean = self.node("ReduceMean", format!("{name}.mean"), &[&square], &last);
                let sum = self.node("Add", format!("{name}.sum"), &[&mean, &epsilon], &[]);
                let root = self.node("Sqrt", format!("{name}.root"), &[&sum], &[]);
                let normal = self.node("Div", format!("{name}.normal"), &[x, &root], &[]);
                Ok(self.node("Mul", name, &[&normal, &weight], &[]))
            }
        }
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
