//! Multiply-adds and parameters of a model's shape.

use spvit_layers::{BlockShape, Family, ModelConfig, Operation, Pool, QkvBias};

use super::{BlockCost, CostTable, Unit};

/// Tokens that attention looks at together, and how many such groups there are.
fn groups(shape: &BlockShape) -> [u64; 2] {
    let [groups, tokens] = match shape.window {
        Some(window) => {
            let counts = [0, 1].map(|axis| shape.map[axis].div_ceil(window.size[axis]));
            [counts[0] * counts[1], window.size[0] * window.size[1]]
        }
        None => [1, shape.tokens()],
    };
    [groups as u64, tokens as u64]
}

/// Q, K, V, the two products of attention, and the output projection.
fn attention(shape: &BlockShape) -> u64 {
    let ([groups, t], d) = (groups(shape), shape.dim as u64);
    groups * (4 * t * d * d + 2 * d * t * t)
}

/// What of a cost is one head's, of attention that may lose heads.
fn per_head(shape: &BlockShape, all: u64) -> u64 {
    if shape.searches_attention() { all / shape.heads as u64 } else { 0 }
}

/// A convolution to one head's width, and a 1×1 convolution back.
fn convolution(shape: &BlockShape, kernel: usize) -> u64 {
    let [d, h, n] = [shape.dim, shape.head_dim(), shape.patches()].map(|x| x as u64);
    ((kernel * kernel) as u64 + 1) * d * h * n
}

/// A block's costs from those of its parts.
fn block(
    config: &ModelConfig,
    shape: &BlockShape,
    operation: impl Fn(Operation) -> u64,
    head: u64,
    [hidden_dimension, ffn_fixed]: [u64; 2],
    fixed: [u64; 2],
) -> BlockCost {
    let all = [Operation::Shortcut].into_iter().chain(config.operations());
    let all = all.filter(|choice| shape.searches_attention() || *choice == Operation::Msa);
    BlockCost {
        operations: all.map(|choice| (choice, operation(choice) as f64)).collect(),
        fixed: fixed.map(|cost| cost as f64),
        hidden_dimension: hidden_dimension as f64,
        ffn_fixed: ffn_fixed as f64,
        hidden: shape.hidden,
        searches_ffn: shape.searches_ffn(),
        head: head as f64,
        heads: shape.heads,
        searches_heads: false,
    }
}

/// Products of the patch embedding.
fn embedding(config: &ModelConfig) -> u64 {
    let n: usize = config.map().iter().product();
    (n * config.embed_dim() * config.channels() * config.patch_size().pow(2)) as u64
}

/// Eqs. 14 and 15.
pub(super) fn paper(config: &ModelConfig) -> CostTable {
    let shapes = config.blocks();
    let blocks = shapes.iter().map(|shape| {
        let operation = |operation| match operation {
            Operation::Shortcut => 0,
            Operation::BConv(kernel) => convolution(shape, kernel),
            Operation::Msa => attention(shape),
        };
        let maps = shape.style.ffn_maps() as u64 + 1;
        let hidden_dimension = maps * (shape.patches() * shape.dim) as u64;
        let norm = (shape.dim * shape.tokens()) as u64;
        let head = per_head(shape, attention(shape));
        block(config, shape, operation, head, [hidden_dimension, 0], [norm; 2])
    });
    let [features, classes] = [config.features(), config.classes()].map(|x| x as u64);
    let (mut embedding, mut head) = (embedding(config), features * classes + pool(config)[0]);
    if let Family::Swin(swin) = &config.family {
        let n: usize = config.map().iter().product();
        embedding += (n * config.embed_dim()) as u64;
        head += features * n as u64 / (1 << swin.depths.len());
    }
    table(Unit::Flops, [embedding, mergings(config, merging), head], blocks.collect())
}

/// Products of an attention pool, the latent's once for each image, and elements of its norms.
fn pool(config: &ModelConfig) -> [u64; 2] {
    let Some(vit) = config.as_vit().filter(|vit| vit.pool == Pool::Map) else { return [0; 2] };
    let [d, hidden] = [vit.dim, vit.pool_hidden()].map(|x| x as u64);
    let prefix = if vit.pool_prefix { vit.prefix_tokens() } else { 0 };
    let t = (vit.patches() + prefix) as u64;
    let products = d * d + 2 * t * d * d + 2 * t * d + d * d + 2 * d * hidden;
    let qk_norm = if vit.pool_qk_norm { (1 + t) * d } else { 0 };
    [products, d + qk_norm]
}

/// Trained values of an attention pool.
fn pool_parameters(config: &ModelConfig) -> u64 {
    let Some(vit) = config.as_vit().filter(|vit| vit.pool == Pool::Map) else { return 0 };
    let [d, hidden, norm] = [vit.dim, vit.pool_hidden(), vit.style.norm_values()].map(|x| x as u64);
    let qk_norm = if vit.pool_qk_norm { 2 * norm * (d / vit.pool_heads() as u64) } else { 0 };
    let maps = (d + 1) * 4 * d + (d + 1) * hidden + (hidden + 1) * d;
    d + maps + norm * d + qk_norm
}

fn table(unit: Unit, [embedding, merging, head]: [u64; 3], blocks: Vec<BlockCost>) -> CostTable {
    let [embedding, merging, head] = [embedding, merging, head].map(|cost| cost as f64);
    CostTable { unit, embedding, merging, head, blocks }
}

/// All mergings by the cost of one after a block.
fn mergings(config: &ModelConfig, cost: fn(&BlockShape) -> u64) -> u64 {
    let shapes = config.blocks();
    config.merges().iter().map(|&i| cost(&shapes[i])).sum()
}

/// Norm and products of a patch merging after a block.
fn merging(shape: &BlockShape) -> u64 {
    let [rows, columns] = shape.map.map(|side| side.div_ceil(2));
    let (cells, d) = ((rows * columns) as u64, shape.dim as u64);
    cells * 4 * d + cells * 8 * d * d
}

/// A true count. A block's first norm belongs to its operation, as a shortcut needs none.
pub(super) fn macs(config: &ModelConfig) -> CostTable {
    let shapes = config.blocks();
    let rows = |shape: &BlockShape| (shape.dim * shape.tokens()) as u64;
    let scale = |shape: &BlockShape| match shape.style.layer_scale {
        true => rows(shape),
        false => 0,
    };
    let blocks = shapes.iter().map(|shape| {
        let around = rows(shape) + scale(shape);
        let qk_norm = if shape.style.qk_norm { 2 * rows(shape) } else { 0 };
        // Every value of Q and K by a cosine, and its partner by a sine.
        let turned = 4 * (shape.patches() * shape.dim) as u64;
        let rope = if shape.style.rope.is_some() { turned } else { 0 };
        let attn_norm = if shape.style.attn_norm { rows(shape) } else { 0 };
        let operation = |operation| match operation {
            Operation::Shortcut => 0,
            Operation::BConv(kernel) => {
                around + convolution(shape, kernel) + (shape.head_dim() * shape.patches()) as u64
            }
            Operation::Msa => around + attention(shape) + qk_norm + rope + attn_norm,
        };
        let maps = shape.style.ffn_maps() as u64;
        // A gated FFN's product of two values is one more for each token, and so is a norm.
        let more = maps - 1 + u64::from(shape.style.mlp_norm);
        let hidden_dimension = (maps + 1) * rows(shape) + more * shape.tokens() as u64;
        let head = per_head(shape, attention(shape) + qk_norm + rope);
        block(config, shape, operation, head, [hidden_dimension, around], [0; 2])
    });
    let [features, classes, dim] =
        [config.features(), config.classes(), config.embed_dim()].map(|x| x as u64);
    let n: usize = config.map().iter().product();
    let last = shapes.last().map_or(0, |shape| shape.tokens() as u64);
    let (embedding, norms, heads) = match &config.family {
        Family::Vit(vit) => {
            let pre = if vit.pre_norm { dim * last } else { 0 };
            let patches = if vit.patch_norm { dim * vit.patches() as u64 } else { 0 };
            // A class token's norm is of one token; a mean's of all.
            let pooled = if vit.pool == Pool::Token { 1 } else { last };
            let normed = if vit.final_norm { pooled } else { 0 } + u64::from(vit.fc_norm);
            let heads = 1 + u64::from(vit.distilled);
            let norms = heads * dim * normed;
            (embedding(config) + pre + patches, norms, heads)
        }
        Family::Swin(_) => (embedding(config) + n as u64 * dim, features * last, 1),
    };
    let head = norms + heads * features * classes + pool(config).iter().sum::<u64>();
    table(Unit::Flops, [embedding, mergings(config, merging), head], blocks.collect())
}

/// Trained values.
pub(super) fn parameters(config: &ModelConfig) -> CostTable {
    let shapes = config.blocks();
    let blocks = shapes.iter().map(|shape| {
        let [d, h] = [shape.dim, shape.head_dim()].map(|x| x as u64);
        let qkv_bias = if shape.style.qkv_bias == QkvBias::All { 3 * d } else { 0 };
        let table = (shape.bias_table_rows() * shape.heads) as u64;
        let norm = shape.style.norm_values() as u64;
        let qk_norm = if shape.style.qk_norm { 2 * norm * h } else { 0 };
        let attn_norm = if shape.style.attn_norm { norm * d } else { 0 };
        let mlp_norm = if shape.style.mlp_norm { norm } else { 0 };
        let operation = |operation| match operation {
            Operation::Shortcut => 0,
            // Convolution, batch norm, projection.
            Operation::BConv(k) => (d * (k * k) as u64 + 1) * h + 2 * h + (h + 1) * d,
            Operation::Msa => 4 * d * d + d + qkv_bias + table + qk_norm + attn_norm,
        };
        let hidden_dimension = (d + 1) * shape.style.ffn_maps() as u64 + d + mlp_norm;
        let head = per_head(shape, 4 * d * d + qkv_bias + table);
        // b2 stays where no hidden dimension does.
        let scale = if shape.style.layer_scale { d } else { 0 };
        block(
            config,
            shape,
            operation,
            head,
            [hidden_dimension, 0],
            [norm * d + scale, (norm + 1) * d + scale],
        )
    });
    let [features, classes, dim] =
        [config.features(), config.classes(), config.embed_dim()].map(|x| x as u64);
    let norm = config.style().norm_values() as u64;
    let patch = (config.channels() * config.patch_size().pow(2)) as u64;
    let n: u64 = config.map().iter().product::<usize>() as u64;
    let (embedding, norms, heads) = match &config.family {
        Family::Vit(vit) => {
            let prefix = vit.prefix_tokens() as u64;
            let rows = n + if vit.embed_prefix { prefix } else { 0 };
            let positions = if vit.position_embedding { rows * dim } else { 0 };
            let pre = if vit.pre_norm { norm * dim } else { 0 };
            let embed = dim * (patch + u64::from(vit.patch_bias));
            let patches = if vit.patch_norm { norm * dim } else { 0 };
            let norms = u64::from(vit.final_norm) + u64::from(vit.fc_norm);
            let embedding = embed + prefix * dim + positions + pre + patches;
            (embedding, norms * norm * dim, 1 + u64::from(vit.distilled))
        }
        Family::Swin(_) => (dim * (patch + 1) + norm * dim, norm * features, 1),
    };
    let merging = mergings(config, |shape| {
        let (d, norm) = (shape.dim as u64, shape.style.norm_values() as u64);
        4 * norm * d + 8 * d * d
    });
    let head = norms + heads * (features + 1) * classes + pool_parameters(config);
    table(Unit::Parameters, [embedding, merging, head], blocks.collect())
}
