//! What has to happen to optimizers when parameters change their shapes.

use crate::{Error, Result};
use tch::TchError;

/// Rebuilds the optimizers of a model whose parameters have got other shapes.
///
/// An optimizer keeps momentum and the like in the shapes that the parameters had, and fails at its next step. Any
/// closure that builds it anew will do; [`NoOptimizer`] says that there is none.
pub trait Optimizers {
    /// Called once, after the edit is verified and before it is final.
    ///
    /// # Errors
    /// Anything: the edit is then taken back.
    fn rebuild(&mut self) -> Result<()>;
}

/// Nobody trains the model.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOptimizer;

impl Optimizers for NoOptimizer {
    fn rebuild(&mut self) -> Result<()> {
        Ok(())
    }
}

impl<F: FnMut() -> Result<(), TchError>> Optimizers for F {
    fn rebuild(&mut self) -> Result<()> {
        self().map_err(Error::torch("rebuilding the optimizers"))
    }
}
