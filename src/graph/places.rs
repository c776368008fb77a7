//! Which place of the image each element of a value lies at: followed from the input and from the feature maps.
//!
//! Tokens that are the patches of an image keep their places through layers, attentions and whatever moves them; so it is
//! known whether a row of tokens is a grid, and which, or is no picture at all.

use super::movement::Movement;
use super::{Graph, Operand, Origin, ValueId, layer, ops};
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// Places of the elements of a value.
#[derive(Debug)]
pub(super) struct Places {
    /// Row x `width` + column; -1 for what lies nowhere, such as a class token. Dimensions along which it does not differ
    /// have size 1.
    at: Tensor,
    /// Columns of the map that the places are counted on.
    width: i64,
}

/// How some dimensions of a value lie on the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lie {
    /// In row order, after `prefix` elements that lie nowhere.
    Grid { prefix: usize, height: usize, width: usize },
    /// Each place of a grid once, in another order: windows, flipped or rolled. `order` says for each place in row order
    /// which element lies there, the prefix not counted.
    Shuffled { prefix: usize, height: usize, width: usize, order: Vec<i64> },
    /// On the image, but not each place once.
    OutOfOrder,
    /// They count no places.
    Nowhere,
    /// Nothing is known.
    Unknown,
}

impl Places {
    /// The places of a map `[.., H, W]` or `[.., H, W, C]`; `row` is the dimension of its rows.
    fn of_map(shape: &[i64], row: usize) -> Self {
        let mut counting = vec![1; shape.len()];
        (counting[row], counting[row + 1]) = (shape[row], shape[row + 1]);
        let width = shape[row + 1];
        let at = Tensor::arange(shape[row] * width, (Kind::Int64, Device::Cpu)).reshape(&counting);
        Self { at, width }
    }

    /// The same without differences along dimension `d`: the first place in reading order.
    fn without(&self, d: usize) -> Self {
        Self { at: self.at.amin(d as i64, true), width: self.width }
    }

    /// Those of a map `[.., h, w]` that was computed from this one, `[.., H, W]`: each place that of the middle of what it
    /// was computed from.
    fn scaled(&self, source: &[i64], shape: &[i64]) -> Self {
        let mut at = self.at.amin([0i64, 1].as_slice(), true);
        for d in [2, 3] {
            let (from, to) = (source[d], shape[d]);
            if at.size()[d] > 1 && from != to {
                let middles: Vec<i64> = (0..to).map(|i| ((2 * i + 1) * from / (2 * to.max(1))).min(from - 1)).collect();
                at = at.index_select(d as i64, &Tensor::from_slice(&middles));
            }
        }
        Self { at, width: self.width }
    }

    fn copy(&self) -> Self {
        Self { at: self.at.shallow_clone(), width: self.width }
    }

    fn fits(&self, shape: &[i64]) -> bool {
        let own = self.at.size();
        own.len() == shape.len() && own.iter().zip(shape).all(|(a, b)| *a == 1 || a == b)
    }

    /// How dimensions `dims` of a value of this shape lie.
    pub fn lie(&self, shape: &[i64], dims: &[usize]) -> Lie {
        let mut at = self.at.shallow_clone();
        for d in (0..shape.len()).filter(|d| !dims.contains(d)) {
            at = at.amin(d as i64, true);
        }
        if at.numel() == 1 && dims.iter().any(|&d| shape[d] > 1) {
            return Lie::Nowhere;
        }
        let sizes: Vec<i64> = (0..shape.len()).map(|d| if dims.contains(&d) { shape[d] } else { 1 }).collect();
        let flat = at.f_expand(&sizes, false).map(|at| at.reshape(-1));
        let Some(places) = flat.ok().and_then(|flat| Vec::<i64>::try_from(flat).ok()) else { return Lie::Unknown };
        if let [a, b] = dims
            && let Some(lie) = self.map_in_order(&places, shape[*a] as usize, shape[*b] as usize)
        {
            return lie;
        }
        let prefix = places.iter().take_while(|p| **p < 0).count();
        let places = &places[prefix..];
        let distinct = |of: &dyn Fn(i64) -> i64| {
            let mut all: Vec<i64> = places.iter().map(|p| of(*p)).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let (rows, columns) = (distinct(&|p| p.div_euclid(self.width)), distinct(&|p| p.rem_euclid(self.width)));
        let in_order = rows.iter().flat_map(|row| columns.iter().map(move |column| row * self.width + column));
        let (height, width) = (rows.len(), columns.len());
        if in_order.clone().eq(places.iter().copied()) {
            return Lie::Grid { prefix, height, width };
        }
        let found: HashMap<i64, i64> = places.iter().zip(0..).map(|(place, i)| (*place, i)).collect();
        let order: Option<Vec<i64>> = in_order.map(|place| found.get(&place).copied()).collect();
        match order.filter(|order| order.len() == places.len()) {
            Some(order) => Lie::Shuffled { prefix, height, width, order },
            None => Lie::OutOfOrder,
        }
    }

    /// How the positions of a map lie if they are in order: rows under, and columns beside each other. Places may come
    /// several times, as after enlarging, or be padding.
    fn map_in_order(&self, places: &[i64], height: usize, width: usize) -> Option<Lie> {
        let known = || places.iter().enumerate().filter(|(_, p)| **p >= 0);
        let mut rows = vec![None; height];
        let mut columns = vec![None; width];
        for (i, place) in known() {
            rows[i / width].get_or_insert(place.div_euclid(self.width));
            columns[i % width].get_or_insert(place.rem_euclid(self.width));
        }
        let same = |(i, place): (usize, &i64)| {
            rows[i / width] == Some(place.div_euclid(self.width))
                && columns[i % width] == Some(place.rem_euclid(self.width))
        };
        let ascending = |line: &[Option<i64>]| line.iter().flatten().is_sorted();
        let in_order = known().all(same) && ascending(&rows) && ascending(&columns);
        in_order.then_some(Lie::Grid { prefix: 0, height, width })
    }
}

/// The places of the model's input, if it is an image.
pub(super) fn of_input(graph: &Graph, v: ValueId) -> Option<Places> {
    let value = &graph.values[v];
    if value.origin != Origin::Input {
        return None;
    }
    let is_colour = |n: i64| (1..=4).contains(&n);
    match value.shape.as_slice() {
        [_, c, _, last] if is_colour(*last) && !is_colour(*c) => Some(Places::of_map(&value.shape, 1)),
        [_, _, _, _] => Some(Places::of_map(&value.shape, 2)),
        _ => None,
    }
}

/// The places of an operator's outputs.
pub(super) fn made(
    graph: &Graph,
    index: usize,
    known: &[Option<Places>],
    movement: Option<&Movement>,
) -> Vec<(ValueId, Places)> {
    if let Some(movement) = movement {
        return moved(graph, movement, known);
    }
    let op = &graph.ops[index];
    let Some(&y) = op.outputs.first() else { return Vec::new() };
    let shape = graph.values[y].shape.as_slice();
    let rank = shape.len();
    let inputs: Vec<ValueId> = graph.flowing(index).collect();
    let Some((from, places)) = inputs.iter().find_map(|v| Some((*v, known[*v].as_ref()?))) else { return Vec::new() };
    let source = graph.values[from].shape.as_slice();
    let made = match op.name.as_str() {
        // Only the shape is taken.
        name if name.ends_with("_like") || name.starts_with("new_") => None,
        // What it was that lay there is not known any more.
        name if ops::picks(name) => {
            Some(Places { at: Tensor::zeros(vec![1; rank], (Kind::Int64, Device::Cpu)), width: 1 })
        }
        name if ops::is_product(name) && name != "conv" && name != "einsum" => {
            let from_left = layer::product_weight(graph, index).is_some()
                && layer::units(graph, index).is_some_and(|d| d + 2 == rank);
            let second = inputs.len() > 1 && inputs[0] != from;
            let summed = source.len().checked_sub(if from_left || second { 2 } else { 1 });
            summed.map(|d| places.without(d))
        }
        "scaled_dot_product_attention" | "lstm" | "gru" | "rnn_tanh" | "rnn_relu" => {
            (source.len() > 1).then(|| places.without(source.len() - 1))
        }
        "mean" | "sum" | "amax" | "amin" | "max" | "std" | "var" | "logsumexp" | "nansum" => {
            reduced(places, op, source.len(), rank)
        }
        // A window slides over a map: the result is a smaller or larger map of the same.
        "conv" if rank == 4 => Some(places.scaled(source, shape)),
        _ if source.len() == 4 && rank == 4 && source[2..] != shape[2..] => Some(places.scaled(source, shape)),
        _ => Some(places.copy()),
    };
    let fitting = |p: &Places| p.fits(shape);
    let first = made.filter(fitting).map(|p| (y, p));
    // Further results of the same form (the halves of a gate) lie as the first.
    let others = op.outputs.iter().skip(1).filter(|v| graph.values[**v].shape == shape);
    let copies: Vec<_> = first.iter().flat_map(|(_, p)| others.clone().map(|v| (*v, p.copy()))).collect();
    first.into_iter().chain(copies).collect()
}

/// What is left of places when an operator adds up, or picks from, some dimensions.
fn reduced(places: &Places, op: &super::Op, rank: usize, after: usize) -> Option<Places> {
    let dims: Vec<i64> = match op.inputs.get(1) {
        Some(Operand::Ints(dims)) => dims.clone(),
        Some(Operand::Int(d)) => vec![*d],
        _ => (0..rank as i64).collect(),
    };
    let mut dims: Vec<usize> = dims.iter().map(|d| d.rem_euclid(rank.max(1) as i64) as usize).collect();
    dims.sort_unstable();
    let mut at = dims.iter().fold(places.copy(), |p, d| p.without(*d));
    if after + dims.len() == rank {
        let squeezed = dims.iter().rev().fold(at.at, |at, d| at.squeeze_dim(*d as i64));
        at = Places { at: squeezed, width: places.width };
    }
    Some(at)
}

fn moved(graph: &Graph, movement: &Movement, known: &[Option<Places>]) -> Vec<(ValueId, Places)> {
    let Some(width) = movement.inputs.iter().find_map(|(v, _)| Some(known[*v].as_ref()?.width)) else {
        return Vec::new();
    };
    let total = 1 + movement.inputs.iter().map(|(v, _)| graph.values[*v].shape.iter().product::<i64>()).sum::<i64>();
    let table = Tensor::full([total], -1, (Kind::Int64, Device::Cpu));
    for (v, first) in &movement.inputs {
        // Places on maps of different widths say nothing of each other.
        let Some(places) = known[*v].as_ref().filter(|p| p.width == width) else { continue };
        let shape = &graph.values[*v].shape;
        table.narrow(0, *first, shape.iter().product()).copy_(&places.at.expand(shape, false).reshape(-1));
    }
    let made = movement.sources.iter().map(|(v, sources)| {
        let mut at = table.index_select(0, sources).reshape(&graph.values[*v].shape);
        for d in 0..at.dim() as i64 {
            let one = at.narrow(d, 0, 1);
            if at.size()[d as usize] > 1 && at.ne_tensor(&one).any().int64_value(&[]) == 0 {
                at = one;
            }
        }
        (*v, Places { at: at.copy(), width })
    });
    made.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_tokens_is_a_grid_only_in_reading_order() {
        let map = Places::of_map(&[1, 2, 2, 3], 2);
        let tokens = |order: &[i64]| {
            let at = map.at.reshape(-1).index_select(0, &Tensor::from_slice(order)).reshape([1, -1, 1]);
            Places { at, width: 3 }.lie(&[1, order.len() as i64, 5], &[1])
        };
        assert_eq!(tokens(&[0, 1, 2, 3, 4, 5]), Lie::Grid { prefix: 0, height: 2, width: 3 });
        assert_eq!(tokens(&[3, 4, 5]), Lie::Grid { prefix: 0, height: 1, width: 3 });
        let shuffled = |order: &[i64]| Lie::Shuffled { prefix: 0, height: 2, width: 3, order: order.to_vec() };
        assert_eq!(tokens(&[0, 1, 3, 4, 2, 5]), shuffled(&[0, 1, 4, 2, 3, 5]), "windows");
        assert_eq!(tokens(&[2, 1, 0, 5, 4, 3]), shuffled(&[2, 1, 0, 5, 4, 3]), "flipped");
        assert_eq!(tokens(&[0, 1, 2, 3, 4, 4]), Lie::OutOfOrder, "a place twice");
        assert_eq!(map.without(2).without(3).lie(&[1, 2, 5, 3], &[2]), Lie::Nowhere);
        assert_eq!(map.lie(&[1, 2, 2, 3], &[2, 3]), Lie::Grid { prefix: 0, height: 2, width: 3 });
        let enlarged = map.map_in_order(&[0, 0, 2, -1, -1, -1, 3, 3, 5], 3, 3);
        assert_eq!(enlarged, Some(Lie::Grid { prefix: 0, height: 3, width: 3 }));
        assert_eq!(map.map_in_order(&[2, 1, 0, 5, 4, 3], 2, 3), None, "flipped");
        assert_eq!(map.map_in_order(&[0, 1, 3, 4, 2, 5], 2, 3), None, "windows");
    }
}
