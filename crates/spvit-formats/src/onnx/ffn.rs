//! Feed-forward networks, plain and gated, written down node by node.
//!
//! Shapes in comments: B images, T tokens, D values each, F hidden dimensions.

use super::block::{gamma, scaled};
use super::graph::GraphBuilder;
use super::network::{Activation, BlockDescription, Ffn};
use crate::error::Fault;

/// What the FFN adds, or nothing: γ2 ⊙ fc2(norm(a(fc1(norm2(x))))). [B, T, D] → [B, T, D] or [D]
pub(super) fn ffn(
    graph: &mut GraphBuilder<'_>,
    block: &BlockDescription,
    x: &str,
) -> Result<Option<String>, Fault> {
    let (name, norm2) = (format!("{}.mlp", block.name), format!("{}.norm2", block.name));
    let (dim, hidden, norm) = (block.dim, block.hidden, block.normalisation());
    if hidden == 0 {
        graph.unused_norm(&norm2, dim, norm)?;
        let bias = graph.tensor(&format!("{name}.bias"), &[dim])?;
        let values = match gamma(graph, block, "ls2")? {
            Some(gamma) => bias.data.iter().zip(gamma).map(|(b, g)| b * g).collect(),
            None => bias.data.clone(),
        };
        let adds = values.iter().any(|&value| value != 0.0);
        return Ok(adds.then(|| graph.floats(&format!("{name}.bias"), &[dim], || values)));
    }
    let x = graph.norm(x, &norm2, dim, norm)?;
    let mut x = hidden_values(graph, block, &name, &x)?;
    if block.mlp_norm {
        x = graph.norm(&x, &format!("{name}.norm"), hidden, norm)?;
    }
    let x = graph.linear(&x, &format!("{name}.fc2"), [dim, hidden], true)?;
    scaled(graph, block, "ls2", x).map(Some)
}

/// a(fc1(x)), or a(g) ⊙ x of both maps. [B, T, D] → [B, T, F]
fn hidden_values(
    graph: &mut GraphBuilder<'_>,
    block: &BlockDescription,
    name: &str,
    x: &str,
) -> Result<String, Fault> {
    let (dim, hidden) = (block.dim, block.hidden);
    let [g_name, x_name] = ["g", "x"].map(|part| format!("{name}.fc1_{part}"));
    let both = |graph: &mut GraphBuilder<'_>, parts: [String; 2]| -> Result<_, Fault> {
        let fc1 = format!("{name}.fc1");
        let both = graph.linear(x, &fc1, [2 * hidden, dim], true)?;
        Ok(graph.split(&both, &format!("{fc1}.split"), hidden, parts))
    };
    let [g, x] = match block.ffn {
        Ffn::Plain => {
            let x = graph.linear(x, &format!("{name}.fc1"), [hidden, dim], true)?;
            return Ok(activation(graph, name, block.activation, &x));
        }
        Ffn::GateFirst => both(graph, [g_name, x_name])?,
        Ffn::GateLast => {
            let [x, g] = both(graph, [x_name, g_name])?;
            [g, x]
        }
        Ffn::Split => [
            graph.linear(x, &g_name, [hidden, dim], true)?,
            graph.linear(x, &x_name, [hidden, dim], true)?,
        ],
    };
    let gate = activation(graph, name, block.activation, &g);
    Ok(graph.node("Mul", format!("{name}.gated"), &[&gate, &x], &[]))
}

/// Every element by itself.
pub(super) fn activation(
    graph: &mut GraphBuilder<'_>,
    name: &str,
    kind: Activation,
    x: &str,
) -> String {
    let part = |what: &str| format!("{name}.act.{what}");
    let out = format!("{name}.act");
    // x·σ(g)
    let gated = |graph: &mut GraphBuilder<'_>, g: &str| {
        let gate = graph.node("Sigmoid", part("gate"), &[g], &[]);
        graph.node("Mul", out.as_str(), &[x, &gate], &[])
    };
    match kind {
        Activation::Relu => graph.node("Relu", out, &[x], &[]),
        Activation::Silu => gated(graph, x),
        Activation::Tanh => graph.node("Tanh", out, &[x], &[]),
        Activation::QuickGelu => {
            let factor = graph.float("quick_gelu", 1.702);
            let g = graph.node("Mul", part("scaled"), &[x, &factor], &[]);
            gated(graph, &g)
        }
        Activation::GeluTanh => {
            // (1 + tanh u)/2 is σ(2u), with u = √(2/π)·(x + 0.044715·x³).
            let cubic = graph.float("gelu_cubic", 0.044_715);
            let one = graph.float("one", 1.0);
            let twice_root = graph.float("gelu_twice_root", 1.595_769);
            let g = graph.node("Mul", part("square"), &[x, x], &[]);
            let g = graph.node("Mul", part("cubic"), &[&g, &cubic], &[]);
            let g = graph.node("Add", part("cubic_and_one"), &[&g, &one], &[]);
            let g = graph.node("Mul", part("inner"), &[&g, x], &[]);
            let g = graph.node("Mul", part("scaled"), &[&g, &twice_root], &[]);
            gated(graph, &g)
        }
        Activation::Gelu => {
            let root = graph.float("sqrt2", std::f32::consts::SQRT_2);
            let (one, half) = (graph.float("one", 1.0), graph.float("half", 0.5));
            let scaled = graph.node("Div", part("scaled"), &[x, &root], &[]);
            let erf = graph.node("Erf", part("erf"), &[&scaled], &[]);
            let phi = graph.node("Add", part("phi"), &[&erf, &one], &[]);
            let x = graph.node("Mul", part("twice"), &[x, &phi], &[]);
            graph.node("Mul", out, &[&x, &half], &[])
        }
    }
}
