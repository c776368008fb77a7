//! A model together with the graph of one of its passes: what can be read, masked and edited.

use super::Graph;
use crate::{Model, Result};
use std::ops::Deref;
use tch::Tensor;

/// A model that was traced: the model, and the [`Graph`] of the pass that was written down.
///
/// It stands for its graph wherever one is wanted: `traced.sites()`, `ZeroPlan::zero(&traced, …)`. After an edit that
/// changes shapes the graph no longer fits the model: trace it again.
///
/// ```
/// use tch::{Device, Kind, Tensor, nn};
/// use tch_audit::{Model, Traced};
/// # fn main() -> tch_audit::Result<()> {
/// let vs = nn::VarStore::new(Device::Cpu);
/// let net = nn::seq_t().add(nn::linear(vs.root() / "fc", 4, 3, Default::default()));
/// let model = Model::new(&vs, &net);
/// let traced = Traced::new(&model, &Tensor::zeros([1, 4], (Kind::Float, Device::Cpu)))?;
/// assert_eq!(traced.site("fc")?.units, 3);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Traced<'m> {
    model: &'m Model<'m>,
    graph: Graph,
}

impl<'m> Traced<'m> {
    /// Runs `model` once on `example` and writes down its operators and sites.
    ///
    /// **Shapes:** `example` is a batch as the model wants it, `[N, C, H, W]` for images.
    ///
    /// # Errors
    /// [`Error::Forward`](crate::Error::Forward) when the model does not accept the example.
    pub fn new(model: &'m Model<'_>, example: &Tensor) -> Result<Self> {
        Ok(Self { model, graph: Graph::trace(model, example)? })
    }

    /// Lets edits go on where code that did not run in the traced pass (a second method, the other side of an `if`) reads
    /// what they change. Without it they are refused; with it the plan's `notes` name that code, which the edit may break.
    #[must_use]
    pub fn allowing_unseen_code(mut self) -> Self {
        self.graph.unseen_allowed = true;
        self
    }

    /// Whether they do.
    pub fn allows_unseen_code(&self) -> bool {
        self.graph.unseen_allowed
    }

    /// The model.
    pub fn model(&self) -> &'m Model<'m> {
        self.model
    }

    /// The graph alone, without the model.
    pub fn into_graph(self) -> Graph {
        self.graph
    }
}

impl Deref for Traced<'_> {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        &self.graph
    }
}
