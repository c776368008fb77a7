//! The table of operator rules: how what leaves an operator's inputs, outputs and parameters goes together.
//!
//! A rule is a few lines: it ties places where the same channels are counted. To teach the analysis an operator, add its
//! canonical name (`graph::ops::canonical`) to the row of the rule that it follows, or write a rule and a row for it.
//! What is in no row is refused.

use super::{Coupling, Place};
use crate::Reason;
use crate::graph::movement::{Movement, shape_only};
use crate::graph::{Op, Operand, ValueId, ops};
use std::collections::BTreeSet;
use tch::Tensor;

mod norms;
mod products;

use norms::{batch_norm, group_norm, layer_norm};
use products::{attention, fused_attention, product};

type Rule = fn(&mut Coupling<'_>, usize);

#[rustfmt::skip]
const RULES: &[(Rule, &[&str])] = &[
    (elementwise, &[
        // of one tensor
        "relu", "relu6", "gelu", "silu", "mish", "tanh", "sigmoid", "hardswish", "hardsigmoid", "hardtanh",
        "leaky_relu", "elu", "celu", "selu", "softplus", "softsign", "softshrink", "hardshrink", "tanhshrink",
        "log_sigmoid", "rrelu", "threshold", "clamp", "clamp_min", "clamp_max", "abs", "neg", "exp", "expm1", "log",
        "log1p", "sqrt", "rsqrt", "square", "reciprocal", "sin", "cos", "erf", "sign", "floor", "ceil", "round",
        "dropout", "native_dropout", "feature_dropout", "alpha_dropout", "logical_not", "isnan", "nan_to_num",
        // of several
        "add", "sub", "rsub", "mul", "div", "pow", "maximum", "minimum", "where", "masked_fill", "addcmul", "addcdiv",
        "lerp", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "atan2", "remainder", "fmod", "copy",
        // copies
        "clone", "contiguous", "detach", "alias", "to", "to_copy", "zeros_like", "ones_like", "full_like", "fill",
        "zero", "rand_like", "randn_like", "empty_like", "lift_fresh", "requires_grad",
    ]),
    (copies_first, &["type_as"]),
    (constant, &[
        "zeros", "ones", "full", "arange", "eye", "empty", "scalar_tensor", "tensor", "new_zeros", "new_ones",
        "new_full", "linspace",
    ]),
    (convolution, &["conv"]),
    (product, &["linear", "bmm", "baddbmm"]),
    (attention, &["scaled_dot_product_attention"]),
    (fused_attention, &["native_multi_head_attention"]),
    (batch_norm, &["batch_norm", "instance_norm"]),
    (layer_norm, &["layer_norm"]),
    (group_norm, &["group_norm"]),
    (prelu, &["prelu"]),
    (gated_halves, &["glu"]),
    (per_map, &[
        "max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d",
        "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
        "adaptive_max_pool2d", "mkldnn_max_pool2d", "lp_pool2d", "upsample_nearest1d", "upsample_nearest2d",
        "upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d",
        "upsample_bilinear2d_aa", "upsample_bicubic2d_aa", "grid_sampler", "grid_sampler_2d",
    ]),
    (reduction, &[
        "mean", "sum", "amax", "amin", "max", "min", "argmax", "argmin", "var", "std", "var_mean", "std_mean", "norm",
        "linalg_vector_norm", "logsumexp", "prod", "any", "all", "median",
    ]),
    (over_one_dimension, &["softmax", "log_softmax", "cumsum", "cumprod", "softmin", "sort", "cosine_similarity"]),
    (movement, ops::MOVEMENTS),
];

/// Applies the rule of operator `op`.
pub(super) fn apply(c: &mut Coupling<'_>, op: usize) {
    let name = c.graph.ops[op].name.as_str();
    match RULES.iter().find(|(_, names)| names.contains(&name)) {
        Some((rule, _)) => rule(c, op),
        None => {
            let aten = &c.graph.ops[op].aten;
            c.refuse(
                Reason::UnknownOperator,
                format!("there is no rule for `{aten}`, which reads or makes its channels"),
            );
        }
    }
}

/// What can only be judged once the group is complete: every group of a grouped convolution must lose equally many.
pub(super) fn check(c: &mut Coupling<'_>) {
    for index in 0..c.graph.ops.len() {
        let op = &c.graph.ops[index];
        let (groups, Some([_, w, ..])) = (op.groups(), tensors(op).get(..2).map(|v| [v[0], v[1], 0])) else { continue };
        if op.name != "conv" || groups <= 1 {
            continue;
        }
        // The dimension of the weight that holds one block per group.
        let (Some(cut), blocks) = (c.of(w), c.graph.values[w].shape[0]) else { continue };
        if blocks == groups {
            let text = format!(
                "a depthwise convolution ({}) reads or makes it; its number of groups is in the model's code",
                c.name(w)
            );
            c.refuse(Reason::GroupedConvolution, text);
            continue;
        }
        let mut lost = vec![0; groups as usize];
        cut.axes[0].iter().for_each(|i| lost[(i * groups / blocks) as usize] += 1);
        if lost.windows(2).any(|w| w[0] != w[1]) {
            let text = format!(
                "the {groups} groups of the convolution {} would lose different numbers of channels",
                c.name(w)
            );
            c.refuse(Reason::GroupedConvolution, text);
        }
    }
}

/// The tensors that an operator reads, in order.
fn tensors(op: &Op) -> Vec<ValueId> {
    op.reads().collect()
}

impl Coupling<'_> {
    fn rank(&self, v: ValueId) -> usize {
        self.graph.values[v].shape.len()
    }

    /// Dimension `d` by itself.
    fn slab(&self, value: ValueId, d: usize) -> Place {
        Place { value, dimension: d, over: Vec::new() }
    }

    /// The channels of a feature map `[N, C, ...]`, whatever the position.
    fn map(&self, value: ValueId) -> Place {
        Place { value, dimension: 1, over: (2..self.rank(value)).collect() }
    }

    /// The channels of `[..., C]`, whatever the position.
    fn last(&self, value: ValueId) -> Place {
        let last = self.rank(value) - 1;
        let scattered = self.of(value).is_some_and(super::Cut::is_scattered);
        Place { value, dimension: last, over: if scattered { (0..last).collect() } else { Vec::new() } }
    }

    /// Dimensions other than the channels are untouched by what the operator does, or the cut is refused.
    fn only_channels(&mut self, value: ValueId, channel: usize) {
        let cut = self.of(value);
        let other = cut.is_some_and(|c| c.axes.iter().enumerate().any(|(d, a)| d > 0 && d != channel && !a.is_empty()));
        if other {
            let what = self.name(value);
            self.refuse(Reason::Layout, format!("positions instead of channels would leave {what}"));
        }
    }
}

/// All tensors have the same elements, up to broadcasting.
fn elementwise(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let all: Vec<ValueId> = tensors(op).into_iter().chain(op.outputs.iter().copied()).collect();
    broadcast(c, &all, op.outputs.first().copied());
}

fn copies_first(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let all: Vec<ValueId> = op.reads().take(1).chain(op.outputs.iter().copied()).collect();
    broadcast(c, &all, op.outputs.first().copied());
}

fn broadcast(c: &mut Coupling<'_>, values: &[ValueId], output: Option<ValueId>) {
    let Some(output) = output else { return };
    let rank = c.rank(output);
    let fits = |c: &Coupling<'_>, v: ValueId| c.rank(v) <= rank;
    let values: Vec<ValueId> = values.iter().copied().filter(|v| fits(c, *v)).collect();
    if !values.iter().any(|v| c.of(*v).is_some_and(super::Cut::is_scattered)) {
        for d in 0..rank {
            let size = c.graph.values[output].shape[d];
            let places: Vec<Place> = values
                .iter()
                .filter_map(|v| Some((*v, (d + c.rank(*v)).checked_sub(rank)?)))
                .filter(|(v, own)| c.graph.values[*v].shape[*own] == size)
                .map(|(v, own)| c.slab(v, own))
                .collect();
            c.tie(&places);
        }
        return;
    }
    let shape = c.graph.values[output].shape.clone();
    let mut full: Option<Tensor> = None;
    for v in &values {
        if let Some(cut) = c.of(*v) {
            let own = cut.full().expand(&shape, false);
            full = Some(full.map_or_else(|| own.shallow_clone(), |f| f.logical_or(&own)));
        }
    }
    let Some(full) = full else { return };
    for v in values {
        let own = c.graph.values[v].shape.clone();
        let lead = rank - own.len();
        let over: Vec<i64> = (0..rank).filter(|d| *d < lead || own[d - lead] != shape[*d]).map(|d| d as i64).collect();
        let reduced = if over.is_empty() { full.shallow_clone() } else { full.all_dims(over, true) };
        c.cut_elements(v, &reduced.reshape(&own));
    }
}

/// Made from nothing: its size stands in the model's code.
fn constant(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    c.relies_on.insert(format!("`{}` that makes {:?}", op.aten, op.outputs.first().map(|v| &c.graph.values[*v].shape)));
}

/// x `[N, I, ...]`, weight `[O, I / groups, ...]`, or `[I, O / groups, ...]` when transposed, y `[N, O, ...]`.
fn convolution(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let (inputs, Some(&y)) = (tensors(op), op.outputs.first()) else { return };
    let [x, w, ..] = inputs[..] else { return };
    c.only_channels(x, 1);
    c.only_channels(y, 1);
    let (groups, transposed) = (op.groups(), op.is_transposed_convolution());
    // The side whose channels are rows of the weight, each its own; the other side is counted within a group.
    let (rows, within) = if transposed { (x, y) } else { (y, x) };
    let mut own = vec![c.map(rows), c.slab(w, 0)];
    let bias = inputs.get(2).map(|b| c.slab(*b, 0));
    if !transposed {
        own.extend(bias.clone());
    }
    c.tie(&own);
    if groups == 1 {
        let mut places = vec![c.map(within), c.slab(w, 1)];
        if transposed {
            places.extend(bias);
        }
        c.tie(&places);
        return;
    }
    // Channel g * size + p of every group g reads entry p of the weight.
    let size = c.graph.values[w].shape[1];
    if size == 1 {
        // Depthwise: channel g belongs to the block of rows g.
        let block = c.graph.values[w].shape[0] / groups;
        let mut of_group: BTreeSet<i64> = c.touched(&c.map(within));
        of_group.extend(c.touched(&c.slab(w, 0)).iter().map(|r| r / block));
        c.cut(within, 1, &of_group);
        let rows: BTreeSet<i64> = of_group.iter().flat_map(|g| g * block..(g + 1) * block).collect();
        c.cut(w, 0, &rows);
        return;
    }
    let mut entries: BTreeSet<i64> = c.touched(&c.slab(w, 1));
    entries.extend(c.touched(&c.map(within)).iter().map(|i| i % size));
    if let (true, Some(bias)) = (transposed, &bias) {
        entries.extend(c.touched(bias).iter().map(|i| i % size));
    }
    c.cut(w, 1, &entries);
    let channels: BTreeSet<i64> = entries.iter().flat_map(|p| (0..groups).map(move |g| g * size + p)).collect();
    c.cut(within, 1, &channels);
    if let (true, Some(bias)) = (transposed, bias) {
        c.cut(bias.value, 0, &channels);
    }
}

/// One slope per channel, or one for all.
fn prelu(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let (inputs, Some(&y)) = (tensors(op), op.outputs.first()) else { return };
    let [x, slopes, ..] = inputs[..] else { return };
    broadcast(c, &[x, y], Some(y));
    if c.rank(slopes) == 1 && c.graph.values[slopes].shape[0] > 1 && c.rank(x) > 1 {
        c.tie(&[c.map(x), c.slab(slopes, 0)]);
    } else if c.rank(slopes) > 1 {
        broadcast(c, &[slopes, y], Some(y));
    }
}

/// `glu`: the first half of the channels times the sigmoid of the second.
fn gated_halves(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let (Some(x), Some(&y)) = (op.reads().next(), op.outputs.first()) else { return };
    let d = dimension(op, c.rank(x)).unwrap_or(c.rank(x) - 1);
    let half = c.graph.values[y].shape[d];
    let mut gone: BTreeSet<i64> = c.touched(&c.slab(x, d)).iter().map(|i| i % half).collect();
    gone.extend(c.touched(&c.slab(y, d)));
    c.cut(y, d, &gone);
    c.cut(x, d, &gone.iter().flat_map(|i| [*i, i + half]).collect());
    for other in (0..c.rank(x)).filter(|o| *o != d) {
        c.tie(&[c.slab(x, other), c.slab(y, other)]);
    }
}

/// Pooling and resizing: every channel by itself.
fn per_map(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let Some(x) = op.reads().next() else { return };
    let mut places = vec![c.map(x)];
    places.extend(op.outputs.iter().map(|y| c.map(*y)));
    c.only_channels(x, 1);
    c.tie(&places);
}

/// Sums, means, maxima, norms over some dimensions: channels that are summed over cannot leave.
fn reduction(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let Some(x) = op.reads().next() else { return };
    let rank = c.rank(x);
    let positive = |d: &i64| d.rem_euclid(rank.max(1) as i64) as usize;
    let several = op
        .inputs
        .iter()
        .find_map(|o| if let Operand::Ints(d) = o { Some(d.iter().map(positive).collect()) } else { None });
    let reduced: Vec<usize> = match several {
        Some(dims) if !Vec::is_empty(&dims) => dims,
        // max(x, dim) and its kin; mean(x) and its kin
        _ if op.overload.contains("dim") => dimension(op, rank).into_iter().collect(),
        _ => (0..rank).collect(),
    };
    if op.reads().count() > 1 {
        return elementwise(c, index); // max(a, b)
    }
    let Some(cut) = c.of(x) else { return back(c, index, x, &reduced) };
    if reduced.iter().any(|d| !cut.axes[*d].is_empty()) {
        c.refuse(Reason::MixesChannels, format!("`{}` runs over the channels", op.aten));
    }
    back(c, index, x, &reduced);
}

/// Ties the dimensions that a reduction leaves alone.
fn back(c: &mut Coupling<'_>, index: usize, x: ValueId, reduced: &[usize]) {
    let rank = c.rank(x);
    let left: Vec<usize> = (0..rank).filter(|d| !reduced.contains(d)).collect();
    for y in c.graph.ops[index].outputs.clone() {
        let keeps = c.rank(y) == rank;
        for (position, &d) in left.iter().enumerate() {
            let place = Place { value: x, dimension: d, over: reduced.to_vec() };
            // What is refused above need not take everything with it.
            let place = if c.of(x).is_some_and(super::Cut::is_scattered) { place } else { c.slab(x, d) };
            c.tie(&[place, c.slab(y, if keeps { d } else { position })]);
        }
    }
}

/// `softmax` and what else runs along one dimension and keeps the shape.
fn over_one_dimension(c: &mut Coupling<'_>, index: usize) {
    let op = &c.graph.ops[index];
    let Some(x) = op.reads().next() else { return };
    elementwise(c, index);
    let d = dimension(op, c.rank(x)).unwrap_or(0);
    if c.of(x).is_some_and(|cut| !cut.axes[d].is_empty()) {
        c.refuse(Reason::MixesChannels, format!("`{}` runs over the channels", op.aten));
    }
}

/// The first integer of an operator's arguments as a dimension.
fn dimension(op: &Op, rank: usize) -> Option<usize> {
    let d = op.inputs.iter().find_map(|o| if let Operand::Int(d) = o { Some(*d) } else { None })?;
    Some(d.rem_euclid(rank.max(1) as i64) as usize)
}

/// Elements only move: followed one by one.
fn movement(c: &mut Coupling<'_>, index: usize) {
    let graph = c.graph;
    let op = &graph.ops[index];
    for like in shape_only(op) {
        if let Some(&y) = op.outputs.first() {
            broadcast(c, &[like, y], Some(y));
        }
    }
    let known = c.movements.remove(&index).unwrap_or_else(|| Movement::of(graph, op));
    let Some(movement) = known else {
        c.movements.insert(index, None);
        return c.refuse(Reason::UnknownOperator, format!("`{}` could not be followed element by element", op.aten));
    };
    let leaving = movement.leaving(|v| c.of(v).map(super::Cut::full));
    for (v, first) in &movement.inputs {
        let shape = &graph.values[*v].shape;
        c.cut_elements(*v, &leaving.narrow(0, *first, shape.iter().product()).reshape(shape));
    }
    for (v, sources) in &movement.sources {
        c.cut_elements(*v, &leaving.index_select(0, sources).reshape(&graph.values[*v].shape));
    }
    c.movements.insert(index, Some(movement));
}
