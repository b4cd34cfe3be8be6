//! The opcodes of pickle protocols 2 to 5 that build data. The ones that would call something in
//! Python (`REDUCE`, `NEWOBJ`, `BUILD`, persistent ids) are in [`calls`](super::calls).

use super::value::{Node, Value};
use super::vm::Machine;
use crate::error::{DAMAGED, Fault};

impl Machine<'_, '_> {
    /// Executes one opcode; `false` at the end of the pickle.
    pub(super) fn step(&mut self) -> Result<bool, Fault> {
        let code = self.input.byte()?;
        match code {
            0x80 => {
                let protocol = self.input.byte()?;
                if !(2..=5).contains(&protocol) {
                    return Err(Fault::unsupported(
                        format!("pickle protocol {protocol}"),
                        format!("Save the checkpoint again with torch.save. Or: {DAMAGED}"),
                    ));
                }
            }
            0x95 => {
                // FRAME: a hint for buffering.
                self.input.array::<8>()?;
            }
            b'.' => return Ok(false),
            b'(' => {
                self.charge(2 * size_of::<usize>())?;
                self.marks.push(self.stack.len());
            }
            // POP right above a mark takes the mark.
            b'0' if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => drop(self.marked()?),
            b'2' => {
                let value = self.top()?;
                self.push(value)?;
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' => {
                let n = self.input.byte()?;
                self.push(Value::Int(n.into()))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.input.array()?);
                self.push(Value::Int(n.into()))?;
            }
            b'J' => {
                let n = i32::from_le_bytes(self.input.array()?);
                self.push(Value::Int(n.into()))?;
            }
            b'G' => {
                let x = f64::from_be_bytes(self.input.array()?);
                self.push(Value::Float(x))?;
            }
            0x8a => {
                let n = self.input.byte()?;
                self.long(n.into())?;
            }
            0x8b => {
                let n = self.length4()?;
                self.long(n)?;
            }
            _ => return self.step_larger(code),
        }
        Ok(true)
    }

    fn length4(&mut self) -> Result<u64, Fault> {
        Ok(u32::from_le_bytes(self.input.array()?).into())
    }

    fn length8(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.input.array()?))
    }

    /// The opcodes of strings, collections, memory and objects.
    fn step_larger(&mut self, code: u8) -> Result<bool, Fault> {
        match code {
            b'X' | b'T' | b'B' => {
                let n = self.length4()?;
                if code == b'B' { self.bytes(n)? } else { self.text(n)? }
            }
            0x8c | b'U' | b'C' => {
                let n = self.input.byte()?.into();
                if code == b'C' { self.bytes(n)? } else { self.text(n)? }
            }
            0x8d => {
                let n = self.length8()?;
                self.text(n)?;
            }
            0x8e | 0x96 => {
                let n = self.length8()?;
                self.bytes(n)?;
            }
            // Sets matter nowhere in a state dict; as lists they keep the stack right.
            b']' | 0x8f => self.push_node(Node::List(Vec::new()))?,
            b'}' => self.push_node(Node::Dict(Vec::new()))?,
            b')' => self.tuple(0)?,
            0x85..=0x87 => self.tuple(usize::from(code - 0x84))?,
            b't' => {
                let values = self.marked()?;
                self.push_node(Node::Tuple(values.into()))?;
            }
            b'l' | 0x91 => {
                let values = self.marked()?;
                self.push_node(Node::List(values))?;
            }
            b'd' => {
                let values = self.marked()?;
                self.dict_of(&values)?;
            }
            b'a' => {
                let value = self.pop()?;
                self.append(&[value])?;
            }
            b'e' | 0x90 => {
                let values = self.marked()?;
                self.append(&values)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let values = self.marked()?;
                self.set_items(&values)?;
            }
            b'q' => {
                let index = self.input.byte()?;
                self.remember(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.input.array()?);
                self.remember(index)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let index = self.input.byte()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.input.array()?);
                self.recall(index)?;
            }
            b'c' => {
                let module = self.name_line()?;
                let name = self.name_line()?;
                self.push_global(&module, &name)?;
            }
            _ => return self.step_object(code),
        }
        Ok(true)
    }
}
