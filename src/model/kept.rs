//! What a model writes to when it runs: counters, running statistics, its input. A pass leaves them as they were.

use crate::Result;
use crate::hook::ffi;
use std::cell::{Cell, RefCell};
use tch::Tensor;

/// The buffers of a model, and the input of a pass.
#[derive(Debug, Default)]
pub(super) struct Kept {
    buffers: Vec<Tensor>,
    /// Which of them the first pass wrote to; none before it.
    written: RefCell<Option<Vec<usize>>>,
    /// Whether it wrote to its input.
    input_written: Cell<Option<bool>>,
}

impl Kept {
    pub fn new(buffers: Vec<Tensor>) -> Self {
        Self { buffers, ..Self::default() }
    }

    /// Runs `pass` on `input`, and puts back what it wrote to.
    pub fn around<R>(&self, input: &Tensor, pass: impl FnOnce() -> R) -> Result<R> {
        let known = self.written.borrow().clone();
        let places = known.clone().unwrap_or_else(|| (0..self.buffers.len()).collect());
        let copies = places.iter().map(|i| ffi::copy_of(&self.buffers[*i])).collect::<Result<Vec<_>>>()?;
        let given = if self.input_written.get() == Some(false) { None } else { Some(ffi::copy_of(input)?) };
        let result = pass();
        if let Some(given) = given {
            let written = ffi::put_back(input, &given)?;
            self.input_written.set(Some(written || self.input_written.get() == Some(true)));
        }
        let mut written = Vec::new();
        for (i, copy) in places.into_iter().zip(&copies) {
            if ffi::put_back(&self.buffers[i], copy)? {
                written.push(i);
            }
        }
        if known.is_none() {
            self.written.replace(Some(written));
        }
        Ok(result)
    }
}
