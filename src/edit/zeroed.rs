//! What is kept of a zeroed slice: where it is, and the numbers it held. Any store with such a parameter will do.

use super::Slice;
use crate::{Error, Model, Result};
use tch::Tensor;

/// A slice of a parameter that is at 0, with the numbers that it held before.
#[derive(Debug)]
pub(crate) struct Zeroed {
    pub slice: Slice,
    /// The parameter's shape, but for as many entries as there are indices along the slice's dimension.
    pub original: Tensor,
}

impl Zeroed {
    /// Reads what `slice` of `parameter` holds.
    pub fn read(parameter: &Tensor, slice: &Slice) -> Result<Self> {
        let indices = indices(slice, parameter);
        let original = tch::no_grad(|| parameter.f_index_select(slice.dimension, &indices))
            .map_err(Error::torch(format!("reading parameter `{}`", slice.parameter)))?;
        Ok(Self { slice: slice.clone(), original })
    }

    /// What a file said; the numbers must have the shape of the slice.
    pub fn from_parts(slice: Slice, original: Tensor) -> Result<Self> {
        let size = original.size();
        let along = usize::try_from(slice.dimension).ok().and_then(|d| size.get(d));
        if along != Some(&(slice.indices.len() as i64)) {
            return Err(Error::Shape {
                what: format!("the numbers of {slice}"),
                received: size,
                expected: format!("{} entries along dimension {}", slice.indices.len(), slice.dimension),
            });
        }
        Ok(Self { slice, original })
    }

    /// Sets the slice to 0 in a model.
    pub fn enforce(&self, model: &Model<'_>) -> Result<()> {
        self.silence(parameter_of(model, &self.slice)?)
    }

    /// Sets the slice of `parameter` to 0.
    pub fn silence(&self, parameter: &Tensor) -> Result<()> {
        let indices = indices(&self.slice, parameter);
        tch::no_grad(|| parameter.shallow_clone().f_index_fill_(self.slice.dimension, &indices, 0.0))
            .map(drop)
            .map_err(Error::torch(format!("zeroing parameter `{}`", self.slice.parameter)))
    }

    /// Puts the numbers back into `parameter`.
    pub fn restore(&self, parameter: &Tensor) -> Result<()> {
        let indices = indices(&self.slice, parameter);
        tch::no_grad(|| parameter.shallow_clone().f_index_copy_(self.slice.dimension, &indices, &self.original))
            .map(drop)
            .map_err(Error::torch(format!("restoring parameter `{}`", self.slice.parameter)))
    }

    /// The same slice after `gone` left the parameters; `None` when nothing of it is left.
    pub fn without(&self, gone: &[Slice]) -> Result<Option<Self>> {
        let mut kept = Self { slice: self.slice.clone(), original: self.original.shallow_clone() };
        for slice in gone.iter().filter(|s| s.parameter == self.slice.parameter) {
            kept.leave(slice)?;
        }
        Ok((!kept.slice.indices.is_empty()).then_some(kept))
    }

    fn leave(&mut self, gone: &Slice) -> Result<()> {
        let stays = |i: &i64| gone.indices.binary_search(i).is_err();
        let places: Vec<i64> = if gone.dimension == self.slice.dimension {
            let own = std::mem::take(&mut self.slice.indices);
            let moved = |i: &i64| i - gone.indices.partition_point(|g| g < i) as i64;
            self.slice.indices = own.iter().filter(|i| stays(i)).map(moved).collect();
            (0_i64..).zip(&own).filter(|(_, i)| stays(i)).map(|(place, _)| place).collect()
        } else {
            let size = usize::try_from(gone.dimension).ok().and_then(|d| self.original.size().get(d).copied());
            (0..size.unwrap_or(0)).filter(stays).collect()
        };
        let places = Tensor::from_slice(&places).to_device(self.original.device());
        self.original = self
            .original
            .f_index_select(gone.dimension, &places)
            .map_err(Error::torch(format!("following parameter `{}`", gone.parameter)))?;
        Ok(())
    }
}

/// The parameter that a slice is part of.
pub(super) fn parameter_of<'m>(model: &'m Model<'_>, slice: &Slice) -> Result<&'m Tensor> {
    let valid = model.parameters().iter().map(|(n, _)| n.as_str());
    model.parameter(&slice.parameter).ok_or_else(|| Error::unknown("parameter", &slice.parameter, valid))
}

fn indices(slice: &Slice, parameter: &Tensor) -> Tensor {
    Tensor::from_slice(&slice.indices).to_device(parameter.device())
}
