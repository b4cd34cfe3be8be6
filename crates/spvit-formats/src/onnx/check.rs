//! Checks of a description: what the other functions rely on.

use std::collections::BTreeSet;

use super::network::{
    BlockDescription, NetworkDescription, Operation, Places, Pool, RopeDescription,
    WindowDescription,
};
use crate::error::Fault;

/// Larger sizes cannot be weights in one file, and their products could overflow.
const LARGEST_SIZE: usize = 1 << 20;
/// Values in a constant that is computed here: as many as a file of 2 GiB holds.
const LARGEST_CONSTANT: usize = 1 << 29;

pub(super) fn check(net: &NetworkDescription) -> Result<(), Fault> {
    sizes([
        ("image_size[0]", net.image_size[0]),
        ("image_size[1]", net.image_size[1]),
        ("patch_size", net.patch_size),
        ("channels", net.channels),
        ("classes", net.classes),
        ("dim", net.dim),
    ])?;
    sizes([("registers", net.registers.max(1))])?;
    if net.image_size.iter().any(|n| n % net.patch_size != 0) {
        return Err(wrong(
            format!("an image_size in multiples of patch_size {}", net.patch_size),
            format!("{:?}", net.image_size),
        ));
    }
    epsilons([("epsilon", net.epsilon), ("batch_norm_epsilon", net.batch_norm_epsilon)])?;
    if matches!(net.pool, Pool::Token | Pool::TokenAverage) && !net.class_token {
        return Err(wrong("a class_token for the pool \"token\"", "none"));
    }
    let rows = net.map().iter().product::<usize>() + net.prefix_tokens();
    constant("image_size and dim", &[rows, net.dim])?;
    blocks(net)?;
    let Pool::Attention { heads, hidden, .. } = net.pool else {
        return Ok(());
    };
    sizes([("pool.heads", heads), ("pool.hidden", hidden)])?;
    let dim = net.last_dim();
    match dim.is_multiple_of(heads) {
        true => Ok(()),
        false => Err(wrong(format!("pool.heads that divide the last block's dim {dim}"), heads)),
    }
}

/// Every block must have the dimension, map and prefix tokens that come out of those before it.
fn blocks(net: &NetworkDescription) -> Result<(), Fault> {
    let (mut dim, mut map) = (net.dim, net.map());
    let mut merges = net.merges.iter().peekable();
    let names = net.blocks.iter().map(|block| &block.name);
    let mut known = BTreeSet::new();
    let mut names = names.chain(net.merges.iter().map(|merge| &merge.name));
    if let Some(name) = names.find(|name| !known.insert(*name)) {
        return Err(wrong("another name for each block and merging", format!("{name} twice")));
    }
    for (i, block) in net.blocks.iter().enumerate() {
        let field = |name: &str| format!("blocks[{i}].{name}");
        let expected = (dim, map, net.prefix_tokens());
        let found = (block.dim, block.map, block.prefix_tokens);
        if found != expected {
            let (names, place) = ("dim, map and prefix_tokens", field(""));
            let place = place.trim_end_matches('.');
            return Err(wrong(format!("{names} {expected:?} in {place}"), format!("{found:?}")));
        }
        one_block(block, &field)?;
        if merges.next_if(|merge| merge.after == i).is_some() {
            if block.prefix_tokens > 0 {
                let what = format!("no prefix tokens before the merging after block {i}");
                return Err(wrong(what, block.prefix_tokens));
            }
            (dim, map) = (2 * dim, map.map(|side| side.div_ceil(2)));
        }
    }
    match merges.next() {
        Some(merge) => {
            let blocks = net.blocks.len();
            Err(wrong(format!("merges in order, each after one of {blocks} blocks"), merge.after))
        }
        None => Ok(()),
    }
}

fn one_block(block: &BlockDescription, field: &dyn Fn(&str) -> String) -> Result<(), Fault> {
    let (dim, heads) = (field("dim"), field("heads"));
    sizes([(&dim, block.dim), (&heads, block.heads), (&field("hidden"), block.hidden.max(1))])?;
    if !block.dim.is_multiple_of(block.heads) {
        return Err(wrong(format!("{dim} in multiples of heads {}", block.heads), block.dim));
    }
    if !(1..=block.heads).contains(&block.kept_heads) {
        let kept = field("kept_heads");
        return Err(wrong(format!("{kept} from 1 to heads {}", block.heads), block.kept_heads));
    }
    epsilons([(&field("epsilon"), block.epsilon)])?;
    if let Operation::BConv { kernel } = block.operation
        && (kernel % 2 == 0 || kernel > 1 << 10)
    {
        return Err(wrong(format!("an odd kernel in {}", field("operation")), kernel));
    }
    if let Some(rope) = block.rope {
        turns(block, rope, &field("rope"))?;
    }
    if block.relative_positions {
        let name = field("relative_positions");
        if block.window.is_some() || block.prefix_tokens != 1 {
            let found = format!("{} and window {:?}", block.prefix_tokens, block.window);
            return Err(wrong(format!("{name} with prefix_tokens 1 and no window"), found));
        }
        constant(&name, &[block.tokens(), block.tokens(), block.heads])?;
    }
    let Some(WindowDescription { size, shift }) = block.window else {
        return Ok(());
    };
    let fits =
        |axis: usize| (1..=block.map[axis]).contains(&size[axis]) && shift[axis] < size[axis];
    if !(fits(0) && fits(1)) {
        let what =
            format!("{} within the map {:?}, shifted by less than it", field("window"), block.map);
        return Err(wrong(what, format!("{size:?} shifted by {shift:?}")));
    }
    if block.prefix_tokens > 0 {
        return Err(wrong(
            format!("{} without prefix tokens", field("window")),
            block.prefix_tokens,
        ));
    }
    let tokens = size[0] * size[1];
    let windows = block.map[0].div_ceil(size[0]) * block.map[1].div_ceil(size[1]);
    constant(&field("window"), &[windows.max(block.heads), tokens, tokens])
}

/// Whether Q and K can turn by places.
fn turns(block: &BlockDescription, rope: RopeDescription, name: &str) -> Result<(), Fault> {
    let d = block.head_dim();
    if !d.is_multiple_of(4) {
        return Err(wrong(format!("{name} where heads have a multiple of 4 values"), d));
    }
    if block.window.is_some() {
        return Err(wrong(format!("{name} without a window"), format!("{:?}", block.window)));
    }
    let RopeDescription { temperature, offset, .. } = rope;
    if !(temperature > 0.0 && temperature.is_finite() && offset.is_finite()) {
        let what = format!("{name} with a temperature above 0 and an offset");
        return Err(wrong(what, format!("{temperature} and {offset}")));
    }
    if let Places::Scaled([rows, columns]) = rope.places {
        sizes([(&format!("{name}.places"), rows), (&format!("{name}.places"), columns)])?;
    }
    constant(name, &[block.tokens(), d])
}

pub(super) fn sizes<const N: usize>(sizes: [(&str, usize); N]) -> Result<(), Fault> {
    match sizes.into_iter().find(|(_, size)| !(1..=LARGEST_SIZE).contains(size)) {
        Some((name, size)) => Err(wrong(format!("{name} from 1 to {LARGEST_SIZE}"), size)),
        None => Ok(()),
    }
}

fn epsilons<const N: usize>(values: [(&str, f64); N]) -> Result<(), Fault> {
    match values.into_iter().find(|(_, value)| !(*value > 0.0 && *value < 1.0)) {
        Some((name, value)) => Err(wrong(format!("{name} between 0 and 1"), value)),
        None => Ok(()),
    }
}

fn constant(what: &str, shape: &[usize]) -> Result<(), Fault> {
    let count = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
    match count {
        Some(count) if count <= LARGEST_CONSTANT => Ok(()),
        _ => Err(wrong(
            format!("{what} with at most {LARGEST_CONSTANT} values in one constant"),
            format!("{shape:?}"),
        )),
    }
}

fn wrong(expected: impl Into<String>, found: impl ToString) -> Fault {
    Fault::invalid(expected, found.to_string(), "Correct the description of the network.")
}
