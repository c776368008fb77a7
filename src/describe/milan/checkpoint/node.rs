//! The values of a checkpoint's pickle, with where they are, for errors that name them.

use super::settings::wrong;
use crate::pickle::{Id, Pickle, Value};
use crate::{Error, Result};
use std::path::Path;

/// A value of the pickle, with where it is.
pub(super) struct Node<'a> {
    pub path: &'a Path,
    pub pickle: &'a Pickle,
    pub id: Id,
    pub name: String,
}

impl<'a> Node<'a> {
    pub fn get(&self, key: &str) -> Result<Node<'a>> {
        let name = if self.name.is_empty() { key.to_string() } else { format!("{}.{key}", self.name) };
        let id =
            self.pickle.entry(self.id, key).ok_or_else(|| wrong(self.path, format!("no `{name}` in its pickle")))?;
        Ok(Node { path: self.path, pickle: self.pickle, id, name })
    }

    fn value(&self) -> &'a Value {
        self.pickle.get(self.id)
    }

    pub fn wrong(&self, received: impl ToString, allowed: &str) -> Error {
        Error::invalid(format!("`{}` of {}", self.name, self.path.display()), received, allowed)
    }

    fn kind(&self) -> &'static str {
        match self.value() {
            Value::None => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) | Value::Tuple(_) => "a list",
            Value::Dict(_) => "a dictionary",
            _ => "something else",
        }
    }

    pub fn bool(&self) -> Result<bool> {
        match self.value() {
            Value::Bool(b) => Ok(*b),
            _ => Err(self.wrong(self.kind(), "true or false")),
        }
    }

    pub fn count(&self) -> Result<usize> {
        match self.value() {
            Value::Int(n @ 1..=100_000) => Ok(*n as usize),
            Value::Int(n) => Err(self.wrong(n, "1 to 100000")),
            _ => Err(self.wrong(self.kind(), "a whole number")),
        }
    }

    pub fn number(&self) -> Result<f64> {
        match self.value() {
            Value::Float(x) if x.is_finite() => Ok(*x),
            Value::Int(n) => Ok(*n as f64),
            _ => Err(self.wrong(self.kind(), "a finite number")),
        }
    }

    pub fn text(&self) -> Result<String> {
        match self.value() {
            Value::Text(t) => Ok(t.clone()),
            _ => Err(self.wrong(self.kind(), "a text")),
        }
    }

    pub fn texts(&self) -> Result<Vec<String>> {
        let (Value::Tuple(items) | Value::List(items)) = self.value() else {
            return Err(self.wrong(self.kind(), "a list of texts"));
        };
        let text = |id: &Id| match self.pickle.get(*id) {
            Value::Text(t) => Ok(t.clone()),
            _ => Err(self.wrong("an entry that is no text", "a list of texts")),
        };
        items.iter().map(text).collect()
    }

    pub fn optional<T>(&self, read: impl FnOnce(&Self) -> Result<T>) -> Result<Option<T>> {
        if *self.value() == Value::None { Ok(None) } else { read(self).map(Some) }
    }
}
