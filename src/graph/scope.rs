//! Which part of the model an operator belongs to, and what leaves that part.
//!
//! An operator that reads parameters belongs where their names say. One without (an addition, a ReLU) belongs to what it
//! follows; where two streams join, a stream that is only skipped past (the identity of a residual block) does not
//! count, and the operator belongs to the parent of what is left.

use super::names::{self, module_of};
use super::{Graph, Origin, ValueId, ops};
use std::collections::{BTreeMap, BTreeSet};

/// The module path of each operator, by the names of its parameters; `None` for pooling, reshaping and what follows them.
pub(super) fn paths(graph: &Graph) -> Vec<Option<String>> {
    let ancestors = ancestors(graph);
    let mut paths: Vec<Option<String>> = Vec::with_capacity(graph.ops.len());
    for (i, op) in graph.ops.iter().enumerate() {
        // Names without a module (constants, variables at the root of a store) say nothing.
        let modules = graph.fixed(i).filter_map(|v| graph.values[v].root).map(|p| names::module(&graph.parameters[p]));
        let own: Vec<String> = modules.filter(|m| !m.is_empty()).collect();
        let path = if !own.is_empty() {
            Some(common(own.iter().map(String::as_str)))
        } else if ops::is_elementwise(&op.name) {
            follows(graph, i, &paths, &ancestors)
        } else {
            None
        };
        paths.push(path);
    }
    paths
}

/// The value that leaves each scope, by the scope's name.
pub(super) fn outputs(graph: &Graph, paths: &[Option<String>]) -> BTreeMap<String, ValueId> {
    let mut scopes = BTreeSet::new();
    for path in paths.iter().flatten() {
        let mut prefix = path.as_str();
        while !prefix.is_empty() {
            scopes.insert(prefix.to_string());
            prefix = module_of(prefix);
        }
    }
    scopes
        .into_iter()
        .filter_map(|scope| {
            let inside = |op: usize| paths[op].as_deref().is_some_and(|p| is_within(p, &scope));
            let made = (0..graph.ops.len()).rev().filter(|&op| inside(op)).flat_map(|op| graph.ops[op].outputs.clone());
            let mut leaving = made.filter(|&v| Some(v) == graph.output || graph.consumers(v).any(|op| !inside(op)));
            leaving.next().map(|v| (scope.clone(), v))
        })
        .collect()
}

/// Whether module `path` is `scope` or lies inside it, compared by component.
pub(crate) fn is_within(path: &str, scope: &str) -> bool {
    path.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn follows(graph: &Graph, op: usize, paths: &[Option<String>], ancestors: &[BTreeSet<ValueId>]) -> Option<String> {
    let inputs: Vec<ValueId> = graph.flowing(op).collect();
    let path_of = |v: ValueId| graph.producer(v).and_then(|p| paths[p].clone());
    if let [only] = inputs.as_slice() {
        return path_of(*only);
    }
    let kept: Vec<ValueId> = inputs
        .iter()
        .copied()
        .filter(|&a| !inputs.iter().any(|&b| a != b && skips_past(graph, a, &ancestors[b])))
        .collect();
    let sources: Vec<String> = kept.iter().filter_map(|&v| path_of(v)).collect();
    match (sources.as_slice(), kept.len() < inputs.len() || inputs.len() > sources.len()) {
        ([], _) => None,
        // One stream went through a module, the others passed it by: the module's parent did the joining.
        ([one], _) => Some(module_of(one).to_string()),
        (several, _) => Some(common(several.iter().map(String::as_str))),
    }
}

/// Whether value `a`, or what it was made from without parameters, is among `ancestors`.
fn skips_past(graph: &Graph, mut a: ValueId, ancestors: &BTreeSet<ValueId>) -> bool {
    loop {
        if ancestors.contains(&a) || graph.values[a].origin == Origin::Input {
            return true;
        }
        let Some(op) = graph.producer(a) else { return false };
        let inputs: Vec<ValueId> = graph.flowing(op).collect();
        match inputs.as_slice() {
            [only] if graph.fixed(op).next().is_none() => a = *only,
            _ => return false,
        }
    }
}

/// For every value: all values that it was computed from.
fn ancestors(graph: &Graph) -> Vec<BTreeSet<ValueId>> {
    let mut all: Vec<BTreeSet<ValueId>> = vec![BTreeSet::new(); graph.values.len()];
    for (i, op) in graph.ops.iter().enumerate() {
        let mut before = BTreeSet::new();
        for v in graph.flowing(i) {
            before.insert(v);
            before.extend(all[v].iter().copied());
        }
        for &output in &op.outputs {
            all[output].extend(before.iter().copied());
        }
    }
    all
}

pub(super) fn common<'a>(mut paths: impl Iterator<Item = &'a str>) -> String {
    let mut prefix: Vec<&str> = paths.next().unwrap_or("").split('.').collect();
    for path in paths {
        let same = prefix.iter().zip(path.split('.')).take_while(|(a, b)| **a == *b).count();
        prefix.truncate(same);
    }
    prefix.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_compared_by_component() {
        assert!(is_within("layer1.0.conv1", "layer1") && is_within("layer1", "layer1"));
        assert!(!is_within("layer10.conv1", "layer1"));
        assert_eq!(common(["layer2.0.bn2", "layer2.0.downsample.1"].into_iter()), "layer2.0");
    }
}
