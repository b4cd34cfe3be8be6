//! Attention pooling, written down node by node.
//!
//! Shapes in comments: B images, T tokens, D values each, H heads of d values.

use super::ffn::activation;
use super::graph::GraphBuilder;
use super::network::{Activation, NetworkDescription, Normalisation, Pool};
use crate::error::Fault;

const NAME: &str = "attn_pool";

/// One learned query attends to all tokens, and an FFN follows.
pub(super) struct AttentionPool {
    dim: usize,
    tokens: usize,
    heads: usize,
    hidden: usize,
    activation: Activation,
    qk_norm: bool,
    norm: Normalisation,
}

impl AttentionPool {
    /// The network's, of so many tokens of `dim` values, if it has one.
    pub(super) fn of(net: &NetworkDescription, dim: usize, tokens: usize) -> Option<Self> {
        let Pool::Attention { heads, hidden, activation, qk_norm } = net.pool else {
            return None;
        };
        let norm = net.normalisation();
        Some(Self { dim, tokens, heads, hidden, activation, qk_norm, norm })
    }

    /// y + FFN(norm y), y = proj(softmax(q·Kᵀ/√d)·V). [B, T, D] → [B, D]
    pub(super) fn apply(&self, graph: &mut GraphBuilder<'_>, x: &str) -> Result<String, Fault> {
        let (dim, d) = (self.dim, self.dim / self.heads);
        let name = |part: &str| format!("{NAME}.{part}");
        let latent = graph.weight(&name("latent"), &[1, 1, dim])?;
        // The query is the same for every image: runtimes compute it once.
        let q = graph.linear(&latent, &name("q"), [dim, dim], true)?;
        let kv = graph.linear(x, &name("kv"), [2 * dim, dim], true)?;
        let [k, v] = graph.split(&kv, &name("split"), dim, [name("k"), name("v")]);
        let q = self.by_head(graph, &q, 1, &[0, 2, 1, 3], self.qk_norm)?;
        let k = self.by_head(graph, &k, self.tokens, &[0, 2, 3, 1], self.qk_norm)?;
        let v = self.by_head(graph, &v, self.tokens, &[0, 2, 1, 3], false)?;
        let scale = (d as f64).sqrt().recip() as f32;
        let scale = graph.float(&format!("attention_scale.{d}"), scale);
        let q = graph.node("Mul", name("q.scaled"), &[&q, &scale], &[]);
        // [1, H, 1, d] · [B, H, d, T]
        let scores = graph.node("MatMul", name("scores"), &[&q, &k], &[]);
        let weights = graph.softmax(&scores, &name("softmax"))?;
        let mixed = graph.node("MatMul", name("mixed"), &[&weights, &v], &[]);
        let mixed = graph.reshape(&mixed, name("joined"), &[0, dim as i64]);
        let y = graph.linear(&mixed, &name("proj"), [dim, dim], true)?;
        let x = graph.norm(&y, &name("norm"), dim, self.norm)?;
        let mlp = name("mlp");
        let x = graph.linear(&x, &format!("{mlp}.fc1"), [self.hidden, dim], true)?;
        let x = activation(graph, &mlp, self.activation, &x);
        let x = graph.linear(&x, &format!("{mlp}.fc2"), [dim, self.hidden], true)?;
        Ok(graph.node("Add", NAME, &[&y, &x], &[]))
    }

    /// [B, t, D], as heads in this order of axes.
    fn by_head(
        &self,
        graph: &mut GraphBuilder<'_>,
        part: &str,
        tokens: usize,
        order: &[i64],
        normed: bool,
    ) -> Result<String, Fault> {
        let d = self.dim / self.heads;
        let shape = [0, tokens, self.heads, d].map(|n| n as i64);
        let mut x = graph.reshape(part, format!("{part}.heads"), &shape);
        if normed {
            x = graph.norm(&x, &format!("{part}_norm"), d, self.norm)?;
        }
        Ok(graph.transpose(&x, format!("{part}.by_head"), order))
    }
}
