//! One forward pass, written down.

use super::code::Code;
use super::{Graph, Op, Operand, Origin, Value, ValueId, ops};
use crate::hook::{self, Arg, Event, Seen, ffi::storage_offset};
use crate::{Error, Model, Result};
use std::collections::HashMap;
use tch::Tensor;

/// Runs a model and writes down its operators.
pub(super) fn write_down(model: &Model<'_>, input: &Tensor) -> Result<Tracer> {
    let mut named: Vec<Tensor> = model.parameters().iter().map(|(_, t)| t.shallow_clone()).collect();
    named.push(input.shallow_clone());
    let tracer = std::cell::RefCell::new(Tracer::default());
    let outputs = hook::observe(
        &named,
        |numbers| tracer.borrow_mut().name(numbers),
        |event| {
            tracer.borrow_mut().record(event);
            Ok(())
        },
        // Aliases mark the outputs: they are the last operators, and read them.
        || {
            let outputs = model.run_all(input)?;
            let mark = |y: &Tensor| y.f_alias().map_err(Error::torch("marking an output"));
            outputs.iter().map(mark).collect::<Result<Vec<_>>>()
        },
    )??;
    let mut tracer = tracer.into_inner();
    tracer.outputs = tracer.unmark(outputs.len());
    Ok(tracer)
}

#[derive(Debug, Default)]
pub(super) struct Tracer {
    pub ops: Vec<Op>,
    pub values: Vec<Value>,
    outputs: Vec<ValueId>,
    constants: Vec<Tensor>,
    n_parameters: usize,
    /// Tensor number -> its value now, and how often its storage had been written by then.
    now: HashMap<u64, (ValueId, usize)>,
    /// Storage number -> how often it was written, and by which operator last.
    writes: HashMap<u64, (usize, usize)>,
    /// Storage number -> the values that lie in it, oldest first.
    lying_in: HashMap<u64, Vec<ValueId>>,
    parameter_numbers: HashMap<u64, usize>,
    input_number: Option<u64>,
}

impl Tracer {
    fn name(&mut self, numbers: &[u64]) {
        if let Some((input, parameters)) = numbers.split_last() {
            self.input_number = Some(*input);
            self.n_parameters = parameters.len();
            for (i, number) in parameters.iter().enumerate() {
                // A tensor with two names (tied weights) keeps the first.
                self.parameter_numbers.entry(*number).or_insert(i);
            }
        }
    }

    fn record(&mut self, event: &Event<'_>) {
        let outputs: Vec<Seen> = event.outputs().into_iter().flat_map(into_tensors).collect();
        if outputs.is_empty() {
            return; // it threw, or it answers a question about shapes
        }
        let in_place = ops::is_in_place(event.name(), event.overload());
        let name = ops::canonical(event.name()).to_string();
        let arguments = event.inputs();
        let read: Vec<u64> = arguments.iter().flat_map(Arg::tensors).map(|s| s.number).collect();
        let operands: Vec<Operand> = arguments.into_iter().map(|a| self.operand(a)).collect();
        if !in_place && outputs.iter().all(|o| read.contains(&o.number)) {
            return; // nothing happened: dropout in evaluation mode, contiguous on a contiguous tensor
        }
        // Only now: an argument may have brought an operator of its own.
        let index = self.ops.len();
        let view = self.parameter_view(&name, &operands);
        let mut ids = Vec::new();
        for seen in outputs {
            if in_place && let Some(storage) = seen.storage {
                let writes = self.writes.entry(storage).or_insert((0, index));
                *writes = (writes.0 + 1, index);
            }
            ids.push(self.add(&seen, Origin::Op(index), view));
        }
        let (aten, overload) = (event.name().to_string(), event.overload().to_string());
        self.ops.push(Op { name, aten, overload, inputs: operands, outputs: ids });
    }

    fn operand(&mut self, argument: Arg) -> Operand {
        match argument {
            Arg::Tensor(seen) => Operand::Value(self.value_of(seen)),
            Arg::Tensors(list) => Operand::Values(list.into_iter().map(|s| self.value_of(s)).collect()),
            Arg::Int(i) => Operand::Int(i),
            Arg::Float(x) => Operand::Float(x),
            Arg::Bool(b) => Operand::Bool(b),
            Arg::Ints(v) => Operand::Ints(v),
            Arg::Text(text) => Operand::Text(text),
            Arg::None => Operand::None,
            Arg::Other => Operand::Other,
        }
    }

    /// The value that a tensor holds now.
    fn value_of(&mut self, seen: Seen) -> ValueId {
        let (written, writer) = self.written(seen.storage);
        match self.now.get(&seen.number) {
            Some(&(value, at)) if at == written => value,
            // Somebody wrote to the memory through another tensor: a new value, made by the writer.
            Some(_) => self.add(&seen, Origin::Op(writer), None),
            None if Some(seen.number) == self.input_number => self.add(&seen, Origin::Input, None),
            // A view that nobody was told of (TorchScript's `prim` operators return nothing to observers).
            None if let Some(base) = self.base_of(&seen) => {
                let op = self.ops.len();
                let id = self.add(&seen, Origin::Op(op), None);
                self.ops.push(Op {
                    name: ops::UNSEEN.to_string(),
                    aten: String::new(),
                    overload: String::new(),
                    inputs: vec![Operand::Value(base)],
                    outputs: vec![id],
                });
                id
            }
            None => {
                let parameter = match self.parameter_numbers.get(&seen.number) {
                    Some(&i) => i,
                    None => {
                        self.constants.push(seen.tensor.shallow_clone());
                        self.n_parameters + self.constants.len() - 1
                    }
                };
                self.add(&seen, Origin::Parameter, Some((parameter, false)))
            }
        }
    }

    /// The newest value of the same memory that reaches from the first to the last element of a tensor.
    fn base_of(&self, seen: &Seen) -> Option<ValueId> {
        let lying = self.lying_in.get(&seen.storage?)?;
        let (first, last) = extent(&seen.tensor.size(), &seen.tensor.stride(), storage_offset(&seen.tensor));
        let covers = |v: &ValueId| {
            let value = &self.values[*v];
            let (from, to) = extent(&value.shape, &value.strides, value.offset);
            from <= first && last <= to
        };
        lying.iter().rev().copied().find(covers).or_else(|| lying.last().copied())
    }

    fn written(&self, storage: Option<u64>) -> (usize, usize) {
        storage.and_then(|s| self.writes.get(&s)).copied().unwrap_or((0, 0))
    }

    fn add(&mut self, seen: &Seen, origin: Origin, parameter: Option<(usize, bool)>) -> ValueId {
        let id = self.values.len();
        let (shape, strides, offset) = (seen.tensor.size(), seen.tensor.stride(), storage_offset(&seen.tensor));
        let value = Value {
            shape,
            origin,
            storage: seen.storage,
            strides,
            offset,
            parameter,
            fixed: false,
            root: None,
            batch: None,
        };
        self.values.push(value);
        if let Some(storage) = seen.storage {
            self.lying_in.entry(storage).or_default().push(id);
        }
        self.now.insert(seen.number, (id, self.written(seen.storage).0));
        id
    }

    /// The parameter of which an operator's output is a view.
    fn parameter_view(&self, name: &str, operands: &[Operand]) -> Option<(usize, bool)> {
        let transposes = ops::parameter_view(name)?;
        let Some(Operand::Value(v)) = operands.first() else { return None };
        let (parameter, transposed) = self.values[*v].parameter?;
        Some((parameter, transposed ^ transposes))
    }

    /// Takes the aliases that mark the outputs out again: the last ones of the pass. Returns what they mark, in order.
    fn unmark(&mut self, marked: usize) -> Vec<ValueId> {
        let mut outputs = Vec::new();
        let mut at = self.ops.len();
        while outputs.len() < marked && at > 0 {
            at -= 1;
            if self.ops[at].name != "alias" {
                continue; // an output that nobody had seen before it was marked
            }
            outputs.extend(self.ops.remove(at).reads().next());
            for value in &mut self.values {
                match &mut value.origin {
                    Origin::Op(op) if *op > at => *op -= 1,
                    Origin::Op(op) if *op == at => value.origin = Origin::Input, // the alias: nothing refers to it
                    _ => {}
                }
            }
        }
        outputs.reverse();
        outputs
    }

    /// The graph, without what is found by looking at it.
    pub fn finish(self, model: &Model<'_>, batch: i64) -> Graph {
        let outputs = self.outputs;
        let output = outputs.first().copied();
        let mut parameters: Vec<String> = model.parameters().iter().map(|(n, _)| n.clone()).collect();
        let (ops, values) = (self.ops, self.values);
        let constants = constant_names(&ops, &values, &parameters, self.constants.len());
        parameters.extend(constants);
        Graph {
            ops,
            values,
            parameters,
            constants: self.constants,
            output,
            outputs,
            batch,
            code: Code::Hidden,
            unseen_allowed: false,
            sites: Vec::new(),
            layers: Vec::new(),
            unread: Vec::new(),
            labels: Default::default(),
        }
    }
}

/// The places of the first and the last element of a tensor in its memory.
fn extent(shape: &[i64], strides: &[i64], offset: i64) -> (i64, i64) {
    (offset, offset + shape.iter().zip(strides).map(|(n, stride)| (n - 1).max(0) * stride).sum::<i64>())
}

fn into_tensors(argument: Arg) -> Vec<Seen> {
    match argument {
        Arg::Tensor(seen) => vec![seen],
        Arg::Tensors(list) => list,
        _ => Vec::new(),
    }
}

/// Names for tensors that have none, by structure: the weight of the third convolution of a frozen module is
/// `conv_3.weight`; the running mean beside `bn1.weight`, which TorchScript does not list, is `bn1.running_mean`.
fn constant_names(ops: &[Op], values: &[Value], named: &[String], count: usize) -> Vec<String> {
    let first = named.len();
    let mut names: Vec<String> = (0..count).map(|i| format!("constant_{i}")).collect();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for op in ops.iter().filter(|op| ops::is_layer(&op.name)) {
        let ordinal = seen.entry(op.name.as_str()).and_modify(|n| *n += 1).or_insert(0);
        for v in op.reads() {
            let Some((parameter, _)) = values[v].parameter.filter(|(p, _)| *p >= first) else { continue };
            let role = if values[v].shape.len() >= 2 { "weight" } else { "bias" };
            if names[parameter - first].starts_with("constant_") {
                names[parameter - first] = format!("{}_{ordinal}.{role}", op.name);
            }
        }
    }
    for op in ops.iter().filter(|op| op.name == "batch_norm") {
        let parameter = |i: usize| match op.inputs.get(i) {
            Some(Operand::Value(v)) => values[*v].parameter.map(|(p, _)| p),
            _ => None,
        };
        let Some(module) = parameter(1).and_then(|p| named.get(p)).and_then(|n| n.strip_suffix(".weight")) else {
            continue;
        };
        for (i, role) in [(3, "running_mean"), (4, "running_var")] {
            if let Some(constant) = parameter(i).and_then(|p| p.checked_sub(first)) {
                names[constant] = format!("{module}.{role}");
            }
        }
    }
    names
}
