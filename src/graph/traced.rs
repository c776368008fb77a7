//! A model together with the graph of one of its passes: what can be read, masked and edited.

use super::code::Code;
use super::trace::write_down;
use super::{Graph, batch, coverage, find, fixed, layer};
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
        Ok(Self { model, graph: graph_of(model, example)? })
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

/// The graph of one pass, with everything that is found by looking at it.
fn graph_of(model: &Model<'_>, example: &Tensor) -> Result<Graph> {
    let input = model.prepare(example)?;
    // A frozen TorchScript module shows other operators in its first two passes.
    if model.parameters().is_empty() {
        for _ in 0..2 {
            let _ = model.run(&input).map_err(|error| model.explained(error, example))?;
        }
    }
    let tracer = write_down(model, &input).map_err(|error| model.explained(error, example))?;
    let mut graph = tracer.finish(model, input.size().first().copied().unwrap_or(1));
    fixed::mark(&mut graph);
    batch::find(&mut graph, model, &input)?;
    graph.layers = layer::find(&graph);
    let (sites, unread) = find::sites(&graph);
    graph.sites = sites;
    graph.unread = coverage::unread(&graph, model, &unread);
    // What a frozen module reads cannot be edited, and has no names.
    if graph.named() > 0 {
        graph.code = Code::of(model, &input);
    }
    Ok(graph)
}
