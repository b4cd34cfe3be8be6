//! From a pickle's values to a state dict: where it is, and each tensor's numbers.

use std::collections::BTreeMap;

use super::Loaded;
use super::value::{Arena, Node, TensorRef, Value};
use crate::checkpoint::{Checkpoint, Container, HostTensor, Origin, StateDict, element_count};
use crate::element::{Element, read_numbers, reserve};
use crate::error::{DAMAGED, Fault};
use crate::file::CheckedFile;

/// The keys under which training programs put the state dict, the plain weights first.
const NESTING_KEYS: [&str; 5] =
    ["model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema"];
const DEEPEST_NESTING: usize = 3;

pub(super) fn read(
    file: &mut CheckedFile,
    loaded: &Loaded,
    container: Container,
    under: Option<&str>,
) -> Result<Checkpoint, Fault> {
    let found = find(&loaded.arena, loaded.root, under)?;
    let mut out = Checkpoint {
        tensors: StateDict::new(),
        metadata: found.metadata,
        origin: Origin {
            container,
            nested_under: found.path,
            stripped_prefixes: Vec::new(),
            skipped: BTreeMap::new(),
            ignored: found.ignored,
        },
    };
    let mut room = Room::new(file.len());
    for (name, value) in found.entries {
        match loaded.arena.node(value) {
            Some(Node::Tensor(tensor)) => match &tensor.element {
                Ok(element) if element.is_float() => {
                    let data = numbers(file, loaded, tensor, *element, &name, &mut room)?;
                    let shape = tensor.shape.clone();
                    out.tensors.insert(name, HostTensor { shape, data });
                }
                Ok(element) => {
                    out.origin.skipped.insert(name, format!("{} tensor", element.name()));
                }
                Err(class) => {
                    return Err(Fault::unsupported(
                        format!("the number format {class} of the tensor {name}"),
                        "Convert the tensor to float32 and save the checkpoint again.",
                    ));
                }
            },
            _ => {
                out.origin.skipped.insert(name, loaded.arena.describe(value));
            }
        }
    }
    Ok(out)
}

/// A state dict inside the pickled value.
struct Found {
    path: Vec<String>,
    entries: BTreeMap<String, Value>,
    metadata: BTreeMap<String, String>,
    ignored: Vec<String>,
}

fn find(arena: &Arena, root: Value, under: Option<&str>) -> Result<Found, Fault> {
    let mut out = Found {
        path: Vec::new(),
        entries: BTreeMap::new(),
        metadata: BTreeMap::new(),
        ignored: Vec::new(),
    };
    let mut here = root;
    let mut wanted = under;
    loop {
        let pairs = arena.dict(here).ok_or_else(|| {
            Fault::malformed(
                format!("a dictionary of tensors{}", inside(&out.path)),
                arena.describe(here),
                "Save the weights as torch.save(model.state_dict(), path).",
            )
        })?;
        let entries = by_name(arena, pairs)?;
        let next = match wanted.take() {
            Some(key) => Some(entries.get_key_value(key).ok_or_else(|| no_key(key, &entries))?),
            None if out.path.len() < DEEPEST_NESTING => nested(arena, &entries),
            None => None,
        };
        let Some((key, &value)) = next else {
            if !has_tensor(arena, &entries) {
                return Err(no_tensors(&out.path, &entries, arena));
            }
            out.entries = entries;
            return Ok(out);
        };
        out.path.push(key.clone());
        here = value;
        for (other, &value) in entries.iter().filter(|(other, _)| *other != key) {
            match plain_text(arena, value) {
                Some(text) => drop(out.metadata.insert(other.clone(), text)),
                None => out.ignored.push(other.clone()),
            }
        }
    }
}

fn inside(path: &[String]) -> String {
    if path.is_empty() { String::new() } else { format!(" under '{}'", path.join("' in '")) }
}

fn by_name(arena: &Arena, pairs: &[(Value, Value)]) -> Result<BTreeMap<String, Value>, Fault> {
    pairs
        .iter()
        .map(|&(key, value)| match arena.text(key) {
            Some(name) => Ok((name.to_owned(), value)),
            None => Err(Fault::malformed(
                "a dictionary whose keys are names",
                format!("{} as a key", arena.describe(key)),
                "Save the weights as torch.save(model.state_dict(), path).",
            )),
        })
        .collect()
}

fn is_tensor(arena: &Arena, value: Value) -> bool {
    matches!(arena.node(value), Some(Node::Tensor(_)))
}

fn has_tensor(arena: &Arena, entries: &BTreeMap<String, Value>) -> bool {
    entries.values().any(|&value| is_tensor(arena, value))
}

/// The entry that holds the state dict, where this dictionary is not one itself.
fn nested<'a>(
    arena: &Arena,
    entries: &'a BTreeMap<String, Value>,
) -> Option<(&'a String, &'a Value)> {
    NESTING_KEYS
        .iter()
        .filter_map(|&key| entries.get_key_value(key))
        .find(|&(_, &value)| arena.dict(value).is_some())
}

fn no_key(key: &str, entries: &BTreeMap<String, Value>) -> Fault {
    Fault::malformed(
        format!("an entry '{key}'"),
        format!("only {}", list(entries.keys())),
        "Name one of these entries, or none.",
    )
}

fn no_tensors(path: &[String], entries: &BTreeMap<String, Value>, arena: &Arena) -> Fault {
    // A whole pickled model is the common mistake; its class tells the person which.
    let object = entries.iter().find_map(|(key, &value)| match arena.node(value) {
        Some(Node::Opaque(class)) if NESTING_KEYS.contains(&key.as_str()) => {
            Some(format!("a pickled object of {class} under '{key}'"))
        }
        _ => None,
    });
    Fault::malformed(
        format!("tensors by name{}, or a state dict under 'model' or 'state_dict'", inside(path)),
        object.unwrap_or_else(|| format!("a dictionary with {}", list(entries.keys()))),
        "Save the weights as torch.save(model.state_dict(), path).",
    )
}

fn list<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    const SHOWN: usize = 8;
    let count = names.len();
    let mut shown: Vec<String> = names.take(SHOWN).map(|n| format!("'{n}'")).collect();
    match count {
        0 => return "no entry".into(),
        n if n > SHOWN => shown.push(format!("and {} more", n - SHOWN)),
        _ => {}
    }
    format!("the entries {}", shown.join(", "))
}

fn plain_text(arena: &Arena, value: Value) -> Option<String> {
    match value {
        Value::Bool(x) => Some(x.to_string()),
        Value::Int(x) => Some(x.to_string()),
        Value::Float(x) => Some(x.to_string()),
        _ => arena.text(value).map(str::to_owned),
    }
}

/// What the tensors may take in all. Tensors may share a storage or repeat its numbers (stride
/// 0), so that a small file could describe any amount of data.
struct Room {
    file_len: u64,
    bytes: u64,
}

impl Room {
    fn new(file_len: u64) -> Self {
        Self { file_len, bytes: file_len / 2 * 5 }
    }

    fn take(&mut self, count: usize, name: &str) -> Result<(), Fault> {
        let rest = (count as u64).checked_mul(4).and_then(|n| self.bytes.checked_sub(n));
        self.bytes = rest.ok_or_else(|| {
            Fault::malformed(
                format!("tensors of at most 2.5 times the file's {} bytes", self.file_len),
                format!("more with the {count} numbers of {name}"),
                format!("Clone tensors that share memory before saving them. Or: {DAMAGED}"),
            )
        })?;
        Ok(())
    }
}

/// Reads a tensor's numbers into row-major order.
fn numbers(
    file: &mut CheckedFile,
    loaded: &Loaded,
    tensor: &TensorRef,
    element: Element,
    name: &str,
    room: &mut Room,
) -> Result<Vec<f32>, Fault> {
    let impossible = |found: String| Fault::damaged(format!("the tensor {name}"), found);
    let count = element_count(&tensor.shape)
        .ok_or_else(|| impossible(format!("the shape {:?}", tensor.shape)))?;
    room.take(count, name)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let storage = &loaded.arena.storages[tensor.storage];
    let (start, bytes) = loaded.places[tensor.storage]
        .ok_or_else(|| impossible(format!("no storage {} in the file", storage.key)))?;
    let width = element.bytes() as u64;
    // The view's last element, counted from its first.
    let last = tensor
        .shape
        .iter()
        .zip(&tensor.stride)
        .try_fold(0usize, |last, (&n, &stride)| last.checked_add((n - 1).checked_mul(stride)?));
    let span = last
        .and_then(|last| last.checked_add(1))
        .filter(|&span| {
            let end = tensor.offset.checked_add(span as u64).and_then(|n| n.checked_mul(width));
            end.is_some_and(|end| end <= bytes)
        })
        .ok_or_else(|| {
            impossible(format!(
                "shape {:?}, strides {:?} and offset {}, beyond the {bytes} bytes of its storage {}",
                tensor.shape, tensor.stride, tensor.offset, storage.key,
            ))
        })?;
    let start = start + tensor.offset * width;
    if is_contiguous(tensor) {
        return read_numbers(file, start, count, element, name);
    }
    let raw = file.bytes(start, span as u64 * width, name)?;
    gather(&raw, tensor, element, count, name)
}

fn is_contiguous(tensor: &TensorRef) -> bool {
    let mut expected = 1;
    tensor.shape.iter().zip(&tensor.stride).rev().all(|(&n, &stride)| {
        let fits = n == 1 || stride == expected;
        expected *= n;
        fits
    })
}

/// Walks a strided view in row-major order.
fn gather(
    raw: &[u8],
    tensor: &TensorRef,
    element: Element,
    count: usize,
    name: &str,
) -> Result<Vec<f32>, Fault> {
    let width = element.bytes();
    let mut out = reserve(count, name)?;
    // The stride of a dimension of one element can be any number: it is added and taken away.
    let mut index = vec![0usize; tensor.shape.len()];
    let mut at = 0;
    while out.len() < count {
        element.decode(&raw[at * width..(at + 1) * width], &mut out);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            at = at.wrapping_add(tensor.stride[axis]);
            if index[axis] < tensor.shape[axis] {
                break;
            }
            at = at.wrapping_sub(tensor.stride[axis].wrapping_mul(tensor.shape[axis]));
            index[axis] = 0;
        }
    }
    Ok(out)
}
