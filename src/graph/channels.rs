//! Which dimensions of a value count channels: followed from the layers that made them.

use super::movement::Movement;
use super::{Graph, ValueId, layer};
use tch::{Device, Kind, Tensor};

/// The dimensions along which labels differ.
pub(super) fn varying(labels: &Tensor) -> Vec<usize> {
    let differ = |d: &usize| labels.size()[*d] > 1;
    (0..labels.dim()).filter(differ).collect()
}

/// The channel that each element of an operator's outputs belongs to, of the layer before it. Dimensions along which it
/// does not differ have size 1.
pub(super) fn made(
    graph: &Graph,
    index: usize,
    labels: &[Option<Tensor>],
    movement: Option<&Movement>,
) -> Vec<(ValueId, Tensor)> {
    let op = &graph.ops[index];
    let Some(&y) = op.outputs.first() else { return Vec::new() };
    let rank = graph.values[y].shape.len();
    let counted = |d: usize| {
        let mut counting = vec![1; rank];
        counting[d] = graph.values[y].shape[d];
        vec![(y, Tensor::arange(counting[d], (Kind::Int64, Device::Cpu)).reshape(&counting))]
    };
    let inputs: Vec<ValueId> = graph.data_inputs(index).collect();
    let along = |v: ValueId, from_end: usize| {
        let rank = graph.values[v].shape.len();
        let own = labels[v].as_ref().map(varying).unwrap_or_default();
        rank >= from_end && own.iter().find(|d| **d + 2 >= rank) == Some(&(rank - from_end))
    };
    if graph.flowing(index).next().is_some() && layer::product_weight(graph, index).is_some() {
        return layer::units(graph, index).map(counted).unwrap_or_default();
    }
    match (op.name.as_str(), inputs.as_slice()) {
        ("conv", _) if rank > 1 => return counted(1),
        ("scaled_dot_product_attention", _) if rank > 0 => return counted(rank - 1),
        ("linear" | "bmm" | "baddbmm", operands) if rank > 0 => {
            return match operands {
                _ if graph.parameters_of(index).next().is_some() => counted(rank - 1),
                [.., w] if along(*w, 1) => counted(rank - 1),
                [x, _] if rank > 1 && along(*x, 2) => counted(rank - 2),
                _ => Vec::new(),
            };
        }
        _ => {}
    }
    let Some((from, known)) = inputs.iter().find_map(|i| Some((*i, labels[*i].as_ref()?))) else { return Vec::new() };
    let shape = &graph.values[from].shape;
    if let Some(movement) = movement {
        return moved(graph, movement, from, &known.expand(shape, false)).unwrap_or_default();
    }
    let same = |v: &&ValueId| graph.values[**v].shape == *shape || graph.values[**v].shape.len() == shape.len();
    op.outputs
        .iter()
        .filter(same)
        .filter_map(|v| {
            // Pooling changes positions; whatever changes a dimension that counts channels is not followed.
            let fits = known.size().iter().zip(&graph.values[*v].shape).all(|(own, n)| *own == 1 || own == n);
            fits.then(|| (*v, known.shallow_clone()))
        })
        .collect()
}

fn moved(graph: &Graph, movement: &Movement, from: ValueId, labels: &Tensor) -> Option<Vec<(ValueId, Tensor)>> {
    let first = movement.inputs.iter().find(|(i, _)| *i == from)?.1;
    let labels = labels.reshape(-1);
    let mut all = Vec::new();
    for (v, sources) in &movement.sources {
        let count = labels.size()[0];
        let places = sources - first;
        // What came from another input, such as a class token that is put in front of the patches.
        let foreign = places.lt(0).logical_or(&places.ge(count)).reshape(&graph.values[*v].shape);
        let mut own = labels.index_select(0, &places.clamp(0, count - 1)).reshape(&graph.values[*v].shape);
        let mut foreign = foreign;
        for d in 0..own.dim() as i64 {
            if let Some(one) = constant_along(&own, &foreign, d) {
                own = one;
                foreign = foreign.all_dim(d, true);
            }
        }
        all.push((*v, own.copy()));
    }
    Some(all)
}

/// The labels without dimension `d`, if those of each line along it are equal: all of them, or all that are not foreign
/// where every line has some.
fn constant_along(labels: &Tensor, foreign: &Tensor, d: i64) -> Option<Tensor> {
    if labels.size()[d as usize] == 0 {
        return None;
    }
    let one = labels.narrow(d, 0, 1);
    let none = |t: Tensor| t.any().int64_value(&[]) == 0;
    if none(labels.ne_tensor(&one)) {
        return Some(one);
    }
    let highest = labels.masked_fill(foreign, i64::MIN).amax(d, true);
    let lowest = labels.masked_fill(foreign, i64::MAX).amin(d, true);
    none(highest.ne_tensor(&lowest)).then_some(highest)
}
