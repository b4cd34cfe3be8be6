//! Rotary position embedding: tables of cosines and sines.

use std::f64::consts::TAU;

use super::graph::GraphBuilder;
use super::network::{BlockDescription, Places, RopeDescription};

/// The embedding of one block's map.
pub(super) struct Rope<'a> {
    block: &'a BlockDescription,
    rope: RopeDescription,
}

impl<'a> Rope<'a> {
    /// The block's, if it has one.
    pub(super) fn of(block: &'a BlockDescription) -> Option<Self> {
        block.rope.map(|rope| Self { block, rope })
    }

    /// Turns Q or K. [B, T, H, d] → [B, T, H, d]
    ///
    /// A pair (a, b) becomes a·(cos, sin) + b·(-sin, cos): the values times their cosines, and the
    /// pairs' other values times the sines, whose table has the sign.
    pub(super) fn turn(&self, graph: &mut GraphBuilder<'_>, x: &str, name: &str) -> String {
        let (d, tokens) = (self.block.head_dim(), self.block.tokens());
        let (table, half) = (self.name(), self.rope.half);
        let cos = format!("{table}.cos");
        let cos = graph.floats(&cos, &[1, tokens, 1, d], || self.table(f64::cos));
        let sin = format!("{table}.sin");
        let sin = graph.floats(&sin, &[1, tokens, 1, d], || {
            let sines = self.table(f64::sin);
            let signed = sines.into_iter().enumerate();
            signed.map(|(i, sin)| if self.is_first(i % d) { -sin } else { sin }).collect()
        });
        let pairs = if half { "halves" } else { "neighbours" };
        let other = || (0..d).map(|i| if half { (i + d / 2) % d } else { i ^ 1 } as i64).collect();
        let (name, index) = (format!("{name}.turned"), format!("rope.{pairs}.{d}"));
        let swapped = graph.gather(x, &format!("{name}.swapped"), &index, d, 3, other);
        let kept = graph.node("Mul", format!("{name}.cos"), &[x, &cos], &[]);
        let crossed = graph.node("Mul", format!("{name}.sin"), &[&swapped, &sin], &[]);
        graph.node("Add", name, &[&kept, &crossed], &[])
    }

    /// A name that all blocks with the same tables have.
    fn name(&self) -> String {
        let RopeDescription { places, temperature, offset, columns_first, half } = self.rope;
        let places = match places {
            Places::Counted => "counted".to_owned(),
            Places::Scaled([rows, columns]) => format!("scaled_{rows}x{columns}"),
            Places::Centred => "centred".to_owned(),
        };
        let axes = if columns_first { "columns" } else { "rows" };
        let pairs = if half { "halves" } else { "neighbours" };
        let ([rows, columns], prefix) = (self.block.map, self.block.prefix_tokens);
        let d = self.block.head_dim();
        format!("rope.{places}.{temperature}.{offset}.{axes}.{pairs}.{prefix}+{rows}x{columns}.{d}")
    }

    /// Whether a value is the first of its pair.
    fn is_first(&self, value: usize) -> bool {
        match self.rope.half {
            true => value < self.block.head_dim() / 2,
            false => value.is_multiple_of(2),
        }
    }

    /// A function of the angle of every token's values, [T, d].
    fn table(&self, function: fn(f64) -> f64) -> Vec<f32> {
        let (d, [rows, columns]) = (self.block.head_dim(), self.block.map);
        let at_rest = vec![function(0.0) as f32; self.block.prefix_tokens * d];
        let places = (0..rows * columns).map(|token| [token / columns, token % columns]);
        let turned = places.flat_map(|place| {
            let pair = move |i: usize| if self.rope.half { i % (d / 2) } else { i / 2 };
            (0..d).map(move |i| function(self.angle(place, pair(i))) as f32)
        });
        at_rest.into_iter().chain(turned).collect()
    }

    /// What a pair of the token in this row and column turns by.
    fn angle(&self, place: [usize; 2], pair: usize) -> f64 {
        let per_axis = self.block.head_dim() / 4;
        let axis = usize::from((pair >= per_axis) != self.rope.columns_first);
        let (at, side) = (place[axis] as f64 + self.rope.offset, self.block.map[axis] as f64);
        let at = match self.rope.places {
            Places::Counted => at,
            Places::Scaled(reference) => at / side * reference[axis] as f64,
            Places::Centred => TAU * (2.0 * (at + 0.5) / side - 1.0),
        };
        let exponent = -((pair % per_axis) as f64) / per_axis as f64;
        at * self.rope.temperature.powf(exponent)
    }
}
