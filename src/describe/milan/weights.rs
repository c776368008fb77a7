//! The tensors of a network by name.

use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Named tensors of which some are wanted.
pub(super) struct Weights<'a> {
    pub tensors: &'a BTreeMap<String, Tensor>,
    /// In front of every name.
    pub prefix: &'a str,
}

impl Weights<'_> {
    /// The tensor of this name and shape, as `f32`.
    ///
    /// # Errors
    /// [`Error::Unknown`] and [`Error::Shape`] that name it.
    pub fn get(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let tensor = self.find(name)?;
        if tensor.size() != shape {
            let what = format!("`{}{name}` of the checkpoint", self.prefix);
            return Err(Error::Shape { what, received: tensor.size(), expected: format!("{shape:?}") });
        }
        Ok(tensor)
    }

    /// The shape of a tensor that must have so many dimensions, none of them 0.
    pub fn shape(&self, name: &str, dimensions: usize) -> Result<Vec<i64>> {
        let size = self.find(name)?.size();
        if size.len() != dimensions || size.contains(&0) {
            let what = format!("`{}{name}` of the checkpoint", self.prefix);
            return Err(Error::Shape {
                what,
                received: size,
                expected: format!("{dimensions} dimensions, none of them 0"),
            });
        }
        Ok(size)
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(&format!("{}{name}", self.prefix))
    }

    fn find(&self, name: &str) -> Result<Tensor> {
        let full = format!("{}{name}", self.prefix);
        let tensor = self.tensors.get(&full);
        let tensor = tensor.ok_or_else(|| Error::unknown("weight", &full, self.tensors.keys().map(String::as_str)))?;
        tensor.f_to_kind(Kind::Float).map_err(Error::torch(format!("reading `{full}`")))
    }
}
