//! A reader of Python pickles that builds plain values and tensors, and refuses everything else; or, of files of which
//! only the outline is wanted, writes down the names of all other classes.
//!
//! Nothing is ever called: the few classes that a checkpoint names are known here, by name. Values lie in one list and
//! refer to each other by number, so that neither nesting nor sharing costs more than the file has bytes.

mod value;

use std::collections::HashMap;
pub(crate) use value::{Class, Id, Storage, Value};

/// All values of a pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    pub fn get(&self, id: Id) -> &Value {
        self.values.get(id).unwrap_or(&Value::None)
    }

    pub fn root(&self) -> Id {
        self.root
    }

    /// The entry of a dictionary.
    pub fn entry(&self, dict: Id, key: &str) -> Option<Id> {
        let Value::Dict(entries) = self.get(dict) else { return None };
        // As in Python, what was set last counts.
        entries.iter().rev().find(|(k, _)| matches!(self.get(*k), Value::Text(t) if t == key)).map(|(_, v)| *v)
    }

    /// Reads a pickle. The error is the reason alone.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        Machine::new(bytes, false).run().map(|(pickle, _)| pickle)
    }

    /// Reads a pickle of which only the outline matters: objects of other classes are there with their class's name, and
    /// what they hold is not. Returns how many bytes it takes as well.
    pub fn outline(bytes: &[u8]) -> Result<(Self, usize), String> {
        Machine::new(bytes, true).run()
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    /// Whether other classes are written down, not refused.
    outline: bool,
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

type Outcome<T = ()> = Result<T, String>;

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8], outline: bool) -> Self {
        Self { bytes, outline, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    fn run(mut self) -> Outcome<(Pickle, usize)> {
        loop {
            let at = self.at;
            let op = self.byte()?;
            if op == b'.' {
                let root = self.pop()?;
                return Ok((Pickle { values: self.values, root }, self.at));
            }
            self.step(op).map_err(|reason| format!("{reason} (at byte {at} of the pickle)"))?;
        }
    }

    fn step(&mut self, op: u8) -> Outcome {
        match op {
            0x80 => match self.byte()? {
                0..=5 => {}
                other => return Err(format!("pickle protocol {other}, known are 0 to 5")),
            },
            // A frame is only a hint how much to read.
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => {
                let n = self.byte()?;
                self.push(Value::Int(n.into()));
            }
            b'M' => {
                let n = self.number(2)?;
                self.push(Value::Int(n as i64));
            }
            b'J' => {
                let n = self.number(4)? as u32 as i32;
                self.push(Value::Int(n.into()));
            }
            0x8a => self.long()?,
            b'G' => {
                let bytes = self.take(8)?;
                let bits = bytes.iter().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
                self.push(Value::Float(f64::from_bits(bits)));
            }
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'C' => self.skip_bytes(1)?,
            b'B' => self.skip_bytes(4)?,
            0x8e => self.skip_bytes(8)?,
            b'}' => self.push(Value::Dict(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let items = self.marked()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => {
                let count = usize::from(op - 0x84);
                let at = self.stack.len().checked_sub(count).ok_or("a tuple of nothing")?;
                let items = self.stack.split_off(at);
                self.push(Value::Tuple(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.marked()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set([(key, value)])?;
            }
            b'u' => {
                let items = self.marked()?;
                if items.len() % 2 == 1 {
                    return Err("a dictionary with a key without a value".to_string());
                }
                self.set(items.chunks_exact(2).map(|pair| (pair[0], pair[1])))?;
            }
            b'q' | b'r' => {
                let key = self.number(if op == b'q' { 1 } else { 4 })?;
                self.remember(key as u32)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' | b'j' => {
                let key = self.number(if op == b'h' { 1 } else { 4 })?;
                self.recall(key as u32)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.class(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.value(module).clone(), self.value(name).clone()) {
                    (Value::Text(module), Value::Text(name)) => self.class(&module, &name)?,
                    _ => return Err("a class without a name".to_string()),
                }
            }
            b'R' | 0x81 => self.call()?,
            // What is set on an object is of no use here.
            b'b' => drop(self.pop()?),
            b'Q' => self.storage()?,
            other if self.outline => self.step_of_outline(other)?,
            other => return Err(format!("opcode 0x{other:02x}, which no checkpoint needs")),
        }
        Ok(())
    }

    /// What only other objects need.
    fn step_of_outline(&mut self, op: u8) -> Outcome {
        match op {
            b'1' => drop(self.marked()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'U' => self.text(1)?,
            b'T' => self.text(4)?,
            0x8b => {
                let length = self.number(4)?;
                self.take(usize::try_from(length).map_err(|_| "a number that is too long")?)?;
                self.push(Value::Int(0));
            }
            0x8f => self.push(Value::List(Vec::new())),
            0x90 => drop(self.marked()?),
            0x91 => {
                let items = self.marked()?;
                self.push(Value::List(items));
            }
            0x92 => {
                self.pop()?;
                self.call()?;
            }
            0x96 => self.skip_bytes(8)?,
            other => return Err(format!("opcode 0x{other:02x}, which is not known")),
        }
        Ok(())
    }

    /// A class or function is applied to arguments.
    fn call(&mut self) -> Outcome {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        if let Value::Object(_) = self.value(callee) {
            self.stack.push(callee);
            return Ok(());
        }
        let Value::Class(class) = *self.value(callee) else { return Err("a call of what is no class".to_string()) };
        let Value::Tuple(arguments) = self.value(arguments).clone() else {
            return Err("a call without arguments".to_string());
        };
        let value = match (class, arguments.as_slice()) {
            (Class::OrderedDict | Class::Config, []) => Value::Dict(Vec::new()),
            (Class::Encode, [_, _]) => Value::Bytes,
            (Class::RebuildTensor, [storage, offset, size, stride, ..]) => Value::Tensor {
                storage: *storage,
                offset: self.count(*offset)?,
                size: self.counts(*size)?,
                stride: self.counts(*stride)?,
            },
            (Class::OrderedDict, [_]) if self.outline => Value::Dict(Vec::new()),
            _ => return Err(format!("a call of {class:?} with {} arguments", arguments.len())),
        };
        self.push(value);
        Ok(())
    }

    /// `('storage', class, key, device, count)`.
    fn storage(&mut self) -> Outcome {
        let id = self.pop()?;
        let parts = match self.value(id) {
            Value::Tuple(parts) => parts.clone(),
            _ => Vec::new(),
        };
        if self.outline {
            match parts.as_slice() {
                // How torch.save wrote classes before version 1.6.
                [tag, class, ..] if *self.value(*tag) == Value::Text("module".to_string()) => self.stack.push(*class),
                _ => self.push(Value::Bytes),
            }
            return Ok(());
        }
        let [tag, class, key, _, count] = parts.as_slice() else {
            return Err("a reference to something outside of the file".to_string());
        };
        let value = match (self.value(*tag), self.value(*class), self.value(*key)) {
            (Value::Text(tag), Value::Class(Class::Storage(kind)), Value::Text(key)) if tag == "storage" => {
                Value::Storage { kind: *kind, key: key.clone(), count: self.count(*count)? }
            }
            _ => return Err("a reference to something that is no storage".to_string()),
        };
        self.push(value);
        Ok(())
    }

    fn class(&mut self, module: &str, name: &str) -> Outcome {
        let shown = |s: &str| s.chars().take(60).collect::<String>().escape_debug().to_string();
        let full = || format!("{}.{}", shown(module), shown(name));
        match Class::named(module, name) {
            Some(class) => self.push(Value::Class(class)),
            None if self.outline => self.push(Value::Object(full())),
            None => {
                return Err(format!(
                    "`{}`, which is none of the classes of a checkpoint: nothing of it was run",
                    full()
                ));
            }
        }
        Ok(())
    }

    fn long(&mut self) -> Outcome {
        let (length, most) = (usize::from(self.byte()?), if self.outline { usize::MAX } else { 8 });
        let bytes = self.take(length)?;
        if length > most {
            return Err(format!("a number of {length} bytes"));
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let fill = if negative { 0xff } else { 0 };
        let number = i64::from_le_bytes(std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(fill)));
        self.push(Value::Int(number));
        Ok(())
    }

    fn text(&mut self, width: usize) -> Outcome {
        let length = self.number(width)?;
        let bytes = self.take(usize::try_from(length).map_err(|_| "a text that is too long")?)?;
        let text = std::str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8")?.to_string();
        self.push(Value::Text(text));
        Ok(())
    }

    fn skip_bytes(&mut self, width: usize) -> Outcome {
        let length = self.number(width)?;
        self.take(usize::try_from(length).map_err(|_| "bytes that are too many")?)?;
        self.push(Value::Bytes);
        Ok(())
    }

    fn line(&mut self) -> Outcome<String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|b| *b == b'\n').ok_or("a name without an end")?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }

    fn byte(&mut self) -> Outcome<u8> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, count: usize) -> Outcome<&[u8]> {
        let end =
            self.at.checked_add(count).filter(|end| *end <= self.bytes.len()).ok_or("the pickle ends too early")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// An unsigned number of at most eight bytes, the lowest first.
    fn number(&mut self, width: usize) -> Outcome<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |sum, b| sum << 8 | u64::from(*b)))
    }

    fn value(&self, id: Id) -> &Value {
        self.values.get(id).unwrap_or(&Value::None)
    }

    fn count(&self, id: Id) -> Outcome<u64> {
        match self.value(id) {
            Value::Int(n) => u64::try_from(*n).map_err(|_| format!("a size of {n}")),
            _ => Err("a size that is no number".to_string()),
        }
    }

    fn counts(&self, id: Id) -> Outcome<Vec<u64>> {
        match self.value(id) {
            Value::Tuple(ids) => ids.iter().map(|id| self.count(*id)).collect(),
            _ => Err("a shape that is no tuple".to_string()),
        }
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Outcome<Id> {
        // Nothing below a mark may be taken.
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("nothing where a value should be".to_string());
        }
        self.stack.pop().ok_or_else(|| "nothing where a value should be".to_string())
    }

    fn marked(&mut self) -> Outcome<Vec<Id>> {
        let mark = self.marks.pop().ok_or("an end without a beginning")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn top(&self) -> Outcome<Id> {
        self.stack.last().copied().ok_or_else(|| "nothing where a value should be".to_string())
    }

    /// Adds items to the list on top of the stack.
    fn append(&mut self, added: Vec<Id>) -> Outcome {
        let top = self.top()?;
        match self.values.get_mut(top) {
            Some(Value::List(items)) => items.extend(added),
            Some(Value::Object(_)) => {}
            _ => return Err("something is added to what is no list".to_string()),
        }
        Ok(())
    }

    /// Sets entries of the dictionary on top of the stack.
    fn set(&mut self, added: impl IntoIterator<Item = (Id, Id)>) -> Outcome {
        let top = self.top()?;
        match self.values.get_mut(top) {
            Some(Value::Dict(entries)) => entries.extend(added),
            Some(Value::Object(_)) => {}
            _ => return Err("an entry is set in what is no dictionary".to_string()),
        }
        Ok(())
    }

    fn remember(&mut self, key: u32) -> Outcome {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Outcome {
        let id = *self.memo.get(&key).ok_or("a reference to what was not there yet")?;
        self.stack.push(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values_are_read() {
        assert!(Pickle::parse(b"\x80\x02}(X\x01\x00\x00\x00aK\x07Nu.").is_err(), "a key without a value");
        let pickle = Pickle::parse(b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x07X\x01\x00\x00\x00b\x8a\x01\x80u.").unwrap();
        let entry = |key| pickle.entry(pickle.root(), key).map(|id| pickle.get(id).clone());
        assert_eq!(entry("a"), Some(Value::Int(7)));
        assert_eq!(entry("b"), Some(Value::Int(-128)));
        assert_eq!(entry("c"), None);
    }

    #[test]
    fn nothing_is_run() {
        let reason = Pickle::parse(b"cos\nsystem\n(X\x04\x00\x00\x00echotR.").unwrap_err();
        assert!(reason.contains("`os.system`"), "{reason}");
        assert!(Pickle::parse(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.").unwrap_err().contains("builtins.eval"));
        assert!(Pickle::parse(b"(i__main__\nx\n.").unwrap_err().contains("opcode"));
    }

    #[test]
    fn nesting_without_end_takes_no_stack() {
        let mut bytes = vec![b']'; 1_000_000];
        bytes.extend(vec![b'a'; 999_999]);
        bytes.push(b'.');
        assert!(Pickle::parse(&bytes).is_ok());
        let mut bytes = b"N".to_vec();
        bytes.extend(vec![0x85; 1_000_000]);
        bytes.push(b'.');
        assert!(Pickle::parse(&bytes).is_ok());
    }
}
