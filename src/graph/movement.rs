//! Operators that only move elements: where each element of the output comes from, found by running the operator on
//! element numbers.

use super::{Graph, Op, Operand, Value, ValueId, ops};
use crate::hook::ffi::{Argument, call};
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

/// Where the elements of an operator's outputs come from.
#[derive(Debug)]
pub(crate) struct Movement {
    /// The inputs, each with the number of its first element; 0 is no element (padding).
    pub inputs: Vec<(ValueId, i64)>,
    /// Per output the numbers of its elements' sources, flat.
    pub sources: Vec<(ValueId, Tensor)>,
    total: i64,
}

impl Movement {
    /// Runs operator `op` on element numbers; `None` when that is not possible.
    pub fn of(graph: &Graph, op: &Op) -> Option<Self> {
        let data = data(op);
        let mut first = 1;
        let mut inputs = Vec::new();
        for v in data {
            inputs.push((v, first));
            first += graph.values[v].shape.iter().product::<i64>();
        }
        let mut movement = Self { inputs, sources: Vec::new(), total: first };
        let results = if op.name == ops::UNSEEN {
            vec![view_of(&graph.values[movement.inputs.first()?.0], &graph.values[*op.outputs.first()?])?]
        } else {
            let numbers: Vec<Tensor> =
                movement.inputs.iter().map(|(v, n)| numbered(&graph.values[*v].shape, *n)).collect();
            replay(graph, op, &numbers)?
        };
        if results.len() != op.outputs.len() {
            return None;
        }
        for (v, result) in op.outputs.iter().zip(results) {
            if result.size() != graph.values[*v].shape {
                return None;
            }
            movement.sources.push((*v, result.to_kind(Kind::Int64).reshape(-1)));
        }
        Some(movement)
    }

    /// The numbers of the elements that leave, as truth values: `[total]`.
    ///
    /// `full` gives those of one value. An input element leaves when all its images do, an output element when its
    /// source does.
    pub fn leaving(&self, full: impl Fn(ValueId) -> Option<Tensor>) -> Tensor {
        let leaving = Tensor::zeros([self.total], (Kind::Bool, Device::Cpu));
        for (v, first) in &self.inputs {
            if let Some(elements) = full(*v) {
                let flat = elements.reshape(-1);
                let _ = leaving.narrow(0, *first, flat.size()[0]).logical_or_(&flat);
            }
        }
        let count = || Tensor::zeros([self.total], (Kind::Int64, Device::Cpu));
        let (mut images, mut gone) = (count(), count());
        let mut any = false;
        for (v, sources) in &self.sources {
            let Some(elements) = full(*v) else {
                let _ = images.index_add_(0, sources, &sources.ones_like());
                continue;
            };
            any = true;
            let _ = images.index_add_(0, sources, &sources.ones_like());
            let _ = gone.index_add_(0, sources, &elements.reshape(-1).to_kind(Kind::Int64));
        }
        if !any {
            return leaving;
        }
        let all_gone = images.eq_tensor(&gone).logical_and(&images.gt(0));
        let leaving = leaving.logical_or(&all_gone);
        let _ = leaving.narrow(0, 0, 1).fill_(0);
        leaving
    }

    /// Whether the operator, called with the arguments of the trace on what stays of its inputs, gives what stays of
    /// its outputs.
    pub fn still_holds(&self, graph: &Graph, op: &Op, kept: impl Fn(ValueId, Tensor) -> Tensor) -> bool {
        if op.name == ops::UNSEEN {
            return false;
        }
        let shape = |v: ValueId| graph.values[v].shape.as_slice();
        let numbers: Vec<Tensor> = self.inputs.iter().map(|(v, n)| kept(*v, numbered(shape(*v), *n))).collect();
        let Some(results) = replay(graph, op, &numbers) else { return false };
        results.iter().zip(&self.sources).all(|(result, (v, sources))| {
            let expected = kept(*v, sources.reshape(shape(*v)));
            result.size() == expected.size() && result.to_kind(Kind::Int64) == expected
        })
    }
}

/// The inputs whose elements are moved: a list of tensors, else the first tensor.
fn data(op: &Op) -> Vec<ValueId> {
    let list = op.inputs.iter().find_map(|o| if let Operand::Values(vs) = o { Some(vs.clone()) } else { None });
    list.unwrap_or_else(|| op.reads().take(1).collect())
}

/// Further tensors, of which only the shape counts (`expand_as`).
pub(crate) fn shape_only(op: &Op) -> impl Iterator<Item = ValueId> {
    let moved: BTreeSet<ValueId> = data(op).into_iter().collect();
    op.reads().filter(move |v| !moved.contains(v)).collect::<Vec<_>>().into_iter()
}

fn numbered(shape: &[i64], first: i64) -> Tensor {
    let n = shape.iter().product::<i64>();
    // Doubles: every padding knows them, and they hold whole numbers.
    Tensor::arange_start(first, first + n, (Kind::Double, Device::Cpu)).reshape(shape)
}

fn replay(graph: &Graph, op: &Op, data: &[Tensor]) -> Option<Vec<Tensor>> {
    let pads = op.name.contains("pad");
    let shapes: Vec<Tensor> =
        shape_only(op).map(|v| Tensor::zeros(&graph.values[v].shape, (Kind::Double, Device::Cpu))).collect();
    let (mut data, mut shapes) = (data.iter(), shapes.iter());
    let mut arguments = Vec::new();
    let mut moved = false;
    for operand in &op.inputs {
        arguments.push(match operand {
            Operand::Value(_) if !moved => {
                moved = true;
                Argument::Tensor(data.next()?)
            }
            Operand::Value(_) => Argument::Tensor(shapes.next()?),
            Operand::Values(_) => {
                moved = true;
                Argument::Tensors(data.by_ref().collect())
            }
            // What is padded with is no element.
            Operand::Float(_) | Operand::Int(_) if pads => Argument::Float(0.0),
            Operand::Int(i) => Argument::Int(*i),
            Operand::Float(x) => Argument::Float(*x),
            Operand::Bool(b) => Argument::Bool(*b),
            Operand::Ints(v) => Argument::Ints(v),
            Operand::Text(t) => Argument::Text(t),
            Operand::None => Argument::None,
            Operand::Other => return None,
        });
    }
    call(&op.aten, &op.overload, &arguments).ok()
}

/// The element numbers of a view, from where it lies in the memory of `base`.
fn view_of(base: &Value, view: &Value) -> Option<Tensor> {
    let addresses = |v: &Value| {
        let mut at = Tensor::full([1], v.offset, (Kind::Int64, Device::Cpu)).reshape(vec![1; v.shape.len()]);
        for (d, (n, stride)) in v.shape.iter().zip(&v.strides).enumerate() {
            let mut shape = vec![1; v.shape.len()];
            shape[d] = *n;
            at = &at + (Tensor::arange(*n, (Kind::Int64, Device::Cpu)) * *stride).reshape(&shape);
        }
        at
    };
    if base.strides.len() != base.shape.len() || view.strides.len() != view.shape.len() {
        return None;
    }
    let (from, to) = (addresses(base).reshape(-1), addresses(view));
    if from.numel() == 0 || to.numel() == 0 {
        return None;
    }
    let last = from.max().int64_value(&[]).max(to.max().int64_value(&[]));
    let mut number = Tensor::zeros([last + 1], (Kind::Int64, Device::Cpu));
    let _ = number.index_copy_(0, &from, &Tensor::arange_start(1, from.size()[0] + 1, (Kind::Int64, Device::Cpu)));
    let numbers = number.index_select(0, &to.reshape(-1)).reshape(&view.shape);
    (numbers.min().int64_value(&[]) > 0).then_some(numbers)
}
