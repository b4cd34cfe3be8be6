//! Other programs' names, turned into those of timm and of the published compact layout.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use spvit_layers::state::{self, StateDict, StateError};

/// Whose names a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// timm, DeiT, the published code, spvit.
    Timm,
    /// `ViTForImageClassification` of Hugging Face's transformers.
    HuggingFace(Flavour),
}

/// Hugging Face's names: what stands before them, and how the layers are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flavour {
    /// `vit.`, or nothing for a bare `ViTModel`.
    prefix: &'static str,
    /// `encoder.layer.` in files, `layers.` in the modules of transformers 5.
    layers: &'static str,
    inside: &'static [(&'static str, &'static str)],
}

/// Outside the layers: theirs, ours.
const OUTSIDE: [(&str, &str); 4] = [
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("layernorm.", "norm."),
];

/// Inside a layer of `encoder.layer.`.
const IN_FILES: [(&str, &str); 8] = [
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("attention.attention.query.", "attn.q."),
    ("attention.attention.key.", "attn.k."),
    ("attention.attention.value.", "attn.v."),
    ("attention.output.dense.", "attn.proj."),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
];

/// Inside a layer of `layers.`.
const IN_MODULES: [(&str, &str); 8] = [
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("attention.q_proj.", "attn.q."),
    ("attention.k_proj.", "attn.k."),
    ("attention.v_proj.", "attn.v."),
    ("attention.o_proj.", "attn.proj."),
    ("mlp.fc1.", "mlp.fc1."),
    ("mlp.fc2.", "mlp.fc2."),
];

const PATCHES: &str = "embeddings.patch_embeddings.projection.weight";

impl Family {
    fn of(tensors: &StateDict) -> Self {
        for prefix in ["vit.", ""] {
            if !tensors.contains_key(&format!("{prefix}{PATCHES}")) {
                continue;
            }
            let modules = format!("{prefix}layers.");
            let flavour = match tensors.keys().any(|name| name.starts_with(&modules)) {
                true => Flavour { prefix, layers: "layers.", inside: &IN_MODULES },
                false => Flavour { prefix, layers: "encoder.layer.", inside: &IN_FILES },
            };
            return Self::HuggingFace(flavour);
        }
        Self::Timm
    }

    /// ε of the layer norms that models of this origin usually have.
    pub fn epsilon(self) -> f64 {
        match self {
            Self::Timm => 1e-6,
            Self::HuggingFace(_) => 1e-12,
        }
    }

    /// The name here of a tensor with this name there; a name of no rule stays.
    fn ours(self, name: &str) -> String {
        let Self::HuggingFace(Flavour { prefix, layers, inside }) = self else {
            return ["q", "k", "v"].iter().fold(name.to_string(), |name, part| {
                name.replace(&format!(".attn.{part}_proj."), &format!(".attn.{part}."))
            });
        };
        if let Some(rest) = name.strip_prefix("classifier.") {
            return format!("head.{rest}");
        }
        let Some(bare) = name.strip_prefix(prefix) else { return name.to_string() };
        let in_layer = bare.strip_prefix(layers).and_then(|rest| rest.split_once('.'));
        let found = match in_layer {
            Some((index, rest)) => swapped(inside, rest).map(|to| format!("blocks.{index}.{to}")),
            None => swapped(&OUTSIDE, bare),
        };
        found.unwrap_or_else(|| name.to_string())
    }

    /// The name there of a tensor with this name here: what a person finds in the file.
    fn theirs(self, name: &str) -> Vec<String> {
        let Self::HuggingFace(Flavour { prefix, layers, inside }) = self else {
            return vec![name.to_string()];
        };
        if let Some(rest) = name.strip_prefix("head.") {
            return vec![format!("classifier.{rest}")];
        }
        let back = |rules: &[(&'static str, &'static str)], name: &str| {
            let turned: Vec<_> = rules.iter().map(|&(theirs, ours)| (ours, theirs)).collect();
            swapped(&turned, name)
        };
        let in_block = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
        let Some((index, rest)) = in_block else {
            return vec![
                back(&OUTSIDE, name).map_or(name.to_string(), |to| format!("{prefix}{to}")),
            ];
        };
        let parts = match rest.strip_prefix("attn.qkv.") {
            Some(kind) => ["q", "k", "v"].map(|part| format!("attn.{part}.{kind}")).to_vec(),
            None => vec![rest.to_string()],
        };
        let place = |part: &String| {
            back(inside, part).map_or(format!("blocks.{index}.{part}"), |to| {
                format!("{prefix}{layers}{index}.{to}")
            })
        };
        parts.iter().map(place).collect()
    }
}

/// A name whose beginning is exchanged by the first rule that fits.
fn swapped(rules: &[(&str, &str)], name: &str) -> Option<String> {
    let mut fitting = rules.iter().filter_map(|(from, to)| Some((name.strip_prefix(from)?, to)));
    fitting.next().map(|(rest, to)| format!("{to}{rest}"))
}

/// Tensors under the names used here.
#[derive(Debug)]
pub(super) struct Renamed {
    /// The tensors; Q, K and V in one.
    pub tensors: StateDict,
    /// Whose names they had.
    pub family: Family,
    /// Tensors whose three parts did not come together, and what is wrong with these.
    broken: BTreeMap<String, StateError>,
}

impl Renamed {
    /// Renames, joins Q, K and V, and gives maps without a bias one of zeros; says so in `notes`.
    pub fn new(tensors: StateDict, notes: &mut Vec<String>) -> Self {
        let family = Family::of(&tensors);
        if let Family::HuggingFace(_) = family {
            notes.push("the names are those of Hugging Face's transformers".into());
        }
        let mut pooled = 0;
        let mut renamed = StateDict::new();
        for (name, data) in tensors {
            match family {
                // A bare ViTModel has it after the last norm, outside the classifier's path.
                Family::HuggingFace(flavour)
                    if name
                        .strip_prefix(flavour.prefix)
                        .unwrap_or(&name)
                        .starts_with("pooler.") =>
                {
                    pooled += 1;
                }
                _ => {
                    renamed.insert(family.ours(&name), data);
                }
            }
        }
        if pooled > 0 {
            notes.push("the pooler is left out: the class token goes straight to the head".into());
        }
        let mut named = Self { tensors: renamed, family, broken: BTreeMap::new() };
        named.join(notes);
        state::merge_qkv(&mut named.tensors);
        named.add_biases(notes);
        named
    }

    /// Q, K and V to one map, in this order.
    fn join(&mut self, notes: &mut Vec<String>) {
        const PARTS: [&str; 3] = ["q", "k", "v"];
        let split = |name: &str| {
            let (layer, rest) = name.split_once(".attn.")?;
            let (part, kind) = rest.split_once('.')?;
            // V alone belongs to the published code, which has Q and K in one.
            ["q", "k"].contains(&part).then(|| (format!("{layer}.attn."), kind.to_string()))
        };
        let mut layers: Vec<_> = self.tensors.keys().filter_map(|name| split(name)).collect();
        layers.dedup();
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

    fn add_biases(&mut self, notes: &mut Vec<String>) {
        let mut added = 0;
        let weights: Vec<String> = self.tensors.keys().cloned().collect();
        for name in weights {
            let Some(map) = name.strip_suffix(".weight") else { continue };
            let searched =
                [".attn.qkv", ".attn.qk", ".attn.v"].iter().any(|end| map.ends_with(end));
            let bias = format!("{map}.bias");
            let taken = self.tensors.contains_key(&bias) || self.broken.contains_key(&bias);
            if searched && !taken {
                let rows = self.tensors[&name].shape.to_vec().first().copied().unwrap_or(0);
                self.tensors.insert(bias, TensorData::new(vec![0.0f32; rows], [rows]));
                added += 1;
            }
        }
        if added > 0 {
            notes
                .push(format!("{added} maps to query, key and value have no bias; they get zeros"));
        }
    }

    /// An error in the file's own names.
    pub fn translate(&self, error: StateError) -> StateError {
        let mut out = StateError { missing: vec![], unexpected: vec![], misshapen: vec![] };
        let theirs = |name: &str| self.family.theirs(name).join(" + ");
        for name in error.missing {
            match self.broken.get(&name) {
                Some(fault) => {
                    let own = |name: &String| self.family.theirs(name);
                    out.missing.extend(fault.missing.iter().flat_map(own));
                    let own = |(name, expected, found): &(String, Vec<usize>, Vec<usize>)| {
                        (theirs(name), expected.clone(), found.clone())
                    };
                    out.misshapen.extend(fault.misshapen.iter().map(own));
                }
                None => out.missing.extend(self.family.theirs(&name)),
            }
        }
        out.unexpected = error.unexpected.iter().map(|name| theirs(name)).collect();
        let own = |(name, expected, found): (String, Vec<usize>, Vec<usize>)| {
            (theirs(&name), expected, found)
        };
        out.misshapen.extend(error.misshapen.into_iter().map(own));
        out
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
