//! A plain interpreter of the operators that the writer uses, from their definition in ONNX.
//!
//! It lets the ordinary tests compute what a written file means. Real runtimes (onnxruntime,
//! tract) check the same files from tests/interop.

use std::collections::BTreeMap;

use half::f16;

use crate::onnx::proto;

#[derive(Clone, Debug)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<f32>,
}

impl Array {
    pub(super) fn new(shape: &[usize], data: Vec<f32>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?}");
        Self { shape: shape.to_vec(), data }
    }

    /// The array whose element at each index is computed by `f`.
    fn from_index(shape: &[usize], mut f: impl FnMut(&[usize]) -> f32) -> Self {
        let mut index = vec![0; shape.len()];
        let data = (0..shape.iter().product()).map(|flat: usize| {
            let mut rest = flat;
            for (i, n) in index.iter_mut().zip(shape).rev() {
                (*i, rest) = (rest % n, rest / n);
            }
            f(&index)
        });
        Self { data: data.collect(), shape: shape.to_vec() }
    }

    /// The element at an index; dimensions are aligned at the end and broadcast where 1.
    fn at(&self, index: &[usize]) -> f32 {
        let skip = index.len() - self.shape.len();
        let flat = self
            .shape
            .iter()
            .zip(&index[skip..])
            .fold(0, |flat, (&n, &i)| flat * n + if n == 1 { 0 } else { i });
        self.data[flat]
    }

    fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Self { shape: self.shape.clone(), data: self.data.iter().map(|&x| f(x)).collect() }
    }

    fn rows(&self, f: impl Fn(&[f32]) -> Vec<f32>) -> Self {
        let width = *self.shape.last().expect("a dimension");
        Self::new(&self.shape, self.data.chunks(width).flat_map(f).collect())
    }

    fn reshaped(&self, shape: &[i64]) -> Self {
        let kept = |(i, &n): (usize, &i64)| if n == 0 { self.shape[i] as i64 } else { n };
        let mut dims: Vec<i64> = shape.iter().enumerate().map(kept).collect();
        if let Some(open) = dims.iter().position(|&n| n == -1) {
            dims[open] = 1;
            dims[open] = self.data.len() as i64 / dims.iter().product::<i64>();
        }
        Self::new(&dims.iter().map(|&n| n as usize).collect::<Vec<_>>(), self.data.clone())
    }
}

fn zip(a: &Array, b: &Array, f: impl Fn(f32, f32) -> f32) -> Array {
    let rank = a.shape.len().max(b.shape.len());
    let dim = |x: &Array, i: usize| (i + x.shape.len()).checked_sub(rank).map_or(1, |i| x.shape[i]);
    let shape: Vec<usize> = (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (m, n) if m == n || n == 1 => m,
            (1, n) => n,
            other => panic!("shapes {:?} and {:?}: {other:?}", a.shape, b.shape),
        })
        .collect();
    Array::from_index(&shape, |i| f(a.at(i), b.at(i)))
}

/// One factor may have fewer matrices than the other: they are broadcast.
fn matmul(a: &Array, b: &Array) -> Array {
    let [inner, columns] = *b.shape.last_chunk().expect("a matrix");
    let [rows, width] = *a.shape.last_chunk().expect("a matrix");
    assert_eq!(inner, width);
    // A whole number of matrices each: the first axes are those of the larger factor.
    let (of_a, of_b) = (a.data.len() / (rows * inner), b.data.len() / (inner * columns));
    let count = of_a.max(of_b);
    assert!([of_a, of_b].iter().all(|n| count.is_multiple_of(*n)));
    let mut shape = if of_a == count { a.shape.clone() } else { b.shape.clone() };
    let axes = shape.len();
    shape[axes - 2..].copy_from_slice(&[rows, columns]);
    let [left, right] = [(a, rows * inner), (b, inner * columns)]
        .map(|(x, size)| x.data.chunks(size).cycle().take(count));
    let product = left.zip(right).flat_map(|(a, b)| {
        a.chunks(inner).flat_map(move |row| {
            (0..columns).map(move |column| {
                let column = b[column..].iter().step_by(columns);
                row.iter().zip(column).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>()
                    as f32
            })
        })
    });
    Array::new(&shape, product.collect())
}

fn convolution(x: &Array, w: &Array, bias: Option<&Array>, stride: usize, pad: usize) -> Array {
    let out = |n: usize, k: usize| (n + 2 * pad - k) / stride + 1;
    let shape = [x.shape[0], w.shape[0], out(x.shape[2], w.shape[2]), out(x.shape[3], w.shape[3])];
    Array::from_index(&shape, |i| {
        let mut sum = bias.map_or(0.0, |bias| f64::from(bias.data[i[1]]));
        for c in 0..w.shape[1] {
            for (r, s) in (0..w.shape[2]).flat_map(|r| (0..w.shape[3]).map(move |s| (r, s))) {
                let (y, z) = (i[2] * stride + r, i[3] * stride + s);
                let inside = |at: usize, n: usize| (pad..n + pad).contains(&at);
                if inside(y, x.shape[2]) && inside(z, x.shape[3]) {
                    let value = x.at(&[i[0], c, y - pad, z - pad]);
                    sum += f64::from(value) * f64::from(w.at(&[i[1], c, r, s]));
                }
            }
        }
        sum as f32
    })
}

/// The error function by its Maclaurin series, in double precision.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..150 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

/// Runs a model on an input; the output by its name.
pub(super) fn run(model: &proto::Model, input: Array) -> Array {
    let graph = model.graph.as_ref().expect("a graph");
    let mut ints: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    let mut values: BTreeMap<String, Array> = BTreeMap::new();
    values.insert(graph.input[0].name.clone(), input);
    for t in &graph.initializer {
        let dims: Vec<usize> = t.dims.iter().map(|&n| n as usize).collect();
        if t.data_type == proto::INT64 {
            let list = t.raw_data.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b));
            ints.insert(&t.name, list.collect());
        } else if t.data_type == proto::FLOAT16 {
            let list =
                t.raw_data.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32());
            values.insert(t.name.clone(), Array::new(&dims, list.collect()));
        } else {
            let list = t.raw_data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b));
            values.insert(t.name.clone(), Array::new(&dims, list.collect()));
        }
    }
    for node in &graph.node {
        let outputs = apply(node, &values, &ints);
        values.extend(node.output.iter().cloned().zip(outputs));
    }
    values.remove(&graph.output[0].name).expect("the output is computed")
}

fn apply(
    node: &proto::Node,
    values: &BTreeMap<String, Array>,
    ints: &BTreeMap<&str, Vec<i64>>,
) -> Vec<Array> {
    let v = |i: usize| &values[&node.input[i]];
    let list = |i: usize| ints[node.input[i].as_str()].as_slice();
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let side = |name, default| attribute(name).map_or(default, |a| a.ints[0] as usize);
    let eps = || f64::from(attribute("epsilon").and_then(|a| a.f).expect("epsilon"));
    let one = match node.op_type.as_str() {
        // Between casts, float16 is computed as float32.
        "Cast" => match attribute("to").and_then(|a| a.i) {
            Some(10) => v(0).map(|x| f16::from_f32(x).to_f32()),
            _ => v(0).clone(),
        },
        "Add" => zip(v(0), v(1), |a, b| a + b),
        "Mul" => zip(v(0), v(1), |a, b| a * b),
        "Div" => zip(v(0), v(1), |a, b| a / b),
        "Sqrt" => v(0).map(f32::sqrt),
        "Tanh" => v(0).map(f32::tanh),
        "Relu" => v(0).map(|x| x.max(0.0)),
        "Sigmoid" => v(0).map(|x| (1.0 / (1.0 + (-f64::from(x)).exp())) as f32),
        "Erf" => v(0).map(|x| erf(x.into()) as f32),
        "MatMul" => matmul(v(0), v(1)),
        "Conv" => convolution(
            v(0),
            v(1),
            node.input.get(2).map(|_| v(2)),
            side("strides", 1),
            side("pads", 0),
        ),
        "Reshape" => v(0).reshaped(list(1)),
        "Softmax" => v(0).rows(|row| {
            let top = row.iter().copied().fold(f32::MIN, f32::max);
            let exp: Vec<f64> = row.iter().map(|x| f64::from(x - top).exp()).collect();
            exp.iter().map(|e| (e / exp.iter().sum::<f64>()) as f32).collect()
        }),
        "LayerNormalization" => v(0).rows(|row| {
            let n = row.len() as f64;
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let var = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
            let normed = row.iter().map(|&x| (f64::from(x) - mean) / (var + eps()).sqrt());
            normed
                .zip(v(1).data.iter().zip(&v(2).data))
                .map(|(x, (w, b))| x as f32 * w + b)
                .collect()
        }),
        "BatchNormalization" => Array::from_index(&v(0).shape, |i| {
            let [w, b, mean, var] = [1, 2, 3, 4].map(|input| v(input).data[i[1]]);
            (v(0).at(i) - mean) / (f64::from(var) + eps()).sqrt() as f32 * w + b
        }),
        "Transpose" => {
            let order = &attribute("perm").expect("perm").ints;
            let shape: Vec<usize> = order.iter().map(|&i| v(0).shape[i as usize]).collect();
            Array::from_index(&shape, |index| {
                let mut source = vec![0; index.len()];
                order.iter().zip(index).for_each(|(&axis, &i)| source[axis as usize] = i);
                v(0).at(&source)
            })
        }
        "Pad" => {
            let (before, after) = list(1).split_at(v(0).shape.len());
            let grown = |(i, n): (usize, &usize)| n + (before[i] + after[i]) as usize;
            let shape: Vec<usize> = v(0).shape.iter().enumerate().map(grown).collect();
            Array::from_index(&shape, |index| {
                let source = index.iter().zip(before).map(|(&i, &b)| i.checked_sub(b as usize));
                match source.collect::<Option<Vec<usize>>>() {
                    Some(source) if source.iter().zip(&v(0).shape).all(|(i, n)| i < n) => {
                        v(0).at(&source)
                    }
                    _ => 0.0,
                }
            })
        }
        "Slice" => {
            let [from, to, axis] = [1, 2, 3].map(|i| list(i)[0] as usize);
            part(v(0), axis, from, to)
        }
        "Gather" => {
            let axis = attribute("axis").and_then(|a| a.i).expect("axis") as usize;
            let (places, mut shape) = (list(1), v(0).shape.clone());
            shape[axis] = places.len();
            Array::from_index(&shape, |i| {
                let mut source = i.to_vec();
                source[axis] = places[i[axis]] as usize;
                assert!(source[axis] < v(0).shape[axis]);
                v(0).at(&source)
            })
        }
        "ReduceMean" => {
            let kept = attribute("keepdims").and_then(|a| a.i).expect("keepdims") == 1;
            match attribute("axes").expect("axes").ints[..] {
                [-1] if kept => last_mean(v(0)),
                [1] if !kept => token_mean(v(0)),
                ref other => panic!("a mean over {other:?}, kept: {kept}"),
            }
        }
        "Split" => {
            let (axis, mut from) = (v(0).shape.len() - 1, 0);
            let cut = |&n: &i64| {
                from += n as usize;
                part(v(0), axis, from - n as usize, from)
            };
            return list(1).iter().map(cut).collect();
        }
        "Concat" => {
            let (first, second) = (v(0), v(1));
            let mut shape = first.shape.clone();
            shape[1] += second.shape[1];
            Array::from_index(&shape, |i| match i[1].checked_sub(first.shape[1]) {
                None => first.at(i),
                Some(row) => second.at(&[&[i[0], row], &i[2..]].concat()),
            })
        }
        "Gemm" => {
            let [rows, columns] = [v(1).shape[0], v(1).shape[1]];
            let weight = Array::from_index(&[columns, rows], |i| v(1).at(&[i[1], i[0]]));
            zip(&matmul(v(0), &weight), v(2), |a, b| a + b)
        }
        other => panic!("the writer used an operator that its test does not know: {other}"),
    };
    vec![one]
}

/// The mean of the last axis, which stays.
fn last_mean(x: &Array) -> Array {
    let width = *x.shape.last().expect("an axis");
    let mean =
        |row: &[f32]| (row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64) as f32;
    let mut shape = x.shape.clone();
    *shape.last_mut().expect("an axis") = 1;
    Array::new(&shape, x.data.chunks(width).map(mean).collect())
}

/// The mean of the tokens, [B, T, D] → [B, D].
fn token_mean(x: &Array) -> Array {
    let [batch, rows, width] = *x.shape.first_chunk().expect("a sequence");
    Array::from_index(&[batch, width], |i| {
        let column = (0..rows).map(|row| f64::from(x.at(&[i[0], row, i[1]])));
        (column.sum::<f64>() / rows as f64) as f32
    })
}

fn part(x: &Array, axis: usize, from: usize, to: usize) -> Array {
    assert!(to <= x.shape[axis]);
    let mut shape = x.shape.clone();
    shape[axis] = to - from;
    Array::from_index(&shape, |index| {
        let mut source = index.to_vec();
        source[axis] += from;
        x.at(&source)
    })
}
