//! Products of matrices: layers, and attentions, whose heads are stacks of matrices.

use super::{broadcast, tensors};
use crate::Reason;
use crate::edit::coupling::{Coupling, Place};
use crate::graph::{Operand, ValueId};
use std::collections::BTreeSet;
use tch::Tensor;

/// Matrix products: `[..., I, K] x [..., K, J]`; `linear` and its kin with a bias.
pub(super) fn product(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let (inputs, Some(&y)) = (tensors(op), op.outputs.first()) else { return };
    let aten = op.aten.trim_start_matches("aten::").trim_matches('_');
    let (x, w, bias, transposed) = match (aten, &inputs[..]) {
        ("linear", [x, w, rest @ ..]) => (*x, *w, rest.first(), true),
        ("addmm" | "baddbmm", [b, x, w, ..]) => (*x, *w, Some(b), false),
        (_, [x, w, ..]) => (*x, *w, None, false),
        _ => return,
    };
    if let Some(&bias) = bias {
        broadcast(c, &[bias, y], Some(y));
    }
    let (rx, rw) = (c.rank(x), c.rank(w));
    if rx == 0 || rw == 0 {
        return;
    }
    if rw <= 2 {
        let (inner, outer) = if transposed { (rw - 1, 0) } else { (0, rw - 1) };
        c.tie(&[c.last(x), c.slab(w, inner)]);
        if rw == 2 {
            c.tie(&[c.last(y), c.slab(w, outer)]);
        }
        for d in 0..rx - 1 {
            c.tie(&[c.slab(x, d), c.slab(y, d)]);
        }
        return;
    }
    if rx < 2 {
        let aten = op.aten.clone();
        return c.refuse(
            Reason::UnknownOperator,
            format!("there is no rule for `{aten}` of a vector and a stack of matrices"),
        );
    }
    contract(c, (x, rx - 1), (w, rw - 2));
    contract(c, (x, rx - 2), (y, c.rank(y) - 2));
    contract(c, (w, rw - 1), (y, c.rank(y) - 1));
}

/// q `[..., N, E]`, k `[..., M, E]`, v `[..., M, F]`, y `[..., N, F]`.
pub(super) fn attention(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let (inputs, Some(&y)) = (tensors(op), op.outputs.first()) else { return };
    let [q, k, v, ..] = inputs[..] else { return };
    let width = |c: &Coupling<'_>, v: ValueId| c.rank(v) - 1;
    contract(c, (q, width(c, q)), (k, width(c, k)));
    contract(c, (v, width(c, v)), (y, width(c, y)));
    let scaled_by_code = matches!(op.inputs.get(6), Some(Operand::Float(_)));
    let narrower = |c: &Coupling<'_>, v: ValueId| c.of(v).is_some_and(|cut| !cut.axes[c.rank(v) - 1].is_empty());
    if narrower(c, q) && !scaled_by_code {
        c.refuse(Reason::MixesChannels, "the default scale of the attention follows the width of its heads");
    }
}

/// Everything in one operator that is given its width by the model's code.
pub(super) fn fused_attention(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let (inputs, Some(&y)) = (tensors(op), op.outputs.first()) else { return };
    let mut places: Vec<Place> = inputs.iter().take(3).chain([&y]).map(|v| c.last(*v)).collect();
    if let [_, _, _, qkv, _, projection, bias, ..] = inputs[..] {
        places.extend([c.slab(qkv, 1), c.slab(projection, 0), c.slab(bias, 0)]);
    }
    c.tie(&places);
    c.refuse(Reason::Code, format!("`{}` is given its width by the model's code", op.aten));
}

/// The last two dimensions are a matrix, the others count matrices: ties row or column `i` of one value to row or column
/// `i` of another, matrix by matrix.
fn contract(c: &mut Coupling<'_>, (a, da): (ValueId, usize), (b, db): (ValueId, usize)) {
    let simple = |c: &Coupling<'_>, v: ValueId| {
        let matrix = c.rank(v) - 2;
        c.of(v).is_none_or(|cut| !cut.is_scattered() && cut.axes[..matrix].iter().all(BTreeSet::is_empty))
    };
    if simple(c, a) && simple(c, b) {
        return c.tie(&[c.slab(a, da), c.slab(b, db)]);
    }
    let no_answer = "a product of stacks of matrices broadcasts one of them";
    let joint = match (lines(c, a, da), lines(c, b, db)) {
        (Some(la), Some(lb)) if la.size() == lb.size() => la.logical_or(&lb),
        (Some(_), Some(_)) => return c.refuse(Reason::Broadcast, no_answer),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return,
    };
    for (v, d) in [(a, da), (b, db)] {
        let shape = c.graph.values[v].shape.clone();
        let other = 2 * shape.len() as i64 - 3 - d as i64;
        let fits = joint.dim() + 1 == shape.len();
        let Some(elements) = fits.then(|| joint.unsqueeze(other).f_expand(&shape, false).ok()).flatten() else {
            return c.refuse(Reason::Broadcast, no_answer);
        };
        c.cut_elements(v, &elements.contiguous());
    }
}

/// Per matrix the indices of dimension `d` at which everything leaves, `[..., n]`. Where a whole matrix leaves (a head), its
/// lines count only along the dimension that counts its channels.
fn lines(c: &Coupling<'_>, v: ValueId, d: usize) -> Option<Tensor> {
    let full = c.of(v)?.full();
    let other = 2 * full.dim() as i64 - 3 - d as i64;
    let lines = full.all_dims(vec![other], false);
    if c.graph.matrix_dimension(v) == Some(d) {
        return Some(lines);
    }
    let whole = lines.all_dims(vec![-1], true);
    Some(lines.logical_and(&whole.logical_not()))
}
