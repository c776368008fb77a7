//! One step of an LSTM.

use super::weights::Weights;
use crate::Result;
use tch::Tensor;

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
