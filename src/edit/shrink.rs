//! Taking slices out of tensors in place, and putting them back.

use super::Slice;
use crate::hook::ffi::reset_gradient;
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::Tensor;

/// One tensor that loses slices. Nothing is written to its memory: it is given other memory, and its own back.
#[derive(Debug)]
pub(super) struct Shrink {
    pub name: String,
    tensor: Tensor,
    /// The same numbers in the same memory, whatever `tensor` is given.
    pub original: Tensor,
    /// Dimension -> indices that leave.
    gone: BTreeMap<i64, Vec<i64>>,
}

impl Shrink {
    pub fn new(name: &str, tensor: &Tensor, slices: &[&Slice]) -> Result<Self> {
        let gone = slices.iter().map(|s| (s.dimension, s.indices.clone())).collect();
        let original = tensor.f_detach().map_err(Error::torch(format!("reading `{name}`")))?;
        Ok(Self { name: name.to_string(), tensor: tensor.shallow_clone(), original, gone })
    }

    /// The tensor with its slices at 0, its shape as before.
    pub fn silence(&self) -> Result<()> {
        let silent = || {
            let mut copy = self.original.f_detach_copy()?;
            for (d, indices) in &self.gone {
                let indices = Tensor::from_slice(indices).f_to_device(copy.device())?;
                let _ = copy.f_index_fill_(*d, &indices, 0.0)?;
            }
            Ok(copy)
        };
        self.give(silent(), "zeroing")
    }

    /// The tensor without its slices.
    pub fn shrink(&self) -> Result<()> {
        let small = || {
            let mut small = self.original.shallow_clone();
            for (d, indices) in &self.gone {
                let size = small.size()[*d as usize];
                let kept: Vec<i64> = (0..size).filter(|i| indices.binary_search(i).is_err()).collect();
                small = small.f_index_select(*d, &Tensor::from_slice(&kept).f_to_device(small.device())?)?;
            }
            Ok(small)
        };
        self.give(small(), "shrinking")
    }

    /// The tensor as it was, in its own memory.
    pub fn restore(&self) -> Result<()> {
        self.give(Ok(self.original.shallow_clone()), "restoring")
    }

    /// Forgets what autograd remembers of the old shape.
    pub fn forget_gradient(&self) -> Result<()> {
        reset_gradient(&self.tensor)
    }

    fn give(&self, data: Result<Tensor, tch::TchError>, verb: &str) -> Result<()> {
        let mut tensor = self.tensor.shallow_clone();
        data.and_then(|d| tensor.f_set_data(&d)).map_err(Error::torch(format!("{verb} `{}`", self.name)))
    }
}
