//! What is around the blocks: patches to tokens, the merging of tokens, and the classifier.
//!
//! Shapes in comments: B images, N patches, P prefix tokens, D values each.

use super::graph::GraphBuilder;
use super::network::{BlockDescription, NetworkDescription, Pool, Positions};
use super::pool::AttentionPool;
use super::proto::{self, Attribute};
use super::windows;
use super::{Form, OUTPUT};
use crate::error::Fault;

/// The normalised images in the low type. [B, channels, height, width], or bytes
/// [B, height, width, channels] → [B, channels, height, width]
pub(super) fn images(graph: &mut GraphBuilder<'_>, form: &Form) -> String {
    let input = form.input();
    let Some(normal) = &form.bytes else {
        return graph.lowered(input, "images");
    };
    let channels = [normal.mean.len()];
    let [factor, summand] = normal.of_bytes();
    let factor = graph.full_floats("images.factor", &channels, factor);
    let summand = graph.full_floats("images.summand", &channels, summand);
    let float = [Attribute::int("to", i64::from(proto::FLOAT))];
    let x = graph.node("Cast", "images.values", &[input], &float);
    let x = graph.node("Mul", "images.scaled", &[&x, &factor], &[]);
    let x = graph.node("Add", "images.normal", &[&x, &summand], &[]);
    let x = graph.transpose(&x, "images.by_channel".into(), &[0, 3, 1, 2]);
    graph.lowered(&x, "images")
}

/// [B, channels, height, width] → [B, P + N, D]
pub(super) fn embed(
    graph: &mut GraphBuilder<'_>,
    net: &NetworkDescription,
    images: &str,
) -> Result<String, Fault> {
    let (dim, size) = (net.dim, net.patch_size);
    let patches: usize = net.map().iter().product();
    let name = "patch_embed.proj";
    let weight = graph.weight(&format!("{name}.weight"), &[dim, net.channels, size, size])?;
    let mut inputs = vec![images.to_owned(), weight];
    if net.patch_bias {
        inputs.push(graph.weight(&format!("{name}.bias"), &[dim])?);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let side = [size as i64; 2];
    let attributes = [Attribute::ints("kernel_shape", &side), Attribute::ints("strides", &side)];
    let x = graph.node("Conv", name, &inputs, &attributes);
    let mut x = graph.tokens_of_map(&x, "patch_embed", dim, patches);
    if net.patch_norm {
        x = graph.norm(&x, "patch_embed.norm", dim, net.normalisation())?;
    }
    let prefix = net.prefix_tokens();
    if let Some(offsets) = offsets(graph, net)? {
        // The prefix tokens are added to rows of zeros rather than joined to the patches: joining
        // would need the batch size, and with it operators on shapes that some runtimes handle
        // badly.
        if prefix > 0 {
            let before = graph.ints(&[0, prefix as i64, 0, 0, 0, 0]);
            x = graph.node("Pad", "patch_embed.padded", &[&x, &before], &[]);
        }
        let offsets = graph.floats("embedding.offsets", &[1, prefix + patches, dim], || offsets);
        x = graph.node("Add", "embedding", &[&x, &offsets], &[]);
    }
    match net.pre_norm {
        true => graph.norm(&x, "norm_pre", dim, net.normalisation()),
        false => Ok(x),
    }
}

/// What is added to the patches after P rows of zeros, [P + N, D]: prefix tokens and positions.
fn offsets(
    graph: &mut GraphBuilder<'_>,
    net: &NetworkDescription,
) -> Result<Option<Vec<f32>>, Fault> {
    let (dim, prefix) = (net.dim, net.prefix_tokens());
    let rows = net.map().iter().product::<usize>() + prefix;
    let tokens = [
        ("cls_token", usize::from(net.class_token)),
        ("dist_token", usize::from(net.distilled)),
        ("reg_token", net.registers),
    ];
    let mut out = Vec::with_capacity(rows * dim);
    for (name, count) in tokens.into_iter().filter(|(_, count)| *count > 0) {
        out.extend_from_slice(&graph.tensor(name, &[1, count, dim])?.data);
    }
    out.resize(rows * dim, 0.0);
    let from = match net.positions {
        Positions::None => return Ok((prefix > 0).then_some(out)),
        Positions::Patches => prefix,
        Positions::All => 0,
    };
    let positions = graph.tensor("pos_embed", &[1, rows - from, dim])?;
    out[from * dim..].iter_mut().zip(&positions.data).for_each(|(x, position)| *x += position);
    Ok(Some(out))
}

/// Four neighbouring tokens become one, after a block.
/// [B, rows·columns, D] → [B, ⌈rows/2⌉·⌈columns/2⌉, 2·D]
pub(super) fn merge(
    graph: &mut GraphBuilder<'_>,
    name: &str,
    after: &BlockDescription,
    x: &str,
) -> Result<String, Fault> {
    let [rows, columns] = after.map;
    let cells = windows::cells(after.map);
    let tokens = cells.len() / 4;
    let x = graph.gather_rows(
        x,
        &format!("{name}.cells"),
        &format!("cells.{rows}x{columns}"),
        &cells,
        after.patches(),
    );
    let dim = 4 * after.dim;
    let x = graph.reshape(&x, format!("{name}.joined"), &[0, tokens as i64, dim as i64]);
    let x = graph.norm(&x, &format!("{name}.norm"), dim, after.normalisation())?;
    graph.linear(&x, &format!("{name}.reduction"), [dim / 2, dim], false)
}

/// [B, P + N, D] → logits [B, classes], in float32
pub(super) fn classify(
    graph: &mut GraphBuilder<'_>,
    net: &NetworkDescription,
    x: String,
    patches: usize,
) -> Result<(), Fault> {
    let logits = graph.before_full(OUTPUT);
    to_logits(graph, net, x, patches, &logits)?;
    graph.full(&logits, OUTPUT);
    Ok(())
}

fn to_logits(
    graph: &mut GraphBuilder<'_>,
    net: &NetworkDescription,
    x: String,
    patches: usize,
    logits: &str,
) -> Result<(), Fault> {
    let dim = net.last_dim();
    let norm = |graph: &mut GraphBuilder<'_>, x: String, name: &str, there: bool| match there {
        true => graph.norm(&x, name, dim, net.normalisation()),
        false => Ok(x),
    };
    let prefix = net.prefix_tokens();
    let flat = [0, dim as i64];
    if net.pool != Pool::Token {
        let all = norm(graph, x, "norm", net.norm)?;
        let x = match prefix > 0 && !net.pool_prefix {
            true => graph.rows(&all, "patches".into(), prefix, prefix + patches),
            false => all.clone(),
        };
        let tokens = patches + if net.pool_prefix { prefix } else { 0 };
        let x = match AttentionPool::of(net, dim, tokens) {
            Some(pool) => pool.apply(graph, &x)?,
            None => {
                let attributes = [Attribute::ints("axes", &[1]), Attribute::int("keepdims", 0)];
                graph.in_full(&x, "pooled", |graph, x, out| {
                    Ok(graph.node("ReduceMean", out, &[x], &attributes))
                })?
            }
        };
        if net.pool == Pool::TokenAverage {
            let token = graph.rows(&all, "class_token".into(), 0, 1);
            let token = graph.reshape(&token, "class_token.flat".into(), &flat);
            let axis = [Attribute::int("axis", 1)];
            let both = graph.node("Concat", "class_token.pooled", &[&token, &x], &axis);
            return head(graph, net, &net.head, logits, &both, 2 * dim);
        }
        let x = norm(graph, x, "fc_norm", net.fc_norm)?;
        if net.distilled {
            // There is such a classifier, but no token that it is for.
            graph.tensor("head_dist.weight", &[net.classes, dim])?;
            graph.tensor("head_dist.bias", &[net.classes])?;
        }
        return head(graph, net, &net.head, logits, &x, dim);
    }
    // Only the tokens that a classifier reads are normalised.
    let count = if net.distilled { 2 } else { 1 };
    let x = graph.rows(&x, "class_tokens".into(), 0, count);
    let x = norm(graph, x, "norm", net.norm)?;
    let x = norm(graph, x, "fc_norm", net.fc_norm)?;
    if !net.distilled {
        let x = graph.reshape(&x, "class_tokens.flat".into(), &flat);
        return head(graph, net, &net.head, logits, &x, dim);
    }
    for (i, name) in [net.head.as_str(), "head_dist"].into_iter().enumerate() {
        let token = graph.rows(&x, format!("{name}.token"), i, i + 1);
        let token = graph.reshape(&token, format!("{name}.flat"), &flat);
        head(graph, net, name, name, &token, dim)?;
    }
    let sum = graph.node("Add", "logits.sum", &[&net.head, "head_dist"], &[]);
    let half = graph.float("half", 0.5);
    graph.node("Mul", logits, &[&sum, &half], &[]);
    Ok(())
}

/// [B, D] → [B, classes]
fn head(
    graph: &mut GraphBuilder<'_>,
    net: &NetworkDescription,
    name: &str,
    output: &str,
    x: &str,
    dim: usize,
) -> Result<(), Fault> {
    let weight = graph.weight(&format!("{name}.weight"), &[net.classes, dim])?;
    let bias = graph.weight(&format!("{name}.bias"), &[net.classes])?;
    graph.node("Gemm", output, &[x, &weight, &bias], &[Attribute::int("transB", 1)]);
    Ok(())
}
