//! Rotary position embedding.

use std::{f64::consts::TAU, sync::Arc};

use burn::tensor::{Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::BlockShape;

/// How a token's place becomes two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeKind {
    /// Row and column from 0 (EVA-02; timm's `cat`).
    Eva,
    /// `2π·(2·(row + 0.5)/rows - 1)`, and so the column (DINOv3).
    DinoV3,
}

/// Rotary position embedding: in every head, pairs of values of Q and of K turn by the token's
/// place times a frequency. Prefix tokens do not turn.
///
/// With d dimensions of a head, the first d/4 pairs turn by the row, the others by the column; the
/// k-th pair of each has the frequency `temperature^(-4k/d)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// What a place is.
    pub kind: RopeKind,
    /// Ratio of the frequencies.
    pub temperature: f64,
    /// Added to row and column.
    pub offset: f64,
    /// Rows and columns of the map that an EVA-02 was trained on, to which others are scaled.
    pub reference: Option<[usize; 2]>,
    /// Whether the first pairs turn by the column (timm's grid indexing `xy`).
    pub columns_first: bool,
    /// Whether pair i is the values i and i + d/2 instead of 2i and 2i + 1.
    pub half: bool,
}

impl Rope {
    /// EVA-02's or DINOv3's.
    pub fn new(kind: RopeKind) -> Self {
        let (temperature, half) = match kind {
            RopeKind::Eva => (10_000.0, false),
            RopeKind::DinoV3 => (100.0, true),
        };
        Self { kind, temperature, offset: 0.0, reference: None, columns_first: false, half }
    }

    /// What the token in this place of the map turns its pairs by.
    fn angles(&self, place: [usize; 2], map: [usize; 2], head_dim: usize) -> Vec<f64> {
        let mut axes = [0, 1].map(|axis| {
            let (at, side) = (place[axis] as f64 + self.offset, map[axis] as f64);
            match (self.kind, self.reference) {
                (RopeKind::Eva, None) => at,
                (RopeKind::Eva, Some(reference)) => at / side * reference[axis] as f64,
                (RopeKind::DinoV3, _) => TAU * (2.0 * (at + 0.5) / side - 1.0),
            }
        });
        if self.columns_first {
            axes.reverse();
        }
        let pairs = head_dim / 4;
        let frequency = |k: usize| self.temperature.powf(-(k as f64) / pairs as f64);
        axes.into_iter().flat_map(|at| (0..pairs).map(move |k| at * frequency(k))).collect()
    }
}

/// The embedding of one map: cosines and sines on the host.
#[derive(Debug, Clone)]
pub(crate) struct RopeTable {
    /// `[tokens, dim of a head]` each.
    tables: Arc<[Vec<f32>; 2]>,
    head_dim: usize,
    half: bool,
}

impl RopeTable {
    pub fn new(shape: &BlockShape, rope: &Rope) -> Self {
        let d = shape.head_dim();
        let mut tables = [vec![1.0; shape.prefix_tokens * d], vec![0.0; shape.prefix_tokens * d]];
        for token in 0..shape.patches() {
            let place = [token / shape.map[1], token % shape.map[1]];
            let angles = rope.angles(place, shape.map, d);
            for i in 0..d {
                let angle = angles[if rope.half { i % (d / 2) } else { i / 2 }];
                tables[0].push(angle.cos() as f32);
                tables[1].push(angle.sin() as f32);
            }
        }
        Self { tables: Arc::new(tables), head_dim: d, half: rope.half }
    }

    /// Turns Q and K of Q, K and V.
    ///
    /// # Shapes
    /// - qkv: `[batch, tokens, 3·dim]`, output: the same.
    pub fn turn<B: Backend>(&self, qkv: Tensor<B, 3>) -> Tensor<B, 3> {
        let ([batch, tokens, width], d) = (qkv.dims(), self.head_dim);
        let (heads, turned) = (width * 2 / 3 / d, width * 2 / 3);
        let device = qkv.device();
        let [cos, sin] = [0, 1].map(|i| {
            let table = TensorData::new(self.tables[i].clone(), [1, tokens, 1, d]);
            Tensor::<B, 4>::from_data(table, &device)
        });
        let x = qkv.clone().narrow(2, 0, turned).reshape([batch, tokens, heads, d]);
        // Every pair (a, b) as (-b, a).
        let quarter = match self.half {
            true => {
                let [a, b] = [0, d / 2].map(|start| x.clone().narrow(3, start, d / 2));
                Tensor::cat(vec![-b, a], 3)
            }
            false => {
                let pairs = x.clone().reshape([batch, tokens, heads * d / 2, 2]);
                let [a, b] = [0, 1].map(|start| pairs.clone().narrow(3, start, 1));
                Tensor::cat(vec![-b, a], 3).reshape([batch, tokens, heads, d])
            }
        };
        let x = (x * cos + quarter * sin).reshape([batch, tokens, turned]);
        Tensor::cat(vec![x, qkv.narrow(2, turned, width - turned)], 2)
    }
}
