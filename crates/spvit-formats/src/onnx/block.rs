//! A block's forward, written down node by node.
//!
//! Shapes in comments: B images, P prefix tokens and N patches in h rows and w columns, T = P + N
//! tokens, D values each, H heads of d values.

use super::attention::attention;
use super::ffn::ffn;
use super::graph::GraphBuilder;
use super::network::{BlockDescription, NetworkDescription, Operation};
use super::proto::Attribute;
use crate::error::Fault;

/// [B, T, D] → [B, T, D]. A block that adds nothing leaves no node.
pub(super) fn block(
    graph: &mut GraphBuilder<'_>,
    net: &NetworkDescription,
    block: &BlockDescription,
    x: String,
) -> Result<String, Fault> {
    let (name, dim) = (&block.name, block.dim);
    let norm1 = format!("{name}.norm1");
    let mixed = match block.operation {
        Operation::Shortcut if !block.shortcut_adds_norm => {
            graph.unused_norm(&norm1, dim, block.normalisation())?;
            gamma(graph, block, "ls1")?;
            None
        }
        operation => {
            let normal = graph.norm(&x, &norm1, dim, block.normalisation())?;
            Some(match operation {
                Operation::Shortcut => normal,
                Operation::BConv { kernel } => bconv(graph, net, block, kernel, &normal)?,
                Operation::Msa => attention(graph, block, &normal)?,
            })
        }
    };
    let x = match mixed {
        Some(mixed) => {
            let mixed = scaled(graph, block, "ls1", mixed)?;
            graph.node("Add", format!("{name}.attn.residual"), &[&x, &mixed], &[])
        }
        None => x,
    };
    match ffn(graph, block, &x)? {
        Some(ffn) => Ok(graph.node("Add", name, &[&x, &ffn], &[])),
        None => Ok(x),
    }
}

/// The values of a branch's LayerScale, [D].
pub(super) fn gamma<'a>(
    graph: &mut GraphBuilder<'a>,
    block: &BlockDescription,
    part: &str,
) -> Result<Option<&'a [f32]>, Fault> {
    if !block.layer_scale {
        return Ok(None);
    }
    let tensor = graph.tensor(&format!("{}.{part}.gamma", block.name), &[block.dim])?;
    Ok(Some(&tensor.data))
}

/// γ ⊙ x. [B, T, D] → [B, T, D]
pub(super) fn scaled(
    graph: &mut GraphBuilder<'_>,
    block: &BlockDescription,
    part: &str,
    x: String,
) -> Result<String, Fault> {
    if !block.layer_scale {
        return Ok(x);
    }
    let name = format!("{}.{part}", block.name);
    let gamma = graph.weight(&format!("{name}.gamma"), &[block.dim])?;
    Ok(graph.node("Mul", name, &[&x, &gamma], &[]))
}

/// Convolution to d channels, batch norm, ReLU, and 1×1 back to D, over the map of patches; the
/// prefix tokens' rows are those of its input. [B, T, D] → [B, T, D]
fn bconv(
    graph: &mut GraphBuilder<'_>,
    net: &NetworkDescription,
    block: &BlockDescription,
    kernel: usize,
    x: &str,
) -> Result<String, Fault> {
    let name = format!("{}.attn.bconv", block.name);
    let (dim, inner, prefix) = (block.dim, block.head_dim(), block.prefix_tokens);
    let [rows, columns] = block.map.map(|n| n as i64);
    let patches = match prefix {
        0 => x.to_owned(),
        _ => graph.rows(x, format!("{name}.patches"), prefix, prefix + block.patches()),
    };
    let map = graph.transpose(&patches, format!("{name}.channels"), &[0, 2, 1]);
    let map = graph.reshape(&map, format!("{name}.map"), &[0, dim as i64, rows, columns]);
    let mut map = convolution(graph, &format!("{name}.0"), [inner, dim, kernel], &map)?;
    let norm = format!("{name}.1");
    map = graph.in_full(&map, &norm, |graph, map, out| {
        let mut inputs = vec![map.to_owned()];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(graph.full_weight(&format!("{norm}.{part}"), &[inner])?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let epsilon = [Attribute::float("epsilon", net.batch_norm_epsilon as f32)];
        Ok(graph.node("BatchNormalization", out, &inputs, &epsilon))
    })?;
    map = graph.node("Relu", format!("{name}.2"), &[&map], &[]);
    map = convolution(graph, &format!("{name}.3"), [dim, inner, 1], &map)?;
    let patches = graph.tokens_of_map(&map, &format!("{name}.out"), dim, block.patches());
    if prefix == 0 {
        return Ok(patches);
    }
    let before = graph.rows(x, format!("{name}.prefix"), 0, prefix);
    let axis = [Attribute::int("axis", 1)];
    Ok(graph.node("Concat", format!("{name}.joined"), &[&before, &patches], &axis))
}

/// A convolution that keeps the map's size.
fn convolution(
    graph: &mut GraphBuilder<'_>,
    name: &str,
    [out, inp, kernel]: [usize; 3],
    x: &str,
) -> Result<String, Fault> {
    let weight = graph.weight(&format!("{name}.weight"), &[out, inp, kernel, kernel])?;
    let bias = graph.weight(&format!("{name}.bias"), &[out])?;
    let side = [kernel as i64; 2];
    let pads = [kernel as i64 / 2; 4];
    let attributes = [Attribute::ints("kernel_shape", &side), Attribute::ints("pads", &pads)];
    Ok(graph.node("Conv", name, &[x, &weight, &bias], &attributes))
}
