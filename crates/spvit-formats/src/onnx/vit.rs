//! The vision transformer's forward, written down node by node.
//!
//! Shapes in comments: B images, N patches in h rows and w columns, T = N + 1 tokens, D values each,
//! H heads of d values.

use super::graph::GraphBuilder;
use super::network::{NetworkDescription, Operation};
use super::proto::Attribute;
use crate::error::Fault;

/// The name of the input, [B, C, height, width].
pub(super) const INPUT: &str = "input";
/// The name of the output, [B, classes].
pub(super) const OUTPUT: &str = "logits";

pub(super) fn build(graph: &mut GraphBuilder, net: &NetworkDescription) -> Result<(), Fault> {
    let mut x = embed(graph, net)?;
    for index in 0..net.blocks.len() {
        x = block(graph, net, index, &x)?;
    }
    // Only the class token is read, so only it is normalised. [B, 1, D] → [B, D]
    let class = graph.rows(&x, "class_token".into(), 0, 1);
    let class = graph.reshape(&class, "class_token.flat".into(), &[0, net.embed_dim as i64]);
    let class = graph.layer_norm(&class, "norm", net.embed_dim, net.layer_norm_eps)?;
    let weight = graph.weight("head.weight", &[net.num_classes, net.embed_dim])?;
    let bias = graph.weight("head.bias", &[net.num_classes])?;
    graph.node("Gemm", OUTPUT, &[&class, &weight, &bias], &[Attribute::int("transB", 1)]);
    graph.check_all_used()
}

/// [B, C, height, width] → [B, T, D]
fn embed(graph: &mut GraphBuilder, net: &NetworkDescription) -> Result<String, Fault> {
    let (dim, size) = (net.embed_dim, net.patch_size);
    let patches = net.patches();
    let name = "patch_embed.proj";
    let weight = graph.weight(&format!("{name}.weight"), &[dim, net.in_chans, size, size])?;
    let bias = graph.weight(&format!("{name}.bias"), &[dim])?;
    let side = [size as i64; 2];
    let attributes = [Attribute::ints("kernel_shape", &side), Attribute::ints("strides", &side)];
    let x = graph.node("Conv", name, &[INPUT, &weight, &bias], &attributes);
    let x = tokens(graph, &x, "patch_embed", net);
    // The class token is added to a row of zeros rather than joined to the patches: joining would
    // need the batch size, and with it operators on shapes that some runtimes handle badly.
    let class = graph.weight("cls_token", &[1, 1, dim])?;
    let position = graph.weight("pos_embed", &[1, patches + 1, dim])?;
    let after = graph.ints(&[0, 0, 0, 0, patches as i64, 0]);
    let class = graph.node("Pad", "cls_token.padded", &[&class, &after], &[]);
    let position = graph.node("Add", "pos_embed.with_class", &[&position, &class], &[]);
    let before = graph.ints(&[0, 1, 0, 0, 0, 0]);
    let x = graph.node("Pad", "patch_embed.padded", &[&x, &before], &[]);
    Ok(graph.node("Add", "embedding", &[&x, &position], &[]))
}

/// [B, D, h, w] → [B, N, D]
fn tokens(graph: &mut GraphBuilder, x: &str, name: &str, net: &NetworkDescription) -> String {
    let shape = [0, net.embed_dim as i64, net.patches() as i64];
    let flat = graph.reshape(x, format!("{name}.flat"), &shape);
    graph.transpose(&flat, format!("{name}.tokens"), &[0, 2, 1])
}

/// [B, T, D] → [B, T, D]
fn block(
    graph: &mut GraphBuilder,
    net: &NetworkDescription,
    index: usize,
    x: &str,
) -> Result<String, Fault> {
    let name = format!("blocks.{index}");
    let block = net.blocks[index];
    let (dim, eps) = (net.embed_dim, net.layer_norm_eps);
    let mut x = x.to_owned();
    let norm1 = format!("{name}.norm1");
    let attention = match block.operation {
        Operation::Shortcut if !net.shortcut_adds_norm1 => {
            // Checkpoints have this norm all the same, and it changes nothing.
            graph.tensor(&format!("{norm1}.weight"), &[dim])?;
            graph.tensor(&format!("{norm1}.bias"), &[dim])?;
            None
        }
        operation => {
            let normed = graph.layer_norm(&x, &norm1, dim, eps)?;
            Some(match operation {
                Operation::Shortcut => normed,
                Operation::BConv { kernel } => bconv(graph, net, &name, kernel, &normed)?,
                Operation::Msa => attention(graph, net, &name, &normed)?,
            })
        }
    };
    if let Some(attention) = attention {
        x = graph.node("Add", format!("{name}.attn.residual"), &[&x, &attention], &[]);
    }
    let ffn = ffn(graph, net, &name, block.hidden, &x)?;
    Ok(graph.node("Add", name, &[&x, &ffn], &[]))
}

/// softmax(QKᵀ/√d)V, projected. [B, T, D] → [B, T, D]
fn attention(
    graph: &mut GraphBuilder,
    net: &NetworkDescription,
    block: &str,
    x: &str,
) -> Result<String, Fault> {
    let name = format!("{block}.attn");
    let (dim, tokens) = (net.embed_dim, net.patches() as i64 + 1);
    let (heads, head_dim) = (net.num_heads as i64, net.head_dim() as i64);
    let qkv = graph.linear(x, &format!("{name}.qkv"), [3 * dim, dim])?;
    let lens = graph.ints(&[dim as i64; 3]);
    let parts = ["q", "k", "v"].map(|part| format!("{name}.{part}"));
    let axis = [Attribute::int("axis", -1)];
    graph.node_with_outputs(
        "Split",
        &format!("{name}.split"),
        &[&qkv, &lens],
        &axis,
        parts.to_vec(),
    );
    // [B, T, D] → [B, H, T, d], the keys [B, H, d, T]
    let mut by_head = |part: &str, order: &[i64]| {
        let split = graph.reshape(part, format!("{part}.heads"), &[0, tokens, heads, head_dim]);
        graph.transpose(&split, format!("{part}.by_head"), order)
    };
    let [q, k, v] = &parts;
    let q = by_head(q, &[0, 2, 1, 3]);
    let k = by_head(k, &[0, 2, 3, 1]);
    let v = by_head(v, &[0, 2, 1, 3]);
    let scale = graph.float("attention_scale", (net.head_dim() as f64).sqrt().recip() as f32);
    let q = graph.node("Mul", format!("{name}.q.scaled"), &[&q, &scale], &[]);
    let scores = graph.node("MatMul", format!("{name}.scores"), &[&q, &k], &[]);
    let weights = graph.node("Softmax", format!("{name}.softmax"), &[&scores], &axis);
    let mixed = graph.node("MatMul", format!("{name}.mixed"), &[&weights, &v], &[]);
    // [B, H, T, d] → [B, T, D]
    let mixed = graph.transpose(&mixed, format!("{name}.by_token"), &[0, 2, 1, 3]);
    let mixed = graph.reshape(&mixed, format!("{name}.joined"), &[0, tokens, dim as i64]);
    graph.linear(&mixed, &format!("{name}.proj"), [dim, dim])
}

/// Convolution to d channels, batch norm, ReLU, and 1×1 back to D, over the map of patches; the
/// class token's row is its input unchanged. [B, T, D] → [B, T, D]
fn bconv(
    graph: &mut GraphBuilder,
    net: &NetworkDescription,
    block: &str,
    kernel: usize,
    x: &str,
) -> Result<String, Fault> {
    let name = format!("{block}.attn.bconv");
    let (dim, inner) = (net.embed_dim, net.head_dim());
    let [rows, columns] = net.grid().map(|n| n as i64);
    let class = graph.rows(x, format!("{name}.class"), 0, 1);
    let patches = graph.rows(x, format!("{name}.patches"), 1, rows * columns + 1);
    let map = graph.transpose(&patches, format!("{name}.channels"), &[0, 2, 1]);
    let map = graph.reshape(&map, format!("{name}.map"), &[0, dim as i64, rows, columns]);
    let mut map = convolution(graph, &format!("{name}.0"), [inner, dim, kernel], &map)?;
    let norm = format!("{name}.1");
    let mut inputs = vec![map];
    for part in ["weight", "bias", "running_mean", "running_var"] {
        inputs.push(graph.weight(&format!("{norm}.{part}"), &[inner])?);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let eps = [Attribute::float("epsilon", net.bn_eps as f32)];
    map = graph.node("BatchNormalization", norm, &inputs, &eps);
    map = graph.node("Relu", format!("{name}.2"), &[&map], &[]);
    map = convolution(graph, &format!("{name}.3"), [dim, inner, 1], &map)?;
    let patches = tokens(graph, &map, &format!("{name}.out"), net);
    let axis = [Attribute::int("axis", 1)];
    Ok(graph.node("Concat", format!("{name}.joined"), &[&class, &patches], &axis))
}

/// A convolution that keeps the map's size.
fn convolution(
    graph: &mut GraphBuilder,
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

/// fc2(GELU(fc1(norm2(x)))), GELU by the error function. [B, T, D] → [B, T, D]
fn ffn(
    graph: &mut GraphBuilder,
    net: &NetworkDescription,
    block: &str,
    hidden: usize,
    x: &str,
) -> Result<String, Fault> {
    let name = format!("{block}.mlp");
    let dim = net.embed_dim;
    if hidden == 0 {
        // Nothing is computed from x, so no operator sees an empty matrix.
        let norm = format!("{block}.norm2");
        for (tensor, shape) in [
            (format!("{norm}.weight"), &[dim][..]),
            (format!("{norm}.bias"), &[dim]),
            (format!("{name}.fc1.weight"), &[0, dim]),
            (format!("{name}.fc1.bias"), &[0]),
            (format!("{name}.fc2.weight"), &[dim, 0]),
        ] {
            graph.tensor(&tensor, shape)?;
        }
        return graph.weight(&format!("{name}.fc2.bias"), &[dim]);
    }
    let x = graph.layer_norm(x, &format!("{block}.norm2"), dim, net.layer_norm_eps)?;
    let x = graph.linear(&x, &format!("{name}.fc1"), [hidden, dim])?;
    let (root, one) = (graph.float("sqrt2", std::f32::consts::SQRT_2), graph.float("one", 1.0));
    let half = graph.float("half", 0.5);
    let scaled = graph.node("Div", format!("{name}.gelu.scaled"), &[&x, &root], &[]);
    let erf = graph.node("Erf", format!("{name}.gelu.erf"), &[&scaled], &[]);
    let phi = graph.node("Add", format!("{name}.gelu.phi"), &[&erf, &one], &[]);
    let x = graph.node("Mul", format!("{name}.gelu.twice"), &[&x, &phi], &[]);
    let x = graph.node("Mul", format!("{name}.gelu"), &[&x, &half], &[]);
    graph.linear(&x, &format!("{name}.fc2"), [dim, hidden])
}
