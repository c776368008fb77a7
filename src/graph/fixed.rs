//! Which values the model's input has no part in: parameters, and what is computed of them alone.
//!
//! A weight that is computed in the forward pass (normalised, masked, quantised, the sum of two) is followed back to its
//! parameters this way, in the graph here and in every later pass by [`largest`], which both use.

use super::{Graph, Origin, ops};

/// Marks the fixed values of a graph, see [`Value::fixed`](super::Value::fixed).
pub(super) fn mark(graph: &mut Graph) {
    let sizes = sizes(graph);
    for v in 0..graph.values.len() {
        let value = &graph.values[v];
        let (fixed, root) = match value.origin {
            Origin::Input => (false, None),
            Origin::Parameter => (true, value.parameter.map(|(p, _)| p)),
            Origin::Op(op) => {
                let read: Vec<_> = graph.ops[op].reads().filter(|r| *r != v).map(|r| &graph.values[r]).collect();
                let own_result = graph.ops[op].outputs.contains(&v);
                let written = !own_result || ops::is_in_place(&graph.ops[op].aten, &graph.ops[op].overload);
                // Memory that is written in part keeps the rest of what it was.
                let kept = || {
                    let same = |w: &usize| graph.values[*w].storage == value.storage && value.storage.is_some();
                    (0..v).filter(same).all(|w| graph.values[w].fixed)
                };
                let fixed = read.iter().all(|r| r.fixed) && (!written || kept());
                let root = largest(read.iter().filter_map(|r| r.root), |p| sizes[p]);
                (fixed, root.filter(|_| fixed))
            }
        };
        graph.values[v].fixed = fixed;
        graph.values[v].root = root;
    }
}

/// Of several parameters the one with the most numbers; of equals the first.
pub(super) fn largest(parameters: impl Iterator<Item = usize>, size: impl Fn(usize) -> usize) -> Option<usize> {
    parameters.fold(None, |best, p| match best {
        Some(b) if size(b) >= size(p) => best,
        _ => Some(p),
    })
}

fn sizes(graph: &Graph) -> Vec<usize> {
    let mut sizes = vec![0; graph.parameters.len()];
    for value in graph.values.iter().filter(|v| v.origin == Origin::Parameter) {
        if let Some((p, _)) = value.parameter {
            sizes[p] = value.shape.iter().product::<i64>().max(0) as usize;
        }
    }
    sizes
}
