//! A pickle machine that builds data and nothing else.
//!
//! Its memory: a stack with marks, the memo, the values, and a budget that all of them share. What
//! each opcode does with it is told in [`opcodes`](super::opcodes) and [`calls`](super::calls).

use std::collections::HashMap;

use super::stream::Stream;
use super::value::{Arena, Node, Value};
use crate::error::Fault;

/// Memory that building values may take in any case: small files are mostly names.
const ALWAYS_ALLOWED: u64 = 4 << 20;

pub(super) struct Machine<'a, 'f> {
    pub(super) input: &'a mut Stream<'f>,
    pub(super) arena: Arena,
    pub(super) storages_by_key: HashMap<Box<str>, usize>,
    pub(super) stack: Vec<Value>,
    pub(super) marks: Vec<usize>,
    pub(super) memo: HashMap<u32, Value>,
    /// Bytes that may still be spent on values.
    budget: u64,
}

/// Runs one pickle, up to its end, and gives what it built and the value it stands for.
pub(super) fn run(input: &mut Stream, file_len: u64) -> Result<(Arena, Value), Fault> {
    let mut machine = Machine {
        input,
        arena: Arena::default(),
        storages_by_key: HashMap::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        budget: file_len.max(ALWAYS_ALLOWED),
    };
    while machine.step()? {}
    let root = machine.pop()?;
    Ok((machine.arena, root))
}

impl Machine<'_, '_> {
    /// Accounts for memory before it is taken. A pickle can ask for much more than its own length.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        match self.budget.checked_sub(bytes as u64) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => Err(Fault::damaged(
                "a pickle that describes a checkpoint",
                "one that builds more data than the file could hold",
            )),
        }
    }

    /// An error at the current position.
    pub(super) fn bad(&self, expected: &str, found: impl Into<String>) -> Fault {
        let found = found.into();
        Fault::damaged(expected, format!("{found} before byte {}", self.input.position()))
    }

    pub(super) fn push(&mut self, value: Value) -> Result<(), Fault> {
        self.charge(2 * size_of::<Value>())?;
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<Value, Fault> {
        // Below the last mark lie values that belong to an outer collection.
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(self.bad("a value", "none"));
        }
        self.stack.pop().ok_or_else(|| Fault::damaged("a value", "none"))
    }

    pub(super) fn top(&mut self) -> Result<Value, Fault> {
        let value = self.pop()?;
        self.stack.push(value);
        Ok(value)
    }

    pub(super) fn add(&mut self, node: Node) -> Result<Value, Fault> {
        // A growing vector holds its old and its new half-empty self for a moment.
        self.charge(3 * size_of::<Node>())?;
        let id = u32::try_from(self.arena.nodes.len())
            .map_err(|_| self.bad("fewer values", "four thousand million"))?;
        self.arena.nodes.push(node);
        Ok(Value::Node(id))
    }

    pub(super) fn push_node(&mut self, node: Node) -> Result<(), Fault> {
        let value = self.add(node)?;
        self.push(value)
    }

    /// The values above the last mark, which is removed.
    pub(super) fn marked(&mut self) -> Result<Vec<Value>, Fault> {
        let mark = self.marks.pop().ok_or_else(|| self.bad("a mark", "none"))?;
        self.charge((self.stack.len() - mark) * size_of::<Value>())?;
        Ok(self.stack.split_off(mark))
    }

    pub(super) fn remember(&mut self, index: u32) -> Result<(), Fault> {
        let value = self.top()?;
        self.charge(4 * size_of::<(u32, Value)>())?;
        self.memo.insert(index, value);
        Ok(())
    }

    pub(super) fn recall(&mut self, index: u32) -> Result<(), Fault> {
        let value = self.memo.get(&index).copied();
        let value =
            value.ok_or_else(|| self.bad("a remembered value", format!("none at {index}")))?;
        self.push(value)
    }

    fn payload(&mut self, count: u64) -> Result<Vec<u8>, Fault> {
        self.charge(usize::try_from(count).unwrap_or(usize::MAX))?;
        self.input.string(count)
    }

    pub(super) fn text(&mut self, count: u64) -> Result<(), Fault> {
        let bytes = self.payload(count)?;
        let text = String::from_utf8(bytes).map_err(|_| self.bad("text", "bytes that are none"))?;
        self.push_node(Node::Text(text.into()))
    }

    pub(super) fn bytes(&mut self, count: u64) -> Result<(), Fault> {
        let bytes = self.payload(count)?;
        self.push_node(Node::Bytes(bytes.into()))
    }

    /// An integer of any length, little-endian in two's complement.
    pub(super) fn long(&mut self, count: u64) -> Result<(), Fault> {
        let bytes = self.payload(count)?;
        if bytes.len() > 8 {
            return self.push_node(Node::Bytes(bytes.into()));
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = if negative { [0xff; 8] } else { [0; 8] };
        wide[..bytes.len()].copy_from_slice(&bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    pub(super) fn name_line(&mut self) -> Result<String, Fault> {
        let line = self.input.line()?;
        String::from_utf8(line).map_err(|_| self.bad("a name", "bytes that are no text"))
    }

    pub(super) fn push_global(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        self.charge(module.len() + name.len())?;
        self.push_node(Node::Global(format!("{module}.{name}").into()))
    }

    pub(super) fn append(&mut self, values: &[Value]) -> Result<(), Fault> {
        self.charge(3 * size_of_val(values))?;
        let target = self.top()?;
        match self.node_mut(target) {
            Some(Node::List(list)) => list.extend_from_slice(values),
            Some(Node::Opaque(_)) => {}
            _ => return Err(self.bad("a list", self.arena.describe(target))),
        }
        Ok(())
    }

    pub(super) fn set_items(&mut self, values: &[Value]) -> Result<(), Fault> {
        self.charge(3 * size_of_val(values))?;
        let target = self.top()?;
        let (pairs, rest) = values.as_chunks::<2>();
        match self.node_mut(target) {
            Some(Node::Dict(dict)) => dict.extend(pairs.iter().map(|&[k, v]| (k, v))),
            Some(Node::Opaque(_)) => {}
            _ => return Err(self.bad("a dictionary", self.arena.describe(target))),
        }
        match rest {
            [] => Ok(()),
            _ => Err(self.bad("pairs of key and value", "a key alone")),
        }
    }

    fn node_mut(&mut self, value: Value) -> Option<&mut Node> {
        match value {
            Value::Node(id) => self.arena.nodes.get_mut(id as usize),
            _ => None,
        }
    }

    pub(super) fn tuple(&mut self, count: usize) -> Result<(), Fault> {
        let mut values = vec![Value::None; count];
        for slot in values.iter_mut().rev() {
            *slot = self.pop()?;
        }
        self.charge(size_of_val(values.as_slice()))?;
        self.push_node(Node::Tuple(values.into()))
    }

    pub(super) fn dict_of(&mut self, values: &[Value]) -> Result<(), Fault> {
        self.push_node(Node::Dict(Vec::new()))?;
        self.set_items(values)
    }
}
