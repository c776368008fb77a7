//! What a model costs: numbers to store, and arithmetic for one example.

use super::coupling::{Coupling, Cut};
use crate::graph::{Graph, Op, ValueId, ops};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Numbers that a model stores, and operations of one forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Entries of the parameters and buffers that the pass reads.
    pub parameters: u64,
    /// Floating-point operations of convolutions and matrix products for one example: two per multiplication and addition.
    pub flops: u64,
}

impl Cost {
    /// Of a traced model.
    pub fn of(graph: &Graph) -> Self {
        cost(graph, &|v| graph.values[v].shape.clone())
    }

    /// Of what an analysis leaves of it.
    pub(super) fn after(coupling: &Coupling<'_>) -> Self {
        let whole = |v: ValueId| coupling.graph.values[v].shape.clone();
        cost(coupling.graph, &|v| coupling.of(v).map_or_else(|| whole(v), Cut::kept_shape))
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parameters, {} FLOPs", short(self.parameters), short(self.flops))
    }
}

/// `11.7 M`.
fn short(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

fn cost(graph: &Graph, shape: &dyn Fn(ValueId) -> Vec<i64>) -> Cost {
    let size = |v: ValueId| shape(v).iter().product::<i64>().max(0) as u64;
    let is_root = |v: &ValueId| graph.producer(*v).is_none() && graph.values[*v].parameter.is_some();
    let parameters = (0..graph.values.len()).filter(is_root).map(size).sum();
    let products: u64 = graph.ops.iter().map(|op| multiplications(op, shape, &size)).sum();
    Cost { parameters, flops: 2 * products / graph.batch.max(1) as u64 }
}

fn multiplications(op: &Op, shape: &dyn Fn(ValueId) -> Vec<i64>, size: &dyn Fn(ValueId) -> u64) -> u64 {
    let inputs: Vec<ValueId> = op.reads().collect();
    let Some(&y) = op.outputs.first() else { return 0 };
    match (op.name.as_str(), &inputs[..]) {
        ("conv", [x, w, ..]) => {
            let rows = shape(*w).first().copied().unwrap_or(1).max(1) as u64;
            let per_position = size(*w) / rows;
            per_position * if op.is_transposed_convolution() { size(*x) } else { size(y) }
        }
        ("scaled_dot_product_attention", [q, k, v, ..]) => {
            let keys = shape(*k).iter().rev().nth(1).copied().unwrap_or(1) as u64;
            let width = shape(*v).last().copied().unwrap_or(1).max(1) as u64;
            size(*q) * keys + size(y) / width * keys * width
        }
        (name, [first, ..]) if ops::is_layer(name) || name == "bmm" || name == "baddbmm" => {
            let biased = op.aten.contains("addmm") || op.aten.contains("baddbmm");
            let x = if biased { inputs.get(1).copied().unwrap_or(*first) } else { *first };
            size(y) * shape(x).last().copied().unwrap_or(1).max(0) as u64
        }
        _ => 0,
    }
}
