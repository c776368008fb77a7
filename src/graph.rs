//! The operators of one forward pass as a graph, and the places in it where neurons can be read or masked.
//!
//! # Names
//!
//! A **site** is a value whose channels are neurons. Users name sites the way they name parameters:
//!
//! | name | what |
//! |---|---|
//! | `layer3.1.conv2` | that layer's neurons, after its own normalisation and non-linearity |
//! | `layer3.1.conv2@raw` | directly after the operator |
//! | `layer3` | the scope's output: what flows from operators whose parameters start with `layer3.` into the next scope |
//! | `blocks.0.attn@heads` | the heads of an attention, before they are joined |
//! | `conv#2` | the second use of a layer that is used twice (then `conv` alone is ambiguous, and refused) |
//! | `layer*.conv?` | a glob over layers and scopes; `*` matches dots too. A site whose name is the same text is meant first |
//! | `auto` | every convolution and linear layer but the classifier |

pub(crate) mod attention;
mod batch;
pub(crate) mod channels;
pub(crate) mod code;
mod coverage;
pub(crate) mod find;
mod fingerprint;
mod fixed;
mod labels;
pub(crate) mod layer;
pub(crate) mod movement;
mod names;
pub(crate) mod ops;
mod places;
mod read;
mod scope;
pub(crate) mod site;
mod trace;
mod traced;
mod training;

pub use coverage::{Coverage, UnreadLayer};
pub use read::Mask;
pub use site::{Layout, Site, SiteKind};
pub use traced::Traced;
pub use training::Training;

use crate::{Error, Model, Result};
use tch::Tensor;

/// The operators of one forward pass.
///
/// Made by [`Traced::new`]. It holds no activations; it does hold handles to tensors that the model reads and that
/// have no name (the constants of a frozen module).
#[derive(Debug)]
pub struct Graph {
    pub(crate) ops: Vec<Op>,
    pub(crate) values: Vec<Value>,
    /// Names of the model's parameters, then synthetic names of unnamed tensors.
    pub(crate) parameters: Vec<String>,
    /// Handles to the unnamed tensors, which follow the model's parameters in `parameters`.
    pub(crate) constants: Vec<Tensor>,
    /// The model's first output.
    pub(crate) output: Option<ValueId>,
    /// All outputs.
    pub(crate) outputs: Vec<ValueId>,
    /// Examples in the traced batch.
    pub(crate) batch: i64,
    /// What code there is, run or not.
    pub(crate) code: code::Code,
    /// Whether edits go on where code that did not run is concerned, see [`Traced::allowing_unseen_code`].
    pub(crate) unseen_allowed: bool,
    sites: Vec<Site>,
    /// Every use of a layer, whether it is a site or not.
    pub(crate) layers: Vec<layer::Layer>,
    /// Layers that are no sites, and why.
    pub(crate) unread: Vec<UnreadLayer>,
    /// What the dimensions of the values count, found when first asked for.
    labels: std::sync::OnceLock<labels::Labels>,
}

/// Index into [`Graph::values`].
pub(crate) type ValueId = usize;

/// One operator, in order of execution. Operators that return their input unchanged are not kept.
#[derive(Debug)]
pub(crate) struct Op {
    /// Canonical name, see [`ops::canonical`].
    pub name: String,
    /// The name that libtorch gives it.
    pub aten: String,
    /// Which of the operators of that name.
    pub overload: String,
    pub inputs: Vec<Operand>,
    pub outputs: Vec<ValueId>,
}

/// One argument of an operator.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    Value(ValueId),
    Values(Vec<ValueId>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Ints(Vec<i64>),
    Text(String),
    /// An absent optional argument.
    None,
    Other,
}

/// A tensor between two writes to it.
#[derive(Debug)]
pub(crate) struct Value {
    pub shape: Vec<i64>,
    pub origin: Origin,
    /// The memory behind it, as a number.
    pub storage: Option<u64>,
    /// Where its elements lie in this memory: strides, and the place of the first.
    pub strides: Vec<i64>,
    pub offset: i64,
    /// The parameter that this value is, or is a view of: `(index, transposed)`.
    pub parameter: Option<(usize, bool)>,
    /// Whether the model's input has no part in it: parameters, and what is computed of them alone.
    pub fixed: bool,
    /// Of a fixed value: the parameter that it was computed from; of several the largest.
    pub root: Option<usize>,
    /// The dimension that counts images; `None` where none does.
    pub batch: Option<usize>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Input,
    Parameter,
    Op(usize),
}

impl Op {
    /// The values that the operator reads, parameters included.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs
            .iter()
            .flat_map(|operand| match operand {
                Operand::Value(v) => std::slice::from_ref(v),
                Operand::Values(vs) => vs.as_slice(),
                _ => &[],
            })
            .copied()
    }
}

impl Op {
    /// Of a convolution: whether it is a transposed one, whose weight has its inputs first.
    pub fn is_transposed_convolution(&self) -> bool {
        self.aten.starts_with("aten::conv_transpose")
            || (self.aten.ends_with("convolution") && self.inputs.get(6) == Some(&Operand::Bool(true)))
    }

    /// Of a convolution: how many groups it has.
    pub fn groups(&self) -> i64 {
        // conv*(x, w, b, stride, padding, dilation, groups); convolution(…, transposed, output_padding, groups).
        let last = self.inputs.iter().rev().find_map(|o| if let Operand::Int(g) = o { Some(*g) } else { None });
        last.unwrap_or(1)
    }
}

impl Graph {
    /// The sites of the graph: layers in order of execution, each followed by its `@raw` site, then scopes by name.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// How many operators the traced pass ran, those that returned their input unchanged not counted.
    pub fn operators(&self) -> usize {
        self.ops.len()
    }

    /// How many of `parameters` have a name in the model; those after them are constants. 0 for a frozen module.
    pub(crate) fn named(&self) -> usize {
        self.parameters.len() - self.constants.len()
    }

    /// The tensor behind a name of this graph: a parameter or buffer of the model, or a constant that has a name only here.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest names.
    pub(crate) fn tensor(&self, model: &Model<'_>, name: &str) -> Result<Tensor> {
        let constant = || self.parameters[self.named()..].iter().position(|n| n == name).map(|i| &self.constants[i]);
        let valid = || model.parameters().iter().map(|(n, _)| n.as_str());
        let found = model.parameter(name).or_else(constant).map(Tensor::shallow_clone);
        found.ok_or_else(|| Error::unknown("parameter", name, valid()))
    }

    /// The shape that a parameter had when the model was traced; `None` when nothing read it.
    pub(crate) fn shape_of_parameter(&self, name: &str) -> Option<&[i64]> {
        let root =
            |v: &&Value| v.origin == Origin::Parameter && v.parameter.is_some_and(|(p, _)| self.parameters[p] == name);
        self.values.iter().find(root).map(|v| v.shape.as_slice())
    }

    /// The parameters that operator `op` reads: `(parameter, transposed)`, in argument order.
    pub(crate) fn parameters_of(&self, op: usize) -> impl Iterator<Item = (usize, bool)> + '_ {
        self.ops[op].reads().filter_map(|v| self.values[v].parameter)
    }

    /// The values that operator `op` reads and that are not parameters.
    pub(crate) fn data_inputs(&self, op: usize) -> impl Iterator<Item = ValueId> + '_ {
        self.ops[op].reads().filter(|&v| self.values[v].parameter.is_none())
    }

    /// The values that operator `op` reads and that depend on the model's input.
    pub(crate) fn flowing(&self, op: usize) -> impl Iterator<Item = ValueId> + '_ {
        self.ops[op].reads().filter(|&v| !self.values[v].fixed)
    }

    /// The values that operator `op` reads and that are parameters, or computed of them alone, in argument order.
    pub(crate) fn fixed(&self, op: usize) -> impl Iterator<Item = ValueId> + '_ {
        self.ops[op].reads().filter(|&v| self.values[v].root.is_some())
    }

    /// Whether the input has no part in what operator `op` returns.
    pub(crate) fn is_fixed(&self, op: usize) -> bool {
        self.ops[op].outputs.iter().all(|&v| self.values[v].fixed)
    }

    /// The operators that read value `v`, in order of execution.
    pub(crate) fn consumers(&self, v: ValueId) -> impl Iterator<Item = usize> + '_ {
        self.ops.iter().enumerate().filter(move |(_, op)| op.reads().any(|r| r == v)).map(|(i, _)| i)
    }

    /// The operator that made value `v`.
    pub(crate) fn producer(&self, v: ValueId) -> Option<usize> {
        match self.values[v].origin {
            Origin::Op(op) => Some(op),
            Origin::Input | Origin::Parameter => None,
        }
    }
}
