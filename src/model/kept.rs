//! Buffers that a model writes to when it runs: counters, running statistics. A pass leaves them as they were.

use crate::Result;
use crate::hook::ffi;
use std::cell::RefCell;
use tch::Tensor;

/// The buffers of a model.
#[derive(Debug, Default)]
pub(super) struct Kept {
    buffers: Vec<Tensor>,
    /// Which of them the first pass wrote to; none before it.
    written: RefCell<Option<Vec<usize>>>,
}

impl Kept {
    pub fn new(buffers: Vec<Tensor>) -> Self {
        Self { buffers, written: RefCell::new(None) }
    }

    /// Runs `pass`, and puts back what it wrote to.
    pub fn around<R>(&self, pass: impl FnOnce() -> R) -> Result<R> {
        let known = self.written.borrow().clone();
        let places = known.clone().unwrap_or_else(|| (0..self.buffers.len()).collect());
        let copies = places.iter().map(|i| ffi::copy_of(&self.buffers[*i])).collect::<Result<Vec<_>>>()?;
        let result = pass();
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
