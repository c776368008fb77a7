//! Layers: operators that multiply what flows through the model with weights, under the names of their weights.

use super::names::{layer_name, module, written};
use super::{Graph, Operand, ValueId, ops};

/// One use of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// The module's name, or the weight's where that says more; `#2` for the second use.
    pub name: String,
    /// The operator.
    pub op: usize,
}

/// The layers in order of execution, each use by itself.
pub(crate) fn find(graph: &Graph) -> Vec<Layer> {
    let root = |op: usize| product_weight(graph, op).and_then(|v| graph.values[v].root);
    let weights: Vec<(usize, usize)> =
        operators(graph).into_iter().filter_map(|op| root(op).map(|parameter| (op, parameter))).collect();
    let mut layers = Vec::new();
    for &(op, parameter) in &weights {
        let base = name(graph, parameter, weights.iter().map(|(_, p)| *p));
        let uses: Vec<usize> = weights.iter().filter(|(_, p)| *p == parameter).map(|(op, _)| *op).collect();
        let name = match uses.as_slice() {
            [_] => base,
            several => format!("{base}#{}", several.iter().position(|u| *u == op).unwrap_or(0) + 1),
        };
        layers.push(Layer { name, op });
    }
    layers
}

/// What a layer with this weight is called, among layers with those of `all`: its module, or the whole name of the weight
/// where another one has a better claim to that.
pub(super) fn name(graph: &Graph, weight: usize, all: impl Iterator<Item = usize>) -> String {
    let full = |p: usize| graph.parameters[p].as_str();
    let (own, module) = (written(full(weight)), module(full(weight)));
    let is_weight = layer_name(&own) == module;
    let others = all.filter(|&p| p != weight && super::names::module(full(p)) == module);
    let taken = others.into_iter().any(|p| layer_name(&written(full(p))) == module || !is_weight);
    if module.is_empty() || (taken && !is_weight) { own } else { module }
}

/// The operators that multiply with weights.
pub(super) fn operators(graph: &Graph) -> Vec<usize> {
    (0..graph.ops.len())
        .filter(|&op| product_weight(graph, op).is_some() && graph.flowing(op).next().is_some())
        .collect()
}

/// Of an operator that multiplies: the operand that is a weight, computed or not.
pub(crate) fn product_weight(graph: &Graph, op: usize) -> Option<ValueId> {
    let name = graph.ops[op].name.as_str();
    if !ops::is_product(name) {
        return None;
    }
    let is_weight = |v: &ValueId| graph.values[*v].root.is_some() && graph.values[*v].shape.len() >= 2;
    // What is added is no weight.
    let added = usize::from(ops::adds_its_first(&graph.ops[op].aten));
    let factors: Vec<ValueId> = graph.ops[op].reads().skip(added).collect();
    let (first, rest) = factors.split_first()?;
    if let Some(weight) = rest.iter().copied().find(is_weight) {
        return Some(weight);
    }
    // A weight from the left, and not queries that were made of learned tokens.
    (is_weight(first) && !is_made_by_a_layer(graph, *first)).then_some(*first)
}

fn is_made_by_a_layer(graph: &Graph, value: ValueId) -> bool {
    let mut left = vec![value];
    while let Some(v) = left.pop() {
        let Some(op) = graph.producer(v) else { continue };
        if ops::is_product(&graph.ops[op].name) {
            return true;
        }
        left.extend(graph.ops[op].reads());
    }
    false
}

/// The parameter that a layer's weight is, or is a view of: `(parameter, transposed)`; `None` for a computed weight.
pub(crate) fn weight_of(graph: &Graph, op: usize) -> Option<(usize, bool)> {
    graph.ops[op].reads().filter(|&v| graph.values[v].shape.len() >= 2).find_map(|v| graph.values[v].parameter)
}

/// The dimension of a layer's output that counts its units; `None` where they are spread over several.
pub(super) fn units(graph: &Graph, op: usize) -> Option<usize> {
    let weight = product_weight(graph, op)?;
    let output = *graph.ops[op].outputs.first()?;
    let rank = graph.values[output].shape.len();
    let reads: Vec<ValueId> = graph.ops[op].reads().collect();
    match graph.ops[op].name.as_str() {
        "conv" => (rank > 1).then_some(1),
        "einsum" => {
            let Some(Operand::Text(equation)) = graph.ops[op].inputs.first() else { return None };
            let (factors, result) = equation.split_once("->")?;
            let factors: Vec<&str> = factors.split(',').map(str::trim).collect();
            let place = reads.iter().position(|v| *v == weight)?;
            let elsewhere = |c: char| factors.iter().enumerate().any(|(i, factor)| i != place && factor.contains(c));
            let result = result.trim();
            let mut own = result
                .char_indices()
                .filter(|(_, c)| factors.get(place).is_some_and(|f| f.contains(*c)) && !elsewhere(*c));
            let (unit, none) = (own.next()?.0, own.next());
            // Dots stand for any number of dimensions.
            let from_end = result.len() - unit;
            (none.is_none() && result.is_ascii() && rank >= from_end).then(|| rank - from_end)
        }
        "bilinear" => rank.checked_sub(1),
        _ => {
            let added = usize::from(ops::adds_its_first(&graph.ops[op].aten));
            let from_left = reads.get(added) == Some(&weight);
            rank.checked_sub(if from_left { 2 } else { 1 })
        }
    }
}

/// From a layer's raw output through its own bias, normalisation and non-linearity, as long as nothing else reads the
/// value in between: those values, the raw output first.
pub(super) fn own_steps(graph: &Graph, raw: ValueId) -> Vec<ValueId> {
    let mut values = vec![raw];
    let mut value = raw;
    loop {
        let mut consumers = graph.consumers(value);
        let (Some(op), None) = (consumers.next(), consumers.next()) else { return values };
        let name = graph.ops[op].name.as_str();
        let alone = graph.flowing(op).all(|v| v == value);
        let own_bias = name == "add" && graph.fixed(op).next().is_some();
        if !alone || !(ops::is_normalisation(name) || ops::is_activation(name) || own_bias) {
            return values;
        }
        let Some(&next) = graph.ops[op].outputs.first() else { return values };
        value = next;
        values.push(value);
        if ops::is_activation(name) {
            return values;
        }
    }
}

/// From a value on through operators that only move its elements, as long as nothing else reads the value in between.
pub(super) fn moved_on(graph: &Graph, value: ValueId) -> Vec<ValueId> {
    let mut values = Vec::new();
    let mut value = value;
    loop {
        let mut consumers = graph.consumers(value);
        let (Some(op), None) = (consumers.next(), consumers.next()) else { return values };
        let alone = graph.ops[op].reads().all(|v| v == value);
        let [next] = graph.ops[op].outputs[..] else { return values };
        if !alone || !ops::MOVEMENTS.contains(&graph.ops[op].name.as_str()) || graph.ops[op].name == ops::UNSEEN {
            return values;
        }
        value = next;
        values.push(value);
    }
}
