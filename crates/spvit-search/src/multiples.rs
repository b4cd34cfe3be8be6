//! Widths of FFNs that are multiples of a number, which many machines compute in less time.

use crate::{BlockProbabilities, Limit, Limits};

/// Rounds the widths of FFNs that have gates down, and adds whole multiples, always those whose hidden
/// dimensions are likeliest, where they fit beside what the rest costs by every limit.
pub(crate) fn keep_to_multiples(
    limits: &Limits,
    probabilities: &[BlockProbabilities],
    kept: &mut [Vec<usize>],
    mut costs: Vec<f64>,
) {
    let multiple = limits.multiple();
    let change = |costs: &[f64], block: usize, [from, to]: [usize; 2]| -> Vec<f64> {
        let pairs = costs.iter().zip(limits.iter());
        let more = |limit: &Limit| {
            let own = &limit.table.blocks[block];
            own.ffn(to) - own.ffn(from)
        };
        pairs.map(|(cost, limit)| cost + more(limit)).collect()
    };
    // Every block's dimensions, the likeliest first.
    let orders: Vec<Vec<usize>> = probabilities
        .iter()
        .map(|own| {
            let mut order: Vec<usize> = (0..own.ffn.len()).collect();
            order.sort_by(|&a, &b| own.ffn[b].total_cmp(&own.ffn[a]));
            order
        })
        .collect();
    let gated: Vec<usize> = (0..kept.len()).filter(|&block| !orders[block].is_empty()).collect();
    let mut widths: Vec<usize> = kept.iter().map(Vec::len).collect();
    for &block in &gated {
        let width = widths[block] / multiple * multiple;
        costs = change(&costs, block, [widths[block], width]);
        widths[block] = width;
    }
    loop {
        let next = |block: usize| {
            let chunk = orders[block].get(widths[block]..widths[block] + multiple)?;
            let with = change(&costs, block, [widths[block], widths[block] + multiple]);
            let fits = with.iter().zip(limits.iter()).all(|(cost, limit)| *cost <= limit.target);
            let sum: f32 = chunk.iter().map(|&i| probabilities[block].ffn[i]).sum();
            fits.then_some((block, sum, with))
        };
        let able = gated.iter().filter_map(|&block| next(block));
        // Of equal ones the first.
        let likeliest = able.max_by(|(i, a, _), (j, b, _)| a.total_cmp(b).then(j.cmp(i)));
        let Some((block, _, with)) = likeliest else { break };
        widths[block] += multiple;
        costs = with;
    }
    for &block in &gated {
        kept[block] = orders[block][..widths[block]].to_vec();
    }
}
