//! Normalisations: channel by channel, or over channels, which then cannot leave.

use super::tensors;
use crate::Reason;
use crate::edit::coupling::Coupling;
use crate::graph::Operand;

/// x and y `[N, C, ...]`, everything else `[C]`.
pub(super) fn batch_norm(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let (inputs, Some(&y)) = (tensors(op), op.outputs.first()) else { return };
    let Some((&x, vectors)) = inputs.split_first() else { return };
    let mut places = vec![c.map(x), c.map(y)];
    places.extend(vectors.iter().filter(|v| c.rank(**v) == 1).map(|v| c.slab(*v, 0)));
    c.only_channels(x, 1);
    c.tie(&places);
}

/// Statistics over the last dimensions: never exact when one of those loses entries.
pub(super) fn layer_norm(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let (inputs, Some(&y)) = (tensors(op), op.outputs.first()) else { return };
    let Some((&x, affine)) = inputs.split_first() else { return };
    let normalised = op.inputs.iter().find_map(|o| if let Operand::Ints(s) = o { Some(s.len()) } else { None });
    let first = c.rank(x).saturating_sub(normalised.unwrap_or(1));
    for d in 0..c.rank(x) {
        let mut places = vec![c.slab(x, d), c.slab(y, d)];
        places.extend(affine.iter().filter(|_| d >= first).map(|v| c.slab(*v, d - first)));
        c.tie(&places);
        if d >= first && !c.touched(&c.slab(x, d)).is_empty() {
            c.refuse(Reason::NormOverChannels, "a layer norm takes its mean and variance over the channels");
        }
    }
}

/// Statistics over the channels of a group: exact only where whole groups leave and the model's code counts them anew.
pub(super) fn group_norm(c: &mut Coupling<'_>, index: usize) {
    batch_norm(c, index);
    let op = &c.graph.ops[index];
    let Some(x) = op.reads().next() else { return };
    let gone = c.touched(&c.map(x));
    let groups = op.inputs.iter().find_map(|o| if let Operand::Int(g) = o { Some(*g) } else { None }).unwrap_or(1);
    let channels = c.graph.values[x].shape.get(1).copied().unwrap_or(1);
    let size = (channels / groups.max(1)).max(1);
    if gone.is_empty() {
        return;
    }
    let whole = gone.iter().all(|i| (i / size * size..(i / size + 1) * size).all(|j| gone.contains(&j)));
    if whole {
        c.relies_on.insert(format!("the number of groups of `{}` ({groups})", op.aten));
    } else {
        c.refuse(Reason::NormOverChannels, format!("a group norm takes its mean and variance over {size} channels"));
    }
}
