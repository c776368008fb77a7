//! One step of an LSTM, and the tensors of a network by name.

use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// A long short-term memory cell, gates in the order input, forget, cell, output.
#[derive(Debug)]
pub(super) struct Cell {
    /// `[input, 4 hidden]`.
    pub input: Tensor,
    /// `[hidden, 4 hidden]`.
    pub hidden: Tensor,
    /// `[4 hidden]`, both biases together.
    pub bias: Tensor,
}

impl Cell {
    /// From tensors named `PREFIX.weight_ihSUFFIX` and so on.
    pub fn new(weights: &Weights<'_>, prefix: &str, suffix: &str, input: i64, hidden: i64) -> Result<Self> {
        let name = |what: &str| format!("{prefix}.{what}{suffix}");
        let bias = weights.get(&name("bias_ih"), &[4 * hidden])? + weights.get(&name("bias_hh"), &[4 * hidden])?;
        Ok(Self {
            input: weights.get(&name("weight_ih"), &[4 * hidden, input])?.transpose(0, 1).contiguous(),
            hidden: weights.get(&name("weight_hh"), &[4 * hidden, hidden])?.transpose(0, 1).contiguous(),
            bias,
        })
    }
}

/// The new hidden state and cell from the four gates before their non-linearities, `[rows, 4 hidden]`, and the old cell.
pub(super) fn gated(gates: &Tensor, c: &Tensor) -> (Tensor, Tensor) {
    let parts = gates.chunk(4, 1);
    let (mut i, mut f, g, mut o) = (parts[0].sigmoid(), parts[1].sigmoid(), parts[2].tanh(), parts[3].sigmoid());
    let c = f.multiply_(c) + i.multiply_(&g);
    let h = o.multiply_(&c.tanh());
    (h, c)
}

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
