//! Tensors under other programs' names, put under those of timm and of the published compact layout.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use spvit_layers::state::{self, StateDict, StateError};

use crate::detect::{Canonical, Origin, Shapes};

/// Tensors under the names used here.
#[derive(Debug)]
pub(crate) struct Renamed {
    /// The tensors; Q, K and V in one.
    pub tensors: StateDict,
    /// Shapes of the tensors before Q, K and V were joined.
    pub shapes: Shapes,
    /// Whose names they had.
    pub origin: Origin,
    /// From names here to those in the file.
    theirs: BTreeMap<String, String>,
    /// Tensors whose three parts did not come together, and what is wrong with these.
    broken: BTreeMap<String, StateError>,
}

const PARTS: [&str; 3] = ["q", "k", "v"];

impl Renamed {
    /// Renames, and joins Q, K and V; says so in `notes`.
    ///
    /// # Errors
    /// The file holds more than one image model.
    pub fn new(mut tensors: StateDict, notes: &mut Vec<String>) -> Result<Self, String> {
        if tensors.keys().any(|name| name.ends_with(".head_probs")) {
            // The published Swin code orders its head distributions otherwise, too.
            state::name_as_timm(&mut tensors);
        }
        let canonical = Canonical::of(tensors.keys().map(String::as_str))?;
        notes.extend(canonical.notes());
        let theirs = canonical.names.iter().map(|(theirs, ours)| (ours.clone(), theirs.clone()));
        let theirs = theirs.collect();
        let mut renamed = StateDict::new();
        for (name, mut data) in tensors {
            let Some(ours) = canonical.names.get(&name) else { continue };
            // CLIP keeps these without the dimensions of a batch and of a sequence.
            let shape = data.shape.to_vec();
            match (ours.as_str(), shape.as_slice()) {
                ("cls_token", &[dim]) => data.shape = [1, 1, dim].into(),
                ("pos_embed", &[rows, dim]) => data.shape = [1, rows, dim].into(),
                _ => {}
            }
            renamed.insert(ours.clone(), data);
        }
        split_pool(&mut renamed);
        let shapes = renamed.iter().map(|(name, data)| (name.clone(), data.shape.to_vec()));
        let (shapes, broken) = (shapes.collect(), BTreeMap::new());
        let origin = canonical.origin;
        let mut named = Self { tensors: renamed, shapes, origin, theirs, broken };
        named.add_key_biases();
        named.join(notes);
        state::merge_qkv(&mut named.tensors);
        Ok(named)
    }

    /// Models whose Q and V alone have a bias get one of zeros for K, which changes nothing.
    fn add_key_biases(&mut self) {
        let names: Vec<String> = self.tensors.keys().cloned().collect();
        let layers = names.iter().filter_map(|name| name.strip_suffix(".attn.q.bias"));
        for layer in layers {
            let key = format!("{layer}.attn.k.bias");
            let [q, v] = ["q", "v"].map(|part| format!("{layer}.attn.{part}.bias"));
            let weights = format!("{layer}.attn.k.weight");
            let whole = format!("{layer}.attn.qkv.weight");
            let there = |name: &String| self.tensors.contains_key(name);
            if there(&v) && !there(&key) && (there(&weights) || there(&whole)) {
                let shape = self.tensors[&q].shape.clone();
                let zeros = vec![0.0f32; shape.num_elements()];
                self.tensors.insert(key, TensorData::new(zeros, shape));
            }
        }
    }

    /// Q, K and V to one map, in this order.
    fn join(&mut self, notes: &mut Vec<String>) {
        let split = |name: &str| {
            let (layer, rest) = name.split_once(".attn.")?;
            let (part, kind) = rest.split_once('.')?;
            // V alone belongs to the published code, which has Q and K in one.
            ["q", "k"].contains(&part).then(|| (format!("{layer}.attn."), kind.to_string()))
        };
        let mut layers: Vec<_> = self.tensors.keys().filter_map(|name| split(name)).collect();
        layers.sort();
        layers.dedup();
        let mut joined = 0;
        for (layer, kind) in layers {
            let names = PARTS.map(|part| format!("{layer}{part}.{kind}"));
            let whole = format!("{layer}qkv.{kind}");
            let parts = names.each_ref().map(|name| self.tensors.remove(name));
            match join_rows(&names, parts) {
                Ok(data) => {
                    joined += usize::from(kind == "weight");
                    self.tensors.insert(whole, data);
                }
                Err(fault) => {
                    self.broken.insert(whole, fault);
                }
            }
        }
        if joined > 0 {
            notes.push(format!("query, key and value are joined to attn.qkv in {joined} blocks"));
        }
    }

    /// Whether the parts of this tensor are there and do not fit each other.
    pub fn is_broken(&self, name: &str) -> bool {
        self.broken.contains_key(name)
    }

    /// The name in the file of a tensor with this name here, as far as it or its like is there.
    fn theirs(&self, name: &str) -> String {
        if let Some(theirs) = self.theirs.get(name) {
            return theirs.clone();
        }
        let other = |from: &str, to: &str| {
            let known = self.theirs.get(&format!("{}{to}", name.strip_suffix(from)?))?;
            Some(format!("{}{from}", known.strip_suffix(to)?))
        };
        let twin = other("weight", "bias").or_else(|| other("bias", "weight"));
        // The same tensor of another block.
        let block = || {
            let (start, rest) = name.split_once("blocks.")?;
            let (index, rest) = rest.split_once('.')?;
            (0..self.theirs.len()).take(99).find_map(|like| {
                let known = self.theirs.get(&format!("{start}blocks.{like}.{rest}"))?;
                Some(known.replacen(&format!(".{like}."), &format!(".{index}."), 1))
            })
        };
        twin.or_else(block).unwrap_or_else(|| name.to_string())
    }

    /// The names in the file of a tensor's parts, of the whole where it has none.
    fn parts(&self, name: &str) -> Vec<String> {
        let whole = vec![self.theirs(name)];
        let Some((layer, kind)) = name.split_once(".attn.qkv.") else { return whole };
        let split = self.theirs.keys().any(|ours| ours.contains(".attn.k."));
        match split && whole[0] == name {
            true => PARTS.map(|part| self.theirs(&format!("{layer}.attn.{part}.{kind}"))).to_vec(),
            false => whole,
        }
    }

    /// An error in the file's own names.
    pub fn translate(&self, error: StateError) -> StateError {
        let mut out = StateError { missing: vec![], unexpected: vec![], misshapen: vec![] };
        let theirs = |name: &str| self.parts(name).join(" + ");
        let misshapen = |(name, expected, found): (String, Vec<usize>, Vec<usize>)| {
            (theirs(&name), expected, found)
        };
        for name in error.missing {
            match self.broken.get(&name) {
                Some(fault) => {
                    out.missing.extend(fault.missing.iter().map(|name| self.theirs(name)));
                    out.misshapen.extend(fault.misshapen.iter().cloned().map(misshapen));
                }
                None => out.missing.extend(self.parts(&name)),
            }
        }
        out.unexpected = error.unexpected.iter().map(|name| theirs(name)).collect();
        out.misshapen.extend(error.misshapen.into_iter().map(misshapen));
        out
    }
}

/// The query's rows of an attention pool that has q, K and V in one (transformers' SigLIP), and
/// those of K and V.
fn split_pool(tensors: &mut StateDict) {
    for kind in ["weight", "bias"] {
        let name = format!("attn_pool.qkv.{kind}");
        let Some(data) = tensors.get(&name) else { continue };
        let shape = data.shape.to_vec();
        let rows = shape.first().copied().unwrap_or(0);
        if rows == 0 || rows % 3 != 0 {
            continue;
        }
        let mut q: Vec<f32> = data.iter::<f32>().collect();
        let kv = q.split_off(q.len() / 3);
        tensors.remove(&name);
        for (part, values, rows) in [("q", q, rows / 3), ("kv", kv, rows / 3 * 2)] {
            let mut shape = shape.clone();
            shape[0] = rows;
            tensors.insert(format!("attn_pool.{part}.{kind}"), TensorData::new(values, shape));
        }
    }
}

/// Tensors one below the other, or which are missing or of another width.
fn join_rows(
    names: &[String; 3],
    parts: [Option<TensorData>; 3],
) -> Result<TensorData, StateError> {
    let mut fault = StateError { missing: vec![], unexpected: vec![], misshapen: vec![] };
    let shapes = parts.each_ref().map(|part| part.as_ref().map(|data| data.shape.to_vec()));
    let first = shapes.iter().flatten().next().cloned().unwrap_or_default();
    for (name, shape) in names.iter().zip(shapes) {
        match shape {
            None => fault.missing.push(name.clone()),
            Some(shape) if shape != first || shape.is_empty() => {
                fault.misshapen.push((name.clone(), first.clone(), shape));
            }
            Some(_) => {}
        }
    }
    if !(fault.missing.is_empty() && fault.misshapen.is_empty()) {
        return Err(fault);
    }
    let mut shape = first;
    shape[0] *= names.len();
    let mut values = Vec::with_capacity(shape.iter().product());
    for part in parts.into_iter().flatten() {
        values.extend(part.into_vec::<f32>().unwrap_or_default());
    }
    Ok(TensorData::new(values, shape))
}
