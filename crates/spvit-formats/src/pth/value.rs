//! What a pickle builds: plain data in an arena.
//!
//! Values refer to each other by index. So shared and even cyclic data need no counting, deeply
//! nested data is dropped without recursion, and the arena's size is known at every moment.

use crate::element::Element;

/// The index of a [`Node`] in its [`Arena`].
pub(super) type Id = u32;

/// A value: small ones stand for themselves, the others are in the arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Node(Id),
}

/// The larger values.
#[derive(Debug)]
pub(super) enum Node {
    Text(Box<str>),
    /// Bytes, and integers too long for [`Value::Int`] (two's complement, little-endian).
    Bytes(Box<[u8]>),
    List(Vec<Value>),
    Tuple(Box<[Value]>),
    Dict(Vec<(Value, Value)>),
    /// A class or function, by "module.name". It is never looked up, let alone called.
    Global(Box<str>),
    /// A storage of the file, by its index in [`Arena::storages`].
    Storage(usize),
    Tensor(Box<TensorRef>),
    /// An object of a class this crate does not know ("module.name"); its content is dropped.
    Opaque(Box<str>),
}

/// A tensor: a view of a storage.
#[derive(Debug, Clone)]
pub(super) struct TensorRef {
    pub(super) storage: usize,
    /// The number format, or its name where this crate does not read it.
    pub(super) element: Result<Element, Box<str>>,
    /// Where the view starts, in elements.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

/// A block of numbers that tensors are views of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StorageRef {
    pub(super) key: Box<str>,
    /// The number format; the class name where it is unknown, as for untyped storages.
    pub(super) element: Result<Element, Box<str>>,
    /// How many elements it holds (bytes, where untyped).
    pub(super) count: u64,
}

/// Everything one pickle built.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pub(super) nodes: Vec<Node>,
    pub(super) storages: Vec<StorageRef>,
}

impl Arena {
    pub(super) fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(id) => self.nodes.get(id as usize),
            _ => None,
        }
    }

    pub(super) fn text(&self, value: Value) -> Option<&str> {
        match self.node(value) {
            Some(Node::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn global(&self, value: Value) -> Option<&str> {
        match self.node(value) {
            Some(Node::Global(name)) => Some(name),
            _ => None,
        }
    }

    /// The values of a tuple or a list.
    pub(super) fn sequence(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::Tuple(values)) => Some(values),
            Some(Node::List(values)) => Some(values),
            _ => None,
        }
    }

    pub(super) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node(value) {
            Some(Node::Dict(pairs)) => Some(pairs),
            _ => None,
        }
    }

    /// A value in a few words, for errors and for lists of what was left out.
    pub(super) fn describe(&self, value: Value) -> String {
        match value {
            Value::None => "None".into(),
            Value::Bool(_) => "a boolean".into(),
            Value::Int(_) => "an integer".into(),
            Value::Float(_) => "a number".into(),
            Value::Node(_) => match self.node(value) {
                Some(Node::Text(_)) => "a text".into(),
                Some(Node::Bytes(_)) => "bytes".into(),
                Some(Node::List(_)) => "a list".into(),
                Some(Node::Tuple(_)) => "a tuple".into(),
                Some(Node::Dict(_)) => "a dictionary".into(),
                Some(Node::Global(name)) => format!("the name {name}"),
                Some(Node::Storage(_)) => "a storage without a tensor".into(),
                Some(Node::Tensor(_)) => "a tensor".into(),
                Some(Node::Opaque(name)) => format!("a pickled object of {name}"),
                None => "nothing".into(),
            },
        }
    }
}

/// The number format of a storage class or a dtype, by PyTorch's "module.name".
pub(super) fn element(name: &str) -> Result<Element, Box<str>> {
    let plain = name.strip_prefix("torch.").unwrap_or(name);
    let plain = plain.strip_prefix("cuda.").unwrap_or(plain);
    Ok(match plain {
        "DoubleStorage" | "float64" => Element::F64,
        "FloatStorage" | "float32" => Element::F32,
        "HalfStorage" | "float16" => Element::F16,
        "BFloat16Storage" | "bfloat16" => Element::Bf16,
        "LongStorage" | "int64" => Element::Other("int64", 8),
        "IntStorage" | "int32" => Element::Other("int32", 4),
        "ShortStorage" | "int16" => Element::Other("int16", 2),
        "CharStorage" | "int8" => Element::Other("int8", 1),
        "ByteStorage" | "uint8" => Element::Other("uint8", 1),
        "BoolStorage" | "bool" => Element::Other("bool", 1),
        "uint16" => Element::Other("uint16", 2),
        "uint32" => Element::Other("uint32", 4),
        "uint64" => Element::Other("uint64", 8),
        "ComplexFloatStorage" | "complex64" => Element::Other("complex64", 8),
        "ComplexDoubleStorage" | "complex128" => Element::Other("complex128", 16),
        "QInt8Storage" => Element::Other("qint8", 1),
        "QUInt8Storage" => Element::Other("quint8", 1),
        "QInt32Storage" => Element::Other("qint32", 4),
        _ => return Err(plain.into()),
    })
}
