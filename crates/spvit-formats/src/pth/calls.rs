//! The opcodes by which a pickle asks Python to call something: none of it happens here.
//!
//! A few names are known and turned into data: PyTorch's tensor constructors and Python's ordered
//! dictionaries. Any other class or function becomes [`Node::Opaque`].

use super::value::{Node, StorageRef, TensorRef, Value, element};
use super::vm::Machine;
use crate::element::Element;
use crate::error::{DAMAGED, Fault};

impl Machine<'_, '_> {
    pub(super) fn step_object(&mut self, code: u8) -> Result<bool, Fault> {
        match code {
            // STACK_GLOBAL
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.arena.text(module), self.arena.text(name)) {
                    (Some(module), Some(name)) => {
                        let (module, name) = (module.to_owned(), name.to_owned());
                        self.push_global(&module, &name)?;
                    }
                    _ => return Err(self.bad("a module and a name", self.arena.describe(name))),
                }
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => {
                let (args, callee) = (self.pop()?, self.pop()?);
                let value = self.call(callee, args)?;
                self.push(value)?;
            }
            // NEWOBJ_EX
            0x92 => {
                let (_, args, callee) = (self.pop()?, self.pop()?, self.pop()?);
                let value = self.call(callee, args)?;
                self.push(value)?;
            }
            // BUILD: the state of an object; dictionaries keep nothing of interest in theirs.
            b'b' => {
                self.pop()?;
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                let value = self.persistent(id)?;
                self.push(value)?;
            }
            _ => {
                return Err(Fault::unsupported(
                    format!(
                        "the pickle opcode 0x{code:02x} (before byte {})",
                        self.input.position()
                    ),
                    format!("Save the checkpoint again with torch.save. Or: {DAMAGED}"),
                ));
            }
        }
        Ok(true)
    }

    fn call(&mut self, callee: Value, args: Value) -> Result<Value, Fault> {
        let name = match self.arena.node(callee) {
            Some(Node::Global(name) | Node::Opaque(name)) => name.clone(),
            _ => return Err(self.bad("a class", self.arena.describe(callee))),
        };
        let values = match self.arena.sequence(args) {
            Some(values) => {
                let values = values.to_vec();
                self.charge(size_of_val(values.as_slice()))?;
                values
            }
            None => return Err(self.bad("arguments", self.arena.describe(args))),
        };
        match &*name {
            "collections.OrderedDict" | "collections.defaultdict" | "builtins.dict" => {
                let pairs = self.pairs(&values)?;
                self.add(Node::Dict(pairs))
            }
            "torch.Size" => Ok(values.first().copied().unwrap_or(args)),
            "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor" => {
                self.tensor(&values, None)
            }
            "torch._utils._rebuild_tensor_v3" => self.tensor(&values, values.get(6).copied()),
            // A parameter is its tensor; so is a tensor with Python attributes.
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
                values.first().copied().ok_or_else(|| self.bad("a parameter's tensor", "none"))
            }
            "torch._tensor._rebuild_from_type_v2" => match values[..] {
                [inner, _, args, ..] if self.rebuilds_tensor(inner) => self.call(inner, args),
                _ => self.opaque(&name),
            },
            "copy_reg._reconstructor" | "copyreg._reconstructor" => {
                let class = values.first().and_then(|&class| self.arena.global(class));
                let class = class.unwrap_or(&name).to_owned();
                self.opaque(&class)
            }
            _ => self.opaque(&name),
        }
    }

    /// Whether calling this cannot lead back to a call of another function.
    fn rebuilds_tensor(&self, callee: Value) -> bool {
        self.arena.global(callee).is_some_and(|name| name.starts_with("torch._utils._rebuild_"))
    }

    fn opaque(&mut self, name: &str) -> Result<Value, Fault> {
        self.charge(name.len())?;
        self.add(Node::Opaque(name.into()))
    }

    /// The pairs an OrderedDict is made from: Python 2 gives them as one list of lists.
    fn pairs(&mut self, args: &[Value]) -> Result<Vec<(Value, Value)>, Fault> {
        let Some(list) = args.first().and_then(|&list| self.arena.sequence(list)) else {
            return Ok(Vec::new());
        };
        let count = list.len();
        let pairs = list.iter().map(|&pair| match self.arena.sequence(pair) {
            Some(&[key, value]) => Some((key, value)),
            _ => None,
        });
        let pairs: Option<Vec<_>> = pairs.collect();
        self.charge(count * size_of::<(Value, Value)>())?;
        pairs.ok_or_else(|| self.bad("pairs of key and value", "something else"))
    }

    /// `_rebuild_tensor*(storage, offset, size, stride, ...)`, and version 3 with its own dtype.
    fn tensor(&mut self, args: &[Value], dtype: Option<Value>) -> Result<Value, Fault> {
        let &[storage, offset, shape, stride, ..] = args else {
            return Err(self.bad("a tensor's storage, offset, shape and stride", "fewer values"));
        };
        let storage = match self.arena.node(storage) {
            Some(&Node::Storage(storage)) => storage,
            _ => return Err(self.bad("a tensor's storage", self.arena.describe(storage))),
        };
        let Value::Int(offset) = offset else {
            return Err(self.bad("a tensor's offset", self.arena.describe(offset)));
        };
        let offset =
            u64::try_from(offset).map_err(|_| self.bad("an offset", offset.to_string()))?;
        let (shape, stride) = (self.sizes(shape)?, self.sizes(stride)?);
        if shape.len() != stride.len() {
            return Err(self.bad(
                "a stride for each dimension",
                format!("{} dimensions and {} strides", shape.len(), stride.len()),
            ));
        }
        let element = match dtype.and_then(|dtype| self.arena.global(dtype)) {
            Some(name) => element(name),
            None => self.arena.storages[storage].element.clone(),
        };
        self.charge(size_of::<TensorRef>())?;
        let tensor = TensorRef { storage, element, offset, shape, stride };
        self.add(Node::Tensor(tensor.into()))
    }

    fn sizes(&mut self, value: Value) -> Result<Vec<usize>, Fault> {
        let Some(values) = self.arena.sequence(value) else {
            return Err(self.bad("a tensor's shape", self.arena.describe(value)));
        };
        let count = values.len();
        let sizes: Option<Vec<usize>> = values
            .iter()
            .map(|v| match v {
                Value::Int(n) => usize::try_from(*n).ok(),
                _ => None,
            })
            .collect();
        self.charge(2 * count * size_of::<usize>())?;
        sizes.ok_or_else(|| self.bad("sizes of zero or more", "something else"))
    }

    /// A persistent id stands for a storage: ('storage', class, key, device, count, view).
    fn persistent(&mut self, id: Value) -> Result<Value, Fault> {
        let fields = self.arena.sequence(id).unwrap_or_default();
        let &[tag, class, key, _device, count, ref view @ ..] = fields else {
            return Err(self.bad("a storage", self.arena.describe(id)));
        };
        if let Some(&view) = view.first()
            && view != Value::None
        {
            return Err(Fault::unsupported(
                "a storage that is a view of another (PyTorch before 0.4)",
                "Load and save the checkpoint with a newer PyTorch.",
            ));
        }
        let (Some("storage"), Some(key), Value::Int(count)) =
            (self.arena.text(tag), self.arena.text(key), count)
        else {
            return Err(self.bad("a storage's key and length", self.arena.describe(key)));
        };
        let class = match self.arena.node(class) {
            Some(Node::Global(name) | Node::Opaque(name)) => name.clone(),
            _ => return Err(self.bad("a storage class", self.arena.describe(class))),
        };
        let element = match &*class {
            "torch.storage.UntypedStorage" | "torch.UntypedStorage" => {
                Ok(Element::Other("untyped", 1))
            }
            class => element(class),
        };
        let key: Box<str> = key.into();
        let count = u64::try_from(count).map_err(|_| self.bad("a length", count.to_string()))?;
        let storage = StorageRef { key: key.clone(), element, count };
        let index = match self.storages_by_key.get(&key) {
            Some(&index) if self.arena.storages[index] == storage => index,
            Some(_) => {
                return Err(self.bad("one description of a storage", format!("two of {key}")));
            }
            None => {
                self.charge(4 * size_of::<StorageRef>() + 4 * key.len())?;
                let index = self.arena.storages.len();
                self.arena.storages.push(storage);
                self.storages_by_key.insert(key, index);
                index
            }
        };
        self.add(Node::Storage(index))
    }
}
