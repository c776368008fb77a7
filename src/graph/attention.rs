//! Attentions: where the heads are, and what each is made from.

use super::{Graph, ValueId, layer, names, scope};

/// One attention that is computed head by head, `[N, heads, T, D]`.
#[derive(Debug)]
pub(crate) struct Attention {
    /// The module that it belongs to, by the names of the layers around it.
    pub scope: String,
    /// What the heads return, before they are joined.
    pub output: ValueId,
    /// Queries, keys, values and what is computed between them and the output; heads are their dimension 1.
    pub parts: Vec<ValueId>,
}

/// All attentions of a graph whose heads can be told apart.
pub(crate) fn find(graph: &Graph) -> Vec<Attention> {
    (0..graph.ops.len()).filter_map(|op| attention(graph, op)).collect()
}

fn attention(graph: &Graph, index: usize) -> Option<Attention> {
    let op = &graph.ops[index];
    let output = *op.outputs.first()?;
    let heads = match graph.values[output].shape.as_slice() {
        [n, heads, _, _] if *n == graph.batch => *heads,
        _ => return None,
    };
    let inputs: Vec<ValueId> = graph.flowing(index).collect();
    let parts = match (op.name.as_str(), inputs.as_slice()) {
        ("scaled_dot_product_attention", [q, k, v, ..]) => vec![*q, *k, *v],
        ("linear" | "bmm", [probabilities, v]) => {
            let mut parts = vec![*v];
            // Back from the probabilities through the softmax to the product of queries and keys.
            let (mut value, mut normalised) = (*probabilities, false);
            loop {
                parts.push(value);
                let made = graph.producer(value)?;
                let from: Vec<ValueId> = graph.flowing(made).collect();
                match (graph.ops[made].name.as_str(), from.as_slice()) {
                    ("linear" | "bmm", [q, k]) if normalised => {
                        parts.extend([*q, *k]);
                        break parts;
                    }
                    ("softmax", [x]) => {
                        normalised = true;
                        value = *x;
                    }
                    (name, [x, ..]) if name != "linear" && graph.values[*x].shape == graph.values[value].shape => {
                        value = *x
                    }
                    _ => return None,
                }
            }
        }
        _ => return None,
    };
    let by_heads = |v: &ValueId| graph.values[*v].shape.len() == 4 && graph.values[*v].shape[1] == heads;
    parts.iter().all(by_heads).then_some(())?;
    Some(Attention { scope: scope_of(graph, index)?, output, parts })
}

/// The module around an attention: what the names of the layer before it and the layer behind it have in common.
fn scope_of(graph: &Graph, index: usize) -> Option<String> {
    let layer = |op: usize| {
        let parameter = graph.fixed(op).find_map(|v| graph.values[v].root)?;
        layer::product_weight(graph, op).map(|_| names::module(&graph.parameters[parameter]))
    };
    let before = (0..index).rev().find_map(layer)?;
    let after = (index + 1..graph.ops.len()).find_map(layer)?;
    let common = scope::common([before.as_str(), after.as_str()].into_iter());
    if common.is_empty() { Some(names::module_of(&before).to_string()).filter(|s| !s.is_empty()) } else { Some(common) }
}
