//! Attention's forward, of whole sequences or in windows, written down node by node.
//!
//! Shapes in comments: B images, W windows, T tokens of a sequence and t of what is attended to (a
//! window or the sequence), D values each, H kept heads of d values. I is B·W, or B without windows.

use super::graph::GraphBuilder;
use super::network::BlockDescription;
use super::rope::Rope;
use super::windows::{self, Windows};
use crate::error::Fault;

/// softmax(QKᵀ/√d + bias)V, projected. [B, T, D] → [B, T, D]
pub(super) fn attention(
    graph: &mut GraphBuilder<'_>,
    block: &BlockDescription,
    x: &str,
) -> Result<String, Fault> {
    let name = format!("{}.attn", block.name);
    let width = block.heads_width();
    let windows = block.window.map(|window| Windows::new(block, window));
    let (x, tokens) = match &windows {
        Some(windows) => (cut(graph, block, windows, &name, x), windows.tokens()),
        None => (x.to_owned(), block.tokens()),
    };
    let [q, k, v] = heads(graph, block, &name, &x, tokens as i64)?;
    let scale = graph.float(
        &format!("attention_scale.{}", block.head_dim()),
        (block.head_dim() as f64).sqrt().recip() as f32,
    );
    let q = graph.node("Mul", format!("{name}.q.scaled"), &[&q, &scale], &[]);
    let mut scores = graph.node("MatMul", format!("{name}.scores"), &[&q, &k], &[]);
    if let Some(windows) = &windows {
        scores = with_bias(graph, block, windows, &name, &scores)?;
    } else if block.relative_positions {
        let bias = sequence_bias(graph, block, &name)?;
        scores = graph.node("Add", format!("{name}.scores.biased"), &[&scores, &bias], &[]);
    }
    let weights = graph.softmax(&scores, &format!("{name}.softmax"))?;
    let mixed = graph.node("MatMul", format!("{name}.mixed"), &[&weights, &v], &[]);
    // [I, H, t, d] → [I, t, D]
    let mixed = graph.transpose(&mixed, format!("{name}.by_token"), &[0, 2, 1, 3]);
    let mut mixed =
        graph.reshape(&mixed, format!("{name}.joined"), &[0, tokens as i64, width as i64]);
    if block.attn_norm {
        mixed = graph.norm(&mixed, &format!("{name}.norm"), width, block.normalisation())?;
    }
    let out = graph.linear(&mixed, &format!("{name}.proj"), [block.dim, width], true)?;
    Ok(match &windows {
        Some(windows) => join(graph, block, windows, &name, &out),
        None => out,
    })
}

/// Q and V by head, [I, H, t, d], and K transposed, [I, H, d, t], from [I, t, D].
fn heads(
    graph: &mut GraphBuilder<'_>,
    block: &BlockDescription,
    name: &str,
    x: &str,
    tokens: i64,
) -> Result<[String; 3], Fault> {
    let (heads, head_dim) = (block.kept_heads as i64, block.head_dim());
    let width = block.heads_width();
    let shape = [3 * width, block.dim];
    let qkv = graph.linear(x, &format!("{name}.qkv"), shape, block.qkv_bias)?;
    let parts = ["q", "k", "v"].map(|part| format!("{name}.{part}"));
    let [q, k, v] = graph.split(&qkv, &format!("{name}.split"), width, parts);
    let rope = Rope::of(block);
    let mut by_head = |part: &str, order: &[i64], compared: bool| -> Result<String, Fault> {
        let shape = [0, tokens, heads, head_dim as i64];
        let mut x = graph.reshape(part, format!("{part}.heads"), &shape);
        if compared && block.qk_norm {
            x = graph.norm(&x, &format!("{part}_norm"), head_dim, block.normalisation())?;
        }
        if let (true, Some(rope)) = (compared, &rope) {
            x = rope.turn(graph, &x, part);
        }
        Ok(graph.transpose(&x, format!("{part}.by_head"), order))
    };
    Ok([
        by_head(&q, &[0, 2, 1, 3], true)?,
        by_head(&k, &[0, 2, 3, 1], true)?,
        by_head(&v, &[0, 2, 1, 3], false)?,
    ])
}

/// [B, T, D] → [B·W, t, D]
fn cut(
    graph: &mut GraphBuilder<'_>,
    block: &BlockDescription,
    windows: &Windows,
    name: &str,
    x: &str,
) -> String {
    let index = format!("{}.cut", windows.name());
    let (rows, tokens) = (windows.partition(), windows.tokens() as i64);
    let x = graph.gather_rows(x, &format!("{name}.cut"), &index, &rows, block.patches());
    match windows.count() {
        1 => x,
        _ => graph.reshape(&x, format!("{name}.windows"), &[-1, tokens, block.dim as i64]),
    }
}

/// The reverse of [`cut`].
fn join(
    graph: &mut GraphBuilder<'_>,
    block: &BlockDescription,
    windows: &Windows,
    name: &str,
    x: &str,
) -> String {
    let tokens = windows.count() * windows.tokens();
    let x = match windows.count() {
        1 => x.to_owned(),
        _ => {
            let shape = [-1, tokens as i64, block.dim as i64];
            graph.reshape(x, format!("{name}.images"), &shape)
        }
    };
    let index = format!("{}.join", windows.name());
    graph.gather_rows(&x, &format!("{name}.map"), &index, &windows.reverse(), tokens)
}

/// The bias of relative positions in a sequence of a class token and a map. [1, H, T, T]
fn sequence_bias(
    graph: &mut GraphBuilder<'_>,
    block: &BlockDescription,
    name: &str,
) -> Result<String, Fault> {
    let (t, [rows, columns]) = (block.tokens(), block.map);
    let table = format!("{name}.relative_position_bias_table");
    let table = graph.transposed(&table, [windows::sequence_rows(block.map), block.kept_heads])?;
    // Runtimes look it up once: stored, the biases of a large map would be as large as the weights,
    // and the places are the same for all blocks.
    let bias = format!("{name}.relative_position_bias");
    let index = format!("relative_positions.{rows}x{columns}");
    let looked_up = graph.gather(&table, &format!("{bias}.values"), &index, t * t, 1, || {
        windows::sequence_places(block.map)
    });
    let [h, t] = [block.kept_heads, t].map(|n| n as i64);
    Ok(graph.reshape(&looked_up, bias, &[1, h, t, t]))
}

/// Adds the bias of relative positions, and in shifted windows the mask. [B·W, H, t, t]
fn with_bias(
    graph: &mut GraphBuilder<'_>,
    block: &BlockDescription,
    windows: &Windows,
    name: &str,
    scores: &str,
) -> Result<String, Fault> {
    let (heads, t, count) = (block.kept_heads, windows.tokens(), windows.count());
    let table = format!("{name}.relative_position_bias_table");
    let table = graph.tensor(&table, &[windows.table_rows(), heads])?;
    let bias = format!("{name}.relative_position_bias");
    let mut bias = graph.floats(&bias, &[1, heads, t, t], || windows.bias(&table.data, heads));
    let added = format!("{name}.scores.biased");
    if !windows.shifted() {
        return Ok(graph.node("Add", added, &[scores, &bias], &[]));
    }
    // A sum of two constants, which runtimes compute once: stored as one it would be as large as
    // both multiplied.
    let mask = format!("{}.mask", windows.name());
    let mask = graph.floats(&mask, &[count, 1, t, t], || windows.mask());
    bias = graph.node("Add", format!("{name}.bias_and_mask"), &[&bias, &mask], &[]);
    let [h, t, w] = [heads, t, count].map(|n| n as i64);
    let split = graph.reshape(scores, format!("{name}.scores.windows"), &[-1, w, h, t, t]);
    let sum = graph.node("Add", added, &[&split, &bias], &[]);
    Ok(graph.reshape(&sum, format!("{name}.scores.items"), &[-1, h, t, t]))
}
